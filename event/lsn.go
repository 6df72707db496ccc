package event

import (
	"fmt"
	"strconv"
	"strings"
)

// LSN is a position in the write-ahead log, in bytes from its beginning.
// Its text form is PostgreSQL's own, two hexadecimal halves: "0/16B3748".
// Source: https://www.postgresql.org/docs/current/datatype-pg-lsn.html
type LSN uint64

// ParseLSN reads the text form of a pg_lsn.
func ParseLSN(s string) (LSN, error) {
	high, low, ok := strings.Cut(s, "/")
	if !ok {
		return 0, fmt.Errorf("parse LSN %q: want two hexadecimal numbers with a slash between", s)
	}
	h, err := strconv.ParseUint(high, 16, 32)
	if err != nil {
		return 0, fmt.Errorf("parse LSN %q: %w", s, err)
	}
	l, err := strconv.ParseUint(low, 16, 32)
	if err != nil {
		return 0, fmt.Errorf("parse LSN %q: %w", s, err)
	}
	return LSN(h<<32 | l), nil
}

// String returns the text form, as PostgreSQL prints it.
func (l LSN) String() string { return string(l.AppendTo(nil)) }

// AppendTo appends the text form to b.
func (l LSN) AppendTo(b []byte) []byte {
	b = appendHex(b, uint32(l>>32))
	b = append(b, '/')
	return appendHex(b, uint32(l))
}

const hexDigits = "0123456789ABCDEF"

// appendHex appends n in upper-case hexadecimal without leading zeros; strconv has lower case only.
func appendHex(b []byte, n uint32) []byte {
	shift := 28
	for shift > 0 && n>>shift == 0 {
		shift -= 4
	}
	for ; shift >= 0; shift -= 4 {
		b = append(b, hexDigits[n>>shift&0xF])
	}
	return b
}
