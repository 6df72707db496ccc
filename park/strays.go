package park

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lease"
)

// StraysAbove returns the ids of events that were parked without a destination at or behind the position: the log brings them again.
func StraysAbove(ctx context.Context, conn *pgx.Conn, schema, slot string, after event.Position) ([]string, error) {
	result, err := conn.Query(ctx, `SELECT id FROM `+lease.Table(schema, "parked")+`
		WHERE slot = $1 AND sink = '' AND destination = '' AND replay = 0 AND (epoch, commit_lsn) >= ($2, $3::text::pg_lsn)`,
		slot, int64(after.Epoch), after.Commit.String())
	if err != nil {
		return nil, fmt.Errorf("read events without a destination: %w", lease.Classify(err))
	}
	ids, err := pgx.CollectRows(result, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("read events without a destination: %w", lease.Classify(err))
	}
	return ids, nil
}
