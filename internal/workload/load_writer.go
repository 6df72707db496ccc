package workload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// loadWriter is a hand of a Load.
type loadWriter struct {
	l        *Load
	index    int
	firstKey uint32
	keys     int
	random   *rand.Rand
	insert   string

	connection wire
	number     int    // of the last transaction
	doubt      *doubt // nil while the outcome of the last transaction is known
}

// doubt is a transaction of unknown outcome.
type doubt struct {
	events []written
	xid    int64
	gid    string // empty unless it was prepared
}

func (w *loadWriter) draw(ctx context.Context) func(context.Context) error {
	n := w.l.take(drawSize(w.random))
	if n == 0 || !w.l.pacer.wait(ctx, n) {
		return nil
	}
	shape := drawTransaction(w.random, n, w.l.cfg.Prepared)
	return func(ctx context.Context) error { return w.transact(ctx, &shape) }
}

func (w *loadWriter) inDoubt() bool { return w.doubt != nil }

func (w *loadWriter) wire() *wire { return &w.connection }

func (w *loadWriter) interrupted(err error) {
	w.l.count(func(c *LoadCounts) { c.Interruptions++ })
	if w.l.cfg.Trouble != nil {
		w.l.cfg.Trouble(err)
	}
}

// transact writes a transaction. Whatever it returns, each of its events is decided in the ledger or stands in w.doubt.
func (w *loadWriter) transact(ctx context.Context, t *transaction) error {
	w.number++
	events := w.plan(t)
	w.note(t)
	batch, err := w.statements(t, events)
	if err != nil {
		w.settle(events, false)
		return err
	}
	var xid int64
	results := w.connection.conn.SendBatch(ctx, batch)
	if _, err = results.Exec(); err == nil { // BEGIN
		err = results.QueryRow().Scan(&xid)
	}
	if closing := results.Close(); err == nil {
		err = closing
	}
	if err != nil {
		w.settle(events, false) // COMMIT was never sent
		return fmt.Errorf("write %d events: %w", len(events), err)
	}
	return w.end(ctx, t.ending, doubt{events: events, xid: xid})
}

// end ends the transaction d.
func (w *loadWriter) end(ctx context.Context, e ending, d doubt) error {
	if e == endRollback {
		w.settle(d.events, false)
		_, err := w.connection.conn.Exec(ctx, "ROLLBACK")
		return err
	}
	steps := []string{"COMMIT"}
	if e != endCommit {
		d.gid = w.gid()
		steps = []string{"PREPARE TRANSACTION '" + d.gid + "'", "COMMIT PREPARED '" + d.gid + "'"}
		if e == endRollbackPrepared {
			steps[1] = "ROLLBACK PREPARED '" + d.gid + "'"
		}
	}
	for _, step := range steps {
		tag, err := w.connection.conn.Exec(ctx, step)
		if err == nil && tag.String() == "ROLLBACK" && e != endRollbackPrepared {
			err = errors.New("the server rolled it back")
		}
		if err != nil {
			w.doubt = &d
			return fmt.Errorf("%s of %d events: %w", step, len(d.events), err)
		}
	}
	w.settle(d.events, e != endRollbackPrepared)
	return nil
}

// gid is the global identifier of the transaction that is under way.
func (w *loadWriter) gid() string {
	return fmt.Sprintf("%s%d-%d", w.l.ledger.keyPrefix, w.index, w.number)
}

// note counts a transaction that begins.
func (w *loadWriter) note(t *transaction) {
	w.l.count(func(c *LoadCounts) {
		c.Transactions++
		c.Events += int64(t.size())
		c.LargestEvents = max(c.LargestEvents, int64(t.size()))
		if len(t.parts) > 1 || t.parts[0].section != plain {
			c.WithSavepoints++
		}
		switch t.ending {
		case endRollback:
			c.RolledBack++
		case endCommitPrepared:
			c.CommittedPrepared++
		case endRollbackPrepared:
			c.RolledBackPrepared++
		case endCommit:
		}
	})
}

