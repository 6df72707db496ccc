package lease

import (
	"errors"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"
)

// SQLSTATEs, by PostgreSQL's own names for them. Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
const (
	InvalidSchemaName     = "3F000"
	InsufficientPrivilege = "42501"
	UndefinedColumn       = "42703"
	UndefinedObject       = "42704" // a type
	UndefinedTable        = "42P01"
)

// HasCode tells whether the error is the server's and has one of the SQLSTATEs.
func HasCode(err error, codes ...string) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && slices.Contains(codes, e.Code)
}
