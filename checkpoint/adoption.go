package checkpoint

import (
	"context"
	"fmt"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lease"
)

// Adoption says which rows of the outbox table are still to be parked, because they are older than the slot's log.
type Adoption struct {
	Snapshot string         // rows that it sees are older than the log
	After    string         // id of the last row that was looked at
	Epoch    uint32         // of the positions that they get: below every position of the slot; for NewEpoch 0 stands for the one before the slot's
	Landed   event.Position // they may have landed behind this position; zero: none has
}

// SaveAdoption notes how far the table was looked through for rows to adopt.
func SaveAdoption(ctx context.Context, db lease.Querier, held lease.Lease, after string) error {
	return change(ctx, db, held, "save how far rows are adopted", `adopt_after = $3`, after)
}

// EndAdoption notes that all rows are adopted.
func EndAdoption(ctx context.Context, db lease.Querier, held lease.Lease) error {
	return change(ctx, db, held, "end the adoption of rows",
		`adopt_snapshot = NULL, adopt_after = NULL, adopt_epoch = NULL, landed_epoch = NULL, landed_lsn = NULL`)
}

// SaveSettled notes a snapshot that sees only what is below the confirmed position.
func SaveSettled(ctx context.Context, db lease.Querier, held lease.Lease, snapshot string) error {
	return change(ctx, db, held, "save what is settled", `settled_snapshot = $3`, snapshot)
}

// change updates the lease's record.
func change(ctx context.Context, db lease.Querier, held lease.Lease, what, set string, values ...any) error {
	sql := lease.CTE(held.Schema) + `, changed AS (UPDATE ` + lease.Table(held.Schema, "checkpoint") + ` SET ` + set + `
			WHERE slot = $1 AND EXISTS (SELECT FROM lease) RETURNING 1)
		SELECT EXISTS (SELECT FROM lease), EXISTS (SELECT FROM changed), ` + lease.Durable
	var ours, changed bool
	err := db.QueryRow(ctx, sql, append([]any{held.Slot, held.Term}, values...)...).Scan(&ours, &changed, nil)
	switch {
	case err != nil:
		err = lease.Classify(err)
	case !ours:
		err = lease.ErrTermLost
	case !changed:
		err = ErrNoRecord
	}
	if err != nil {
		return fmt.Errorf("%s of slot %q: %w", what, held.Slot, err)
	}
	return nil
}
