package encrypt

import (
	"fmt"
	"slices"
	"strings"
)

// Fields says which members of a payload are encrypted.
type Fields struct {
	names map[string]bool
	paths [][]string
}

// anyName is the part of a path that every name fits, and every element.
const anyName = "*"

// ParseFields reads names and paths, see the package's comment. What would match nothing is an error: an empty part, an index.
func ParseFields(list []string) (Fields, error) {
	f := Fields{names: map[string]bool{}}
	for _, text := range list {
		parts := strings.Split(strings.ReplaceAll(text, "/", "."), ".")
		if strings.HasPrefix(text, "/") {
			parts = parts[1:] // as a JSON pointer is written
		}
		for i := range parts {
			parts[i] = strings.TrimSuffix(parts[i], "[]") // arrays are looked through anyway
		}
		switch {
		case slices.Contains(parts, "") || strings.ContainsAny(strings.Join(parts, ""), "[]"):
			return Fields{}, fmt.Errorf("%q is neither a name nor a path like customer.card.number or items[].secret", text)
		case len(parts) == 1 && parts[0] != anyName && !strings.HasPrefix(text, "/"):
			f.names[parts[0]] = true
		default:
			f.paths = append(f.paths, parts)
		}
	}
	return f, nil
}

// Empty tells whether there are none.
func (f Fields) Empty() bool { return len(f.names)+len(f.paths) == 0 }

// step takes the paths one value further: through a member with its name in quotes, or an element without a name. match tells whether the value
// itself is meant.
func (f Fields) step(paths [][]string, name []byte) (below [][]string, match bool) {
	if name == nil {
		return stepElement(paths)
	}
	name = plain(name)
	match = f.names[string(name)]
	for _, p := range paths {
		switch {
		case p[0] != anyName && p[0] != string(name):
		case len(p) == 1:
			match = true
		default:
			below = append(below, p[1:])
		}
	}
	return below, match
}

// stepElement looks through an array: each element stands in its place. A * may also be the element itself. However deep arrays are nested, a
// rest of a path is in below once.
func stepElement(paths [][]string) (below [][]string, match bool) {
	below = paths
	for _, p := range paths {
		switch {
		case p[0] != anyName:
		case len(p) == 1:
			match = true
		case !slices.ContainsFunc(below, func(q []string) bool { return &q[0] == &p[1] }):
			below = append(slices.Clip(below), p[1:])
		}
	}
	return below, match
}
