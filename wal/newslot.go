package wal

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outboxd/outboxd/event"
)

// NewSlot is a slot that was just made, with the snapshot of its beginning: a transaction that the snapshot sees is not in the slot's log, and
// every other one is or will be. The snapshot lives as long as the replication connection that it holds.
type NewSlot struct {
	ConsistentPoint event.LSN
	Snapshot        string // its name, for SET TRANSACTION SNAPSHOT; valid until Close

	conn *pgconn.PgConn
}

// CreateSlotSnapshot is [CreateSlot] with an exported snapshot. It keeps its replication connection open until Close.
func CreateSlotSnapshot(ctx context.Context, cfg Config) (*NewSlot, error) {
	if err := checkSlotName(cfg.Slot); err != nil {
		return nil, err
	}
	conn, err := connect(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("create slot %q: %w", cfg.Slot, err)
	}
	n := &NewSlot{conn: conn}
	if n.ConsistentPoint, n.Snapshot, err = createSlot(ctx, conn, cfg, snapshotExport); err != nil {
		return nil, errors.Join(err, closeConn(conn))
	}
	return n, nil
}

// Close ends the connection, and the snapshot with it; the slot stays.
func (n *NewSlot) Close() error { return closeConn(n.conn) }
