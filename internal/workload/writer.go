package workload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// writer is a hand of a Producer.
type writer struct {
	p        *Producer
	index    int
	firstKey uint32
	keys     int
	random   *rand.Rand

	connection wire
	number     int64     // of the last transaction
	doubt      []written // events of the last transaction while its outcome is unknown
	doubtOn    string    // timeline of the server that was to commit it
	timeline   string    // of the server that was connected to last

	setNumber, upsertOrder, insertEvent string // statements
}

// written is an event of a transaction.
type written struct {
	id   eventID
	undo bool // between a savepoint and the rollback to it
}

func newWriter(p *Producer, index int, firstKey uint32, keys int) *writer {
	w := &writer{
		p: p, index: index, firstKey: firstKey, keys: keys,
		random:    rand.New(rand.NewPCG(p.cfg.Random, uint64(index))), //nolint:gosec // no secret
		setNumber: `UPDATE ` + p.table("order_writers") + ` SET number = $3 WHERE run = $1 AND writer = $2`,
		upsertOrder: `INSERT INTO ` + p.table("orders") + ` (tenant_id, id, state, cents) VALUES ($1, $2, $3, $4)
			ON CONFLICT (tenant_id, id) DO UPDATE SET state = excluded.state, cents = excluded.cents, updated_at = now()`,
		insertEvent: `INSERT INTO ` + p.cfg.Outbox.Sanitize() + ` (id, tenant_id, aggregate_type, aggregate_id, topic, occurred_at,
			schema_id, payload, event_metadata) VALUES ($1, $2, $3, $4, $5, $6, 'order-v1', $7, $8)`,
	}
	w.connection.open = w.open
	return w
}

// open connects, and notes the server's timeline, which rises where a standby is promoted. On a standby it fails.
func (w *writer) open(ctx context.Context) (*pgx.Conn, error) {
	conn, err := pgx.Connect(ctx, w.p.cfg.URL)
	if err != nil {
		return nil, err
	}
	if err := conn.QueryRow(ctx, `SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)`).Scan(&w.timeline); err != nil {
		return nil, errors.Join(fmt.Errorf("read the timeline: %w", err), conn.Close(ctx))
	}
	return conn, nil
}

func (w *writer) draw(ctx context.Context) func(context.Context) error {
	n := 1 + w.random.IntN(w.p.cfg.MaxEvents)
	if !w.p.pacer.wait(ctx, n) {
		return nil
	}
	return func(ctx context.Context) error { return w.transact(ctx, n) }
}

func (w *writer) inDoubt() bool { return w.doubt != nil }

func (w *writer) wire() *wire { return &w.connection }

func (w *writer) interrupted(err error) {
	w.p.interruptions.Add(1)
	if w.p.cfg.Trouble != nil {
		w.p.cfg.Trouble(err, w.doubt != nil)
	}
}

// transact writes n events. Whatever it returns, each of them is decided in the ledger or stands in w.doubt.
func (w *writer) transact(ctx context.Context, n int) error {
	w.p.transactions.Add(1)
	w.number++
	events := w.plan(n)
	batch, err := w.statements(events)
	if err == nil {
		err = w.connection.conn.SendBatch(ctx, batch).Close()
	}
	if err != nil {
		w.p.settle(events, rolledBack) // COMMIT was never sent
		return fmt.Errorf("write %d events: %w", n, err)
	}
	if w.chance(w.p.cfg.Rollbacks) {
		w.p.settle(events, rolledBack)
		_, err := w.connection.conn.Exec(ctx, "ROLLBACK")
		return err
	}
	tag, err := w.connection.conn.Exec(ctx, "COMMIT")
	if err != nil {
		w.doubt, w.doubtOn = events, w.timeline
		w.p.unknown.Add(1)
		return fmt.Errorf("commit %d events: %w", n, err)
	}
	if tag.String() != "COMMIT" {
		w.p.settle(events, rolledBack)
		return fmt.Errorf("commit %d events: the server answered %s", n, tag)
	}
	w.settleCommitted(events)
	return nil
}

