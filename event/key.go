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

// HashKey returns the 64-bit FNV-1a hash of a key's text form. It is stored, so it never changes. Two keys that share a hash wait
// for each other, which costs time and breaks no promise.
func HashKey(key []byte) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	for _, c := range key {
		h = (h ^ uint64(c)) * prime
	}
	return h
}
