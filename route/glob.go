package route

import (
	"strings"
	"unicode/utf8"
)

// glob is a pattern: "*" stands for any run of characters, also none, "?" for one character.
type glob string

// newGlob returns the pattern in its shortest form.
func newGlob(pattern string) glob {
	if pattern == "" {
		pattern = "*"
	}
	for strings.Contains(pattern, "**") {
		pattern = strings.ReplaceAll(pattern, "**", "*")
	}
	return glob(pattern)
}

// match tells whether the pattern stands for all of s. It goes back to the last star only, which is enough: what
// a star before that could take instead, the last one can take as well.
func (g glob) match(s []byte) bool {
	if g == "*" {
		return true
	}
	pattern, star, retry := 0, -1, 0
	for at := 0; at < len(s); {
		width := 1
		switch {
		case pattern < len(g) && g[pattern] == '*':
			star, retry = pattern, at
			pattern++
			continue
		case pattern < len(g) && g[pattern] == '?':
			_, width = utf8.DecodeRune(s[at:])
			pattern++
		case pattern < len(g) && g[pattern] == s[at]:
			pattern++
		case star >= 0:
			_, skipped := utf8.DecodeRune(s[retry:])
			retry += skipped
			pattern, at, width = star+1, retry, 0
		default:
			return false
		}
		at += width
	}
	for pattern < len(g) && g[pattern] == '*' {
		pattern++
	}
	return pattern == len(g)
}

// covers tells whether the first pair of globs matches whatever the second matches, as far as that is plain: they are alike or
// match everything.
func covers(earlier, later Match) bool {
	return coversGlob(newGlob(earlier.Tenant), newGlob(later.Tenant)) && coversGlob(newGlob(earlier.Topic), newGlob(later.Topic))
}

func coversGlob(earlier, later glob) bool { return earlier == "*" || earlier == later }
