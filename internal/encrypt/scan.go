package encrypt

import (
	"bytes"

	"github.com/tidwall/gjson"
)

// scan goes through a valid JSON text once, from left to right, and calls visit at the start of each value: with where it begins, how many
// objects and arrays it stands in, and its name in quotes, which is nil for an element and for the outermost value. When visit takes
// the value, scan goes on behind it; visit is not called for what is in it.
//
// It keeps no stack but one bit for each object and array that is open, and looks at no byte twice: the text may be nested as deeply as it likes.
func scan(text []byte, visit func(at, depth int, name []byte) (taken bool)) {
	var objects []bool // whether what is open is an object
	var name []byte
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == '}' || c == ']':
			objects = objects[:len(objects)-1]
			i++
		case c <= ' ' || c == ',' || c == ':':
			i++
		case c == '"' && name == nil && len(objects) > 0 && objects[len(objects)-1]:
			end := valueEnd(text, i)
			name = text[i:end]
			i = end
		default:
			taken := visit(i, len(objects), name)
			name = nil
			if !taken && (c == '{' || c == '[') {
				objects = append(objects, c == '{')
				i++
			} else {
				i = valueEnd(text, i)
			}
		}
	}
}

// valueEnd returns where the value that begins at i ends, in a valid JSON text.
func valueEnd(text []byte, i int) int {
	depth := 0
	for ; i < len(text); i++ {
		switch text[i] {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case '"':
			i = stringEnd(text, i) - 1
		default:
			if depth > 0 {
				continue
			}
			return scalarEnd(text, i)
		}
		if depth == 0 {
			return i + 1
		}
	}
	return i
}

// stringEnd returns where the string that begins at i ends.
func stringEnd(text []byte, i int) int {
	for i++; ; i++ {
		i += bytes.IndexByte(text[i:], '"')
		escapes := 0
		for text[i-1-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return i + 1
		}
	}
}

// scalarEnd returns where the number, true, false or null that begins at i ends.
func scalarEnd(text []byte, i int) int {
	if n := bytes.IndexAny(text[i:], ",]} \t\r\n"); n >= 0 {
		return i + n
	}
	return len(text)
}

// plain returns what a JSON string in quotes says.
func plain(quoted []byte) []byte {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return quoted[1 : len(quoted)-1]
	}
	return []byte(gjson.ParseBytes(quoted).Str)
}
