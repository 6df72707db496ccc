package shard

import (
	"regexp"
	"slices"
	"strings"
)

// SameFilter tells whether a row filter, as the server prints it with standard_conforming_strings, is the condition that [Shard.Rows] has made. The
// server adds casts, parentheses and line breaks, quotes other names and puts numbers in quotes. What texts hold is compared exactly.
func SameFilter(printed, rows string) bool { return slices.Equal(pieces(printed), pieces(rows)) }

// piece matches, in this order: a text with escapes, one without, a quoted name, a cast, a word or number, any other sign that matters.
var piece = regexp.MustCompile(`E'(?:[^'\\]|\\\\|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|` +
	`::(?:"[^"]*"|[a-z0-9_ ]+)(?:\([0-9,]+\)[a-z ]*)?|\w+|[^\s()]`)

var number = regexp.MustCompile(`^'-?[0-9]+$`)

// pieces takes a condition apart, without casts and parentheses. A text keeps the mark before it, unless it is a number.
func pieces(sql string) []string {
	var all []string
	for _, p := range piece.FindAllString(sql, -1) {
		switch {
		case strings.HasPrefix(p, "::"):
			continue
		case strings.HasPrefix(p, "E'"):
			p = strings.ReplaceAll(text(p[1:]), `\\`, `\`)
		case p[0] == '\'':
			p = text(p)
		case p[0] == '"':
			p = strings.ReplaceAll(p[1:len(p)-1], `""`, `"`)
		}
		all = append(all, p)
	}
	return all
}

func text(literal string) string {
	value := "'" + strings.ReplaceAll(literal[1:len(literal)-1], "''", "'")
	if number.MatchString(value) {
		return value[1:]
	}
	return value
}
