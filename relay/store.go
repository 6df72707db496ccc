package relay

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/checkpoint"
	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lease"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/wal"
)

// store is all that tasks, the settler and adoption ask of PostgreSQL, each method by statements that are durable when it returns. Those that write
// return [lease.ErrTermLost], with nothing changed, when a later session has raised the term. What each does is told where database has it from;
// the simulation has a model of it.
type store interface {
	// The parked table.
	insert(ctx context.Context, rows []park.Row) error
	nextReplays(ctx context.Context, n int) (first int, err error)
	loadKeys(ctx context.Context, d park.Destination, keys []uint64, perKey int, bytes int64) (rows []park.Row, exhausted []uint64, err error)
	loadAfter(ctx context.Context, d park.Destination, after park.Cursor, limit int, bytes int64) (rows []park.Row, end bool, err error)
	blocking(ctx context.Context, d park.Destination, limit int, bytes int64) ([]park.Row, error)
	move(ctx context.Context, from park.Destination, rows []park.Row) error
	settleParked(ctx context.Context, d park.Destination, refs []event.Ref) error
	found(ctx context.Context, d park.Destination, refs []event.Ref, all bool) (int, error)
	fail(ctx context.Context, d park.Destination, failures []park.Failure) error
	straysAbove(ctx context.Context, after event.Position) ([]string, error)
	summaries(ctx context.Context) ([]park.Summary, error)
	keys(ctx context.Context, limit int, each func(park.WaitingKey)) error
	blockedKeys(ctx context.Context, limit int, each func(park.WaitingKey)) error
	count(ctx context.Context) (park.Totals, error)

	// What is older than a new slot.
	adoptable(ctx context.Context, since uint64, after string, limit int) (ids []string, end bool, err error)
	stillAdoptable(ctx context.Context, ids []string) ([]outbox.Row, error)
	insertMissing(ctx context.Context, rows []park.Row) (int, error)
	above(ctx context.Context, after park.Cursor, epoch uint32, limit int) ([]park.Row, error)
	readRows(ctx context.Context, ids []string) ([]outbox.Row, error)
	saveAdoption(ctx context.Context, after string) error
	endAdoption(ctx context.Context) error

	// The outbox table, and both.
	settle(ctx context.Context, ids [][]byte) (outbox.Snapshot, []outbox.Refusal, error)
	deliver(ctx context.Context, d park.Destination, passed event.Position, refs []event.Ref) error
	finish(ctx context.Context, passed event.Position, limit int) (more bool, refused *outbox.Refusal, err error)
	mirror(ctx context.Context, mirrors []outbox.Mirror) error
	skipSent(ctx context.Context, after string, limit int) (last string, skipped int, err error)
	repairMirrors(ctx context.Context, after string, limit int) (last string, err error)
	dueFailed(ctx context.Context, since uint64, limit int) ([]outbox.Row, error)
	undone(ctx context.Context, ids []string) ([]string, error)
	stillNew(ctx context.Context, ids []string) ([]outbox.Row, error)
	newRows(ctx context.Context, since uint64, limit int) ([]string, error)

	// The term, the checkpoint and the server.
	checkTerm(ctx context.Context) (logEnd event.LSN, err error)
	save(ctx context.Context, confirmed event.LSN) error
	saveSettled(ctx context.Context, snapshot string) error
	snapshot(ctx context.Context) (string, error)
	published(ctx context.Context) (string, error)
	saveLost(ctx context.Context, why string) error
	saveRouting(ctx context.Context, r *checkpoint.Routing) error
	logEnd(ctx context.Context) (event.LSN, error)
	measure(ctx context.Context) (measured, error)
}

// database is the store that PostgreSQL is, by one connection.
type database struct {
	conn   *pgx.Conn
	table  *outbox.Table
	lease  lease.Lease
	source wal.Config
}

