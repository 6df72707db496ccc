package wal

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outboxd/outboxd/event"
)

// NewSlot is a slot that was just made, with the snapshot of its beginning: a transaction that the snapshot sees is not in the slot's log, and
// every other one is or will be. The snapshot lives as long as the replication connection that it holds.
type NewSlot struct {
	ConsistentPoint event.LSN
	Snapshot        string // its name, for SET TRANSACTION SNAPSHOT; valid until Close
	History                // of the server

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
	if err := n.create(ctx, cfg); err != nil {
		return nil, errors.Join(err, closeConn(conn))
	}
	return n, nil
}

// create makes the slot with its last command: the next one would end the snapshot.
func (n *NewSlot) create(ctx context.Context, cfg Config) error {
	system, err := pglogrepl.IdentifySystem(ctx, n.conn)
	if err != nil {
		return fmt.Errorf("identify system: %w", classify(err))
	}
	if n.History, err = readHistory(ctx, n.conn, cfg.Timeline, system.Timeline); err != nil {
		return err
	}
	n.ConsistentPoint, n.Snapshot, err = createSlot(ctx, n.conn, cfg, snapshotExport)
	return err
}

// Close ends the connection, and the snapshot with it; the slot stays.
func (n *NewSlot) Close() error { return closeConn(n.conn) }
