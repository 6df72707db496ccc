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

// anyName is the part of a path that every name fits.
const anyName = "*"

// ParseFields reads names and paths, see the package's comment. A path with an empty part is an error.
func ParseFields(list []string) (Fields, error) {
	f := Fields{names: map[string]bool{}}
	for _, text := range list {
		parts := strings.Split(text, ".")
		switch {
		case slices.Contains(parts, ""):
			return Fields{}, fmt.Errorf("%q is neither a name nor a path like customer.card.number", text)
		case len(parts) == 1:
			f.names[text] = true
		default:
			f.paths = append(f.paths, parts)
		}
	}
	return f, nil
}

// Empty tells whether there are none.
func (f Fields) Empty() bool { return len(f.names)+len(f.paths) == 0 }

// step takes the paths that lead through a member of that name one part further. match tells whether the member itself is meant.
func (f Fields) step(paths [][]string, name string) (below [][]string, match bool) {
	match = f.names[name] || f.names[anyName]
	for _, p := range paths {
		switch {
		case p[0] != name && p[0] != anyName:
		case len(p) == 1:
			match = true
		default:
			below = append(below, p[1:])
		}
	}
	return below, match
}