func (d database) insert(ctx context.Context, rows []park.Row) error {
	_, err := park.Insert(ctx, d.conn, d.lease, rows)
	return err
}

func (d database) nextReplays(ctx context.Context, n int) (int, error) {
	return park.NextReplays(ctx, d.conn, d.lease.Schema, n)
}

func (d database) loadKeys(
	ctx context.Context, at park.Destination, keys []uint64, perKey int, bytes int64,
) (rows []park.Row, exhausted []uint64, err error) {
	rows, exhausted, err = park.LoadKeys(ctx, d.conn, d.lease.Schema, d.lease.Slot, at, keys, perKey, bytes)
	return rows, exhausted, d.underTerm(ctx, err)
}

func (d database) loadAfter(ctx context.Context, at park.Destination, after park.Cursor, limit int, bytes int64) (rows []park.Row, end bool, err error) {
	rows, end, err = park.LoadAfter(ctx, d.conn, d.lease.Schema, d.lease.Slot, at, after, limit, bytes)
	return rows, end, d.underTerm(ctx, err)
}

// underTerm is err, or says that a later session has raised the term: what was read it may have parked in doubt, and that is not ours to deliver.
func (d database) underTerm(ctx context.Context, err error) error {
	if err != nil {
		return err
	}
	return park.Check(ctx, d.conn, d.lease)
}

func (d database) blocking(ctx context.Context, at park.Destination, limit int, bytes int64) ([]park.Row, error) {
	return park.Blocking(ctx, d.conn, d.lease.Schema, d.lease.Slot, at, limit, bytes)
}

func (d database) move(ctx context.Context, from park.Destination, rows []park.Row) error {
	return park.Move(ctx, d.conn, d.lease, from, rows)
}

func (d database) settleParked(ctx context.Context, at park.Destination, refs []event.Ref) error {
	return park.Settle(ctx, d.conn, d.lease, at, refs)
}

func (d database) found(ctx context.Context, at park.Destination, refs []event.Ref, all bool) (int, error) {
	return park.Found(ctx, d.conn, d.lease, at, refs, all)
}

func (d database) fail(ctx context.Context, at park.Destination, failures []park.Failure) error {
	return park.Fail(ctx, d.conn, d.lease, at, failures)
}

func (d database) straysAbove(ctx context.Context, after event.Position) ([]string, error) {
	return park.StraysAbove(ctx, d.conn, d.lease.Schema, d.lease.Slot, after)
}

func (d database) summaries(ctx context.Context) ([]park.Summary, error) {
	return park.Summaries(ctx, d.conn, d.lease.Schema, d.lease.Slot)
}

func (d database) keys(ctx context.Context, limit int, each func(park.WaitingKey)) error {
	return park.Keys(ctx, d.conn, d.lease.Schema, d.lease.Slot, limit, each)
}

func (d database) blockedKeys(ctx context.Context, limit int, each func(park.WaitingKey)) error {
	return park.BlockedKeys(ctx, d.conn, d.lease.Schema, d.lease.Slot, limit, each)
}

func (d database) count(ctx context.Context) (park.Totals, error) {
	return park.Count(ctx, d.conn, d.lease.Schema, d.lease.Slot)
}

func (d database) adoptable(ctx context.Context, since uint64, after string, limit int) ([]string, bool, error) {
	return d.table.Adoptable(ctx, d.conn, since, after, limit)
}

func (d database) stillAdoptable(ctx context.Context, ids []string) ([]outbox.Row, error) {
	return d.table.StillAdoptable(ctx, d.conn, ids)
}

func (d database) insertMissing(ctx context.Context, rows []park.Row) (int, error) {
	return park.InsertMissing(ctx, d.conn, d.lease, rows)
}

func (d database) above(ctx context.Context, after park.Cursor, epoch uint32, limit int) ([]park.Row, error) {
	return park.Above(ctx, d.conn, d.lease.Schema, d.lease.Slot, after, epoch, limit)
}

