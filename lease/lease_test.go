package lease

import (
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestErrorsOfMissingTablesAndRightsNameTheirMend(t *testing.T) {
	for code, want := range map[string]error{
		InvalidSchemaName: ErrNotMigrated, UndefinedTable: ErrNotMigrated, UndefinedColumn: ErrNotMigrated, UndefinedObject: ErrNotMigrated,
		InsufficientPrivilege: ErrNoRights,
	} {
		server := fmt.Errorf("write: %w", &pgconn.PgError{Code: code})
		if err := Classify(server); !errors.Is(err, want) || !errors.Is(err, server) {
			t.Errorf("%s is %v, want %v and what the server said", code, err, want)
		}
	}
	for _, other := range []error{nil, errors.New("42P01"), &pgconn.PgError{Code: LockNotAvailable}} {
		if err := Classify(other); err != other { //nolint:errorlint // it is to be left as it is
			t.Errorf("%v became %v", other, err)
		}
	}
}
