package lease

import (
	"errors"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// SQLSTATEs, by PostgreSQL's own names for them. Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
const (
	NumericValueOutOfRange     = "22003"
	InvalidTextRepresentation  = "22P02"
	InvalidAuthorization       = "28000"
	InvalidPassword            = "28P01"
	DependentObjectsStillExist = "2BP01"
	InvalidCatalogName         = "3D000" // no such database
	InvalidSchemaName          = "3F000"
	SerializationFailure       = "40001"
	DeadlockDetected           = "40P01"
	InsufficientPrivilege      = "42501"
	UndefinedColumn            = "42703"
	UndefinedObject            = "42704" // a type, a publication, a slot
	DuplicateObject            = "42710"
	UndefinedTable             = "42P01"
	GeneratedAlways            = "428C9"
	TooManyConnections         = "53300"
	LockNotAvailable           = "55P03" // lock_timeout, or NOWAIT
	QueryCanceled              = "57014" // statement_timeout, or by request
)

// HasCode tells whether the error is the server's and has one of the SQLSTATEs.
func HasCode(err error, codes ...string) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && slices.Contains(codes, e.Code)
}

// InClass tells whether the error is the server's and its SQLSTATE is of one of the classes, which are its first two characters.
func InClass(err error, classes ...string) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && slices.ContainsFunc(classes, func(class string) bool { return strings.HasPrefix(e.Code, class) })
}

// Raised tells whether the error is the server's and a RAISE of a function in PL/pgSQL, with whatever SQLSTATE.
// Source: exec_stmt_raise, https://github.com/postgres/postgres/blob/master/src/pl/plpgsql/src/pl_exec.c
func Raised(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && e.Routine == "exec_stmt_raise"
}