// plan takes the next numbers of keys that it draws, and notes what savepoints take back.
func (w *loadWriter) plan(t *transaction) (events []written) {
	l, loose := w.l.ledger, len(w.l.cfg.Tenants)
	for _, p := range t.parts {
		for i := range p.events {
			key := loose + w.random.IntN(w.keys-loose)
			if w.random.Float64() < loadKeyless && w.l.cfg.Keyless {
				key = w.random.IntN(loose)
			}
			id := l.next(w.firstKey+uint32(key), w.random.IntN(len(l.topics))) //nolint:gosec // bounded by newLedger
			events = append(events, written{id, p.section == undone || p.section == nested && i >= p.events/2})
		}
	}
	return events
}

// statements are all of the transaction but its end. They travel together. The second one returns the transaction's id.
func (w *loadWriter) statements(t *transaction, events []written) (*pgx.Batch, error) {
	b := &pgx.Batch{}
	b.Queue("BEGIN")
	b.Queue("SELECT txid_current()")
	for _, p := range t.parts {
		if p.section != plain {
			b.Queue("SAVEPOINT outer_part")
		}
		for i, e := range events[:p.events] {
			if p.section == nested && i == p.events/2 {
				b.Queue("SAVEPOINT inner_part")
			}
			if err := w.event(b, e.id); err != nil {
				return nil, err
			}
		}
		events = events[p.events:]
		switch p.section {
		case undone:
			b.Queue("ROLLBACK TO SAVEPOINT outer_part")
		case nested:
			b.Queue("ROLLBACK TO SAVEPOINT inner_part")
			b.Queue("RELEASE SAVEPOINT outer_part")
		case released:
			b.Queue("RELEASE SAVEPOINT outer_part")
		}
	}
	return b, nil
}

func (w *loadWriter) event(b *pgx.Batch, id eventID) error {
	l := w.l.ledger
	_, topic := l.look(id)
	values, err := w.l.cfg.Outbox.values(payload{
		ID: id.String(), Tenant: l.tenantOf(id.key), Topic: topic, Order: l.keyName(id.key), Seq: id.seq,
		Cents: w.random.Int64N(100_000), Filler: drawFiller(w.random),
	})
	if err != nil {
		return err
	}
	b.Queue(w.insert, values...)
	return nil
}

// insert is the statement that takes values.
func (t *LoadTable) insert() string {
	var names, places []string
	for _, name := range t.columns() {
		if name != "" {
			names = append(names, quoted(name))
			places = append(places, "$"+strconv.Itoa(len(names)))
		}
	}
	return `INSERT INTO ` + t.Name.Sanitize() + ` (` + strings.Join(names, ", ") + `) VALUES (` + strings.Join(places, ", ") + `)`
}

func quoted(name string) string { return pgx.Identifier{name}.Sanitize() }

// values are those of the columns that the table has.
func (t *LoadTable) values(p payload) (values []any, err error) {
	now := time.Now()
	p.WrittenAt = now.UnixMicro()
	body, err := p.encode()
	if err != nil {
		return nil, fmt.Errorf("encode event %s: %w", p.ID, err)
	}
	var aggregateType, aggregateID any
	if p.Order != "" {
		aggregateType, aggregateID = AggregateType, p.Order
	}
	all := []any{p.ID, p.Tenant, p.Topic, aggregateType, aggregateID, now, "outboxd-verify", string(body), `{}`, t.StatusNew}
	for i, name := range t.columns() {
		if name != "" {
			values = append(values, all[i])
		}
	}
	return values, nil
}

// settle records what became of the events of a transaction.
func (w *loadWriter) settle(events []written, did bool) {
	for _, e := range events {
		o := rolledBack
		if did && !e.undo {
			o = committed
		}
		w.l.ledger.decide(e.id, o)
	}
}