func (d database) readRows(ctx context.Context, ids []string) ([]outbox.Row, error) {
	return d.table.Read(ctx, d.conn, ids)
}

func (d database) saveAdoption(ctx context.Context, after string) error {
	return checkpoint.SaveAdoption(ctx, d.conn, d.lease, after)
}

func (d database) endAdoption(ctx context.Context) error {
	return checkpoint.EndAdoption(ctx, d.conn, d.lease)
}

func (d database) settle(ctx context.Context, ids [][]byte) (outbox.Snapshot, []outbox.Refusal, error) {
	return d.table.Settle(ctx, d.conn, d.lease, ids)
}

func (d database) deliver(ctx context.Context, at park.Destination, passed event.Position, refs []event.Ref) error {
	return d.table.Deliver(ctx, d.conn, d.lease, at.Sink, at.Name, passed, refs)
}

func (d database) finish(ctx context.Context, passed event.Position, limit int) (more bool, refused *outbox.Refusal, err error) {
	_, more, refused, err = d.table.Finish(ctx, d.conn, d.lease, passed, limit)
	return more, refused, err
}

func (d database) mirror(ctx context.Context, mirrors []outbox.Mirror) error {
	_, err := d.table.Mirror(ctx, d.conn, d.lease, mirrors)
	return err
}

func (d database) skipSent(ctx context.Context, after string, limit int) (string, int, error) {
	return d.table.SkipSent(ctx, d.conn, d.lease, after, limit)
}

func (d database) repairMirrors(ctx context.Context, after string, limit int) (last string, err error) {
	last, _, err = d.table.RepairMirrors(ctx, d.conn, d.lease, after, limit)
	return last, err
}

func (d database) dueFailed(ctx context.Context, since uint64, limit int) ([]outbox.Row, error) {
	return d.table.DueFailed(ctx, d.conn, d.lease, since, limit)
}

func (d database) undone(ctx context.Context, ids []string) ([]string, error) {
	return d.table.Undone(ctx, d.conn, ids)
}

func (d database) stillNew(ctx context.Context, ids []string) ([]outbox.Row, error) {
	return d.table.StillNew(ctx, d.conn, d.lease, ids)
}

func (d database) newRows(ctx context.Context, since uint64, limit int) ([]string, error) {
	return d.table.New(ctx, d.conn, d.lease, since, limit)
}

func (d database) checkTerm(ctx context.Context) (logEnd event.LSN, err error) {
	if err := park.Check(ctx, d.conn, d.lease); err != nil {
		return 0, err
	}
	return wal.LogEnd(ctx, d.conn)
}

func (d database) save(ctx context.Context, confirmed event.LSN) error {
	return checkpoint.Save(ctx, d.conn, d.lease, confirmed)
}

func (d database) saveSettled(ctx context.Context, snapshot string) error {
	return checkpoint.SaveSettled(ctx, d.conn, d.lease, snapshot)
}

func (d database) published(ctx context.Context) (string, error) {
	if err := wal.NotSynchronous(ctx, d.conn); err != nil {
		return "", err
	}
	return wal.Published(ctx, d.conn, d.source)
}

func (d database) saveLost(ctx context.Context, why string) error {
	return checkpoint.SaveLost(ctx, d.conn, d.lease, why)
}

func (d database) saveRouting(ctx context.Context, r *checkpoint.Routing) error {
	return checkpoint.SaveRouting(ctx, d.conn, d.lease, r)
}

func (d database) snapshot(ctx context.Context) (string, error) {
	return outbox.ReadSnapshot(ctx, d.conn)
}

func (d database) logEnd(ctx context.Context) (event.LSN, error) { return wal.LogEnd(ctx, d.conn) }

func (d database) measure(ctx context.Context) (measured, error) {
	return readMeasured(ctx, d.conn, d.lease.Schema, d.lease.Slot)
}
