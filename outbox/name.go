package outbox

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// ParseName reads the name of a table as PostgreSQL does: parts separated by a dot, lower-cased unless in double quotes, in which
// a doubled quote stands for one. A name without a schema is in "public".
func ParseName(name string) (schema, table string, err error) {
	var parts []string
	rest := name
	for {
		part, after, err := cutPart(rest)
		if err != nil {
			return "", "", fmt.Errorf("parse table name %q: %w", name, err)
		}
		parts = append(parts, part)
		if after == "" {
			break
		}
		rest = after[1:]
	}
	switch len(parts) {
	case 1:
		return "public", parts[0], nil
	case 2:
		return parts[0], parts[1], nil
	}
	return "", "", fmt.Errorf("parse table name %q: want SCHEMA.TABLE", name)
}

// cutPart takes the first identifier off s. What is left is empty or begins with a dot.
func cutPart(s string) (part, rest string, err error) {
	if !strings.HasPrefix(s, `"`) {
		part, rest = s, ""
		if i := strings.IndexByte(s, '.'); i >= 0 {
			part, rest = s[:i], s[i:]
		}
		if part == "" || strings.ContainsAny(part, "\" \t\n") {
			return "", "", fmt.Errorf("%q is not a name: put it in double quotes", part)
		}
		return strings.ToLower(part), rest, nil
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] != '"':
			b.WriteByte(s[i])
		case i+1 < len(s) && s[i+1] == '"':
			b.WriteByte('"')
			i++
		case b.Len() == 0 || i+1 < len(s) && s[i+1] != '.':
			return "", "", errors.New("misplaced double quote")
		default:
			return b.String(), s[i+1:], nil
		}
	}
	return "", "", errors.New("double quote without its end")
}

// quoted returns the table's name as SQL takes it.
func (c Config) quoted() string { return pgx.Identifier{c.Schema, c.Table}.Sanitize() }

func quote(column string) string { return pgx.Identifier{column}.Sanitize() }
