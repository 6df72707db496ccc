package outbox

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
)

// The id of an event is a text: as the log carried it, or as it is parked. The column can have got another type since then, of which that text is no value, as when
// numbers become UUIDs. The server refuses a whole statement for one such cast, so none is made of them: no row has such an id.

// Texts that are values of a type, in the syntax of PostgreSQL and Go. Other ways to write a value, such as a UUID in braces, are none of the log's.
const (
	uuidPattern    = `^[0-9A-Fa-f]{4}(-?[0-9A-Fa-f]{4}){7}$`
	wholePattern   = `^-?[0-9]{1,19}$`
	numericPattern = `^-?[0-9]+([.][0-9]+)?$`
)

var numeric = regexp.MustCompile(numericPattern)

// castID is the text x as a value of the id's type; NULL, which no row equals, where it is none.
func (t *Table) castID(x string) string {
	is := ""
	switch t.id.typeName() {
	case "pg_catalog.uuid":
		is = fits(x, uuidPattern)
	case "pg_catalog.numeric":
		is = fits(x, numericPattern)
	case "pg_catalog.int2":
		is = isWhole(x, math.MinInt16, math.MaxInt16)
	case "pg_catalog.int4":
		is = isWhole(x, math.MinInt32, math.MaxInt32)
	case "pg_catalog.int8":
		is = isWhole(x, math.MinInt64, math.MaxInt64)
	}
	if is != "" {
		x = `(CASE WHEN ` + is + ` THEN ` + x + ` END)`
	}
	return x + `::` + t.id.elements
}

func fits(x, pattern string) string { return x + ` ~ '` + pattern + `'` }

// isWhole is the condition that x is a whole number of the range. A CASE, unlike AND, makes the cast only behind the match.
func isWhole(x string, least, most int64) string {
	return fmt.Sprintf(`CASE WHEN %s THEN %s::numeric BETWEEN %d AND %d END`, fits(x, wholePattern), x, least, most)
}

// isID tells of the id's type whether a text is one of its values, as castID does.
func (t *Table) isID() func(text []byte) bool {
	switch t.id.typeName() {
	case "pg_catalog.uuid":
		return isUUID
	case "pg_catalog.numeric":
		return numeric.Match
	case "pg_catalog.int2":
		return isInt(16)
	case "pg_catalog.int4":
		return isInt(32)
	case "pg_catalog.int8":
		return isInt(64)
	}
	return func([]byte) bool { return true }
}

func isInt(bits int) func([]byte) bool {
	return func(text []byte) bool {
		_, err := strconv.ParseInt(string(text), 10, bits)
		return err == nil
	}
}

// isUUID is uuidPattern by hand, as it looks at every event.
func isUUID(text []byte) bool {
	digits := 0
	for i, c := range text {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'f', c >= 'A' && c <= 'F':
			digits++
		case c != '-' || digits == 0 || digits%4 != 0 || digits >= 32 || text[i-1] == '-':
			return false
		}
	}
	return digits == 32
}