// plan chooses keys and takes their next numbers. The events of a savepoint stand together.
func (w *writer) plan(n int) []written {
	events := make([]written, n)
	from, to := n, n
	if w.chance(w.p.cfg.Savepoints) {
		from = w.random.IntN(n)
		to = from + 1 + w.random.IntN(n-from)
	}
	loose := len(w.p.cfg.Tenants)
	for i := range events {
		key := loose + w.random.IntN(w.keys-loose)
		if w.chance(w.p.cfg.Keyless) {
			key = w.random.IntN(loose)
		}
		index := w.firstKey + uint32(key) //nolint:gosec // bounded by newLedger
		topic := 0
		if w.p.ledger.written(int(index)) > 0 {
			topic = 1 + w.random.IntN(len(topics)-1)
		}
		events[i] = written{w.p.ledger.next(index, topic), i >= from && i < to}
	}
	return events
}

// statements are all of the transaction but its end. They travel together.
func (w *writer) statements(events []written) (*pgx.Batch, error) {
	b := &pgx.Batch{}
	b.Queue("BEGIN")
	b.Queue(w.setNumber, w.p.ledger.run, w.index, w.number)
	for i, e := range events {
		if e.undo && (i == 0 || !events[i-1].undo) {
			b.Queue("SAVEPOINT undo")
		}
		if err := w.event(b, e.id); err != nil {
			return nil, err
		}
		if e.undo && (i == len(events)-1 || !events[i+1].undo) {
			b.Queue("ROLLBACK TO SAVEPOINT undo")
		}
	}
	return b, nil
}

// event queues the change of an order and its event.
func (w *writer) event(b *pgx.Batch, id eventID) error {
	l := w.p.ledger
	_, topic := l.look(id)
	now := time.Now()
	p := payload{
		ID: id.String(), Tenant: l.tenantOf(id.key), Topic: topic, Order: l.keyName(id.key), Seq: id.seq,
		Cents: 100 + w.random.Int64N(100_000), WrittenAt: now.UnixMicro(),
	}
	if size := w.p.cfg.PayloadBytes; size > 0 {
		p.Filler = strings.Repeat("x", size)
	}
	body, err := p.encode()
	if err != nil {
		return fmt.Errorf("encode event %s: %w", id, err)
	}
	var aggregateType, aggregateID *string
	if p.Order != "" {
		of := AggregateType
		aggregateType, aggregateID = &of, &p.Order
		_, state, _ := strings.Cut(topic, ".")
		b.Queue(w.upsertOrder, p.Tenant, p.Order, state, p.Cents)
	}
	metadata := fmt.Sprintf(`{"correlation_id": "%d-%d"}`, w.index, w.number)
	b.Queue(w.insertEvent, p.ID, p.Tenant, aggregateType, aggregateID, topic, now, string(body), metadata)
	return nil
}

// settleCommitted records a transaction that committed, but for what its savepoint took back.
func (w *writer) settleCommitted(events []written) {
	for i := range events {
		o := committed
		if events[i].undo {
			o = rolledBack
		}
		w.p.settle(events[i:i+1], o)
	}
}

// resolve asks what became of the transaction in doubt. Reading the writer's row waits for a backend that still holds it. A server that was
// promoted meanwhile may lack a transaction that its primary had in its log, where those who follow the log have seen it.
func (w *writer) resolve(ctx context.Context) error {
	if err := w.connection.connect(ctx); err != nil {
		return err
	}
	var last int64
	query := `SELECT number FROM ` + w.p.table("order_writers") + ` WHERE run = $1 AND writer = $2 FOR UPDATE`
	if err := w.connection.conn.QueryRow(ctx, query, w.p.ledger.run, w.index).Scan(&last); err != nil {
		w.connection.hangUp()
		return fmt.Errorf("ask what became of transaction %d: %w", w.number, err)
	}
	switch {
	case last == w.number:
		w.settleCommitted(w.doubt)
	case w.timeline != w.doubtOn:
		w.p.withdraw(w.doubt)
	default:
		w.p.settle(w.doubt, rolledBack)
	}
	w.doubt = nil
	return nil
}

func (w *writer) chance(share float64) bool { return w.random.Float64() < share }

// permanent tells whether repeating cannot help: the server understood and refused (no such table, no permission).
func permanent(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || len(e.Code) < 2 {
		return false
	}
	switch e.Code[:2] {
	case "22", "23", "28", "3D", "3F", "42": // data, constraint, authorization, no database, no schema, syntax or access rule
		return true
	}
	return false
}
