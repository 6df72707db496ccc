package wal

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/lease"
)

// Setup is [Verify], and with cfg.Create it then makes what is missing: the publication first, because a publication is not valid for
// the log that was written before it, then the slot. The facts it returns are those after that, verified again.
// When it fails in between, what it made stays, and a second Setup goes on from there.
func Setup(ctx context.Context, conn *pgx.Conn, cfg Config) (*Server, error) {
	before, err := Verify(ctx, conn, cfg)
	if err != nil || before.PublicationExists && before.Slot != nil {
		return before, err
	}
	if !before.PublicationExists {
		if err := CreatePublication(ctx, conn, cfg); err != nil {
			return before, err
		}
	}
	if before.Slot == nil {
		if _, err := CreateSlot(ctx, cfg); err != nil {
			return before, err
		}
	}
	after, err := Verify(ctx, conn, cfg)
	if after != nil {
		after.CreatedPublication = !before.PublicationExists
		after.CreatedSlot = before.Slot == nil
	}
	return after, err
}

// CreatePublication makes the publication of cfg.Publication over an ordinary connection: inserts into the table only. The role has to
// own the table and needs CREATE on the database; without that the error is a [CheckError] with the SQL for those who may.
func CreatePublication(ctx context.Context, conn *pgx.Conn, cfg Config) error {
	if err := cfg.validate(); err != nil {
		return fmt.Errorf("create publication: %w", err)
	}
	v := &verifier{conn: conn, cfg: cfg, server: &Server{}}
	if err := v.readOwner(ctx); err != nil {
		return fmt.Errorf("create publication %q: %w", cfg.Publication, err)
	}
	statement := createPublicationSQL(cfg, v.server)
	_, err := conn.Exec(ctx, statement)
	if lease.HasCode(err, lease.InsufficientPrivilege) {
		check := &CheckError{
			CheckPublication,
			fmt.Sprintf("create publication %q: role %q may not, because %q owns %s or because it lacks CREATE on the database",
				cfg.Publication, v.server.Role, v.server.TableOwner, cfg.table()),
			"as " + quoteName(v.server.TableOwner) + " or a superuser: " + statement,
		}
		return fmt.Errorf("%w: %w", check, err)
	}
	if sqlState(err) == codeNotSupported && cfg.Rows != "" {
		check := &CheckError{
			CheckFilter, fmt.Sprintf("create publication %q: PostgreSQL takes no row filter on a column that decides to which shard a row belongs", cfg.Publication),
			"give these columns types and collations of PostgreSQL's own, such as text, or set shards.by to what has them",
		}
		return fmt.Errorf("%w: %w", check, err)
	}
	if err != nil {
		return fmt.Errorf("create publication %q: %w", cfg.Publication, err)
	}
	return nil
}

// readOwner reads what CREATE PUBLICATION depends on.
func (v *verifier) readOwner(ctx context.Context) error {
	err := v.conn.QueryRow(ctx, `SELECT current_user, pg_get_userbyid(c.relowner), c.relkind = 'p'
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2`,
		v.cfg.Schema, v.cfg.Table).Scan(&v.server.Role, &v.server.TableOwner, &v.server.Partitioned)
	if err != nil {
		return fmt.Errorf("read table %s: %w", v.cfg.table(), err)
	}
	return nil
}
