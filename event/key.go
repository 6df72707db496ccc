package event

// AppendKey appends the text form of e's key to b. The key is what order is kept for: events of one key reach
// a destination in commit order. Brokers get it as the message key.
//
// The text form is tenant, aggregate type and aggregate id with a slash between; a slash or percent sign
// inside a part is written %2F or %25, so two keys never share a text. An event without an aggregate id is a
// key of its own: "tenant/#id".
func (e *Event) AppendKey(b []byte) []byte {
	b = appendPart(b, e.TenantID)
	b = append(b, '/')
	if e.AggregateID == nil {
		b = append(b, '#')
		return appendPart(b, e.ID)
	}
	b = appendPart(b, e.AggregateType)
	b = append(b, '/')
	return appendPart(b, e.AggregateID)
}

func appendPart(b, part []byte) []byte {
	for _, c := range part {
		switch c {
		case '/':
			b = append(b, "%2F"...)
		case '%':
			b = append(b, "%25"...)
		default:
			b = append(b, c)
		}
	}
	return b
}
