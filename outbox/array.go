package outbox

// appendArray appends the text form of a one-dimensional array. Every element is quoted, so that what it says ("NULL", commas, braces)
// means nothing; a nil element is NULL, which no row equals.
// Source: https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
func appendArray(b []byte, elements [][]byte) []byte {
	b = append(b, '{')
	for i, e := range elements {
		if i > 0 {
			b = append(b, ',')
		}
		if e == nil {
			b = append(b, "NULL"...)
			continue
		}
		b = append(b, '"')
		for _, c := range e {
			if c == '"' || c == '\\' {
				b = append(b, '\\')
			}
			b = append(b, c)
		}
		b = append(b, '"')
	}
	return append(b, '}')
}
