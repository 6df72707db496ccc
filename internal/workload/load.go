package workload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
)

// Load writes events into somebody's outbox table, and nothing else into his database: no table of its own, no order. What became of a
// transaction whose COMMIT was cut off it learns from the server's own record of transactions.
type Load struct {
	cfg     LoadConfig
	ledger  *Ledger
	pacer   pacer
	writers []*loadWriter

	left   atomic.Int64 // events that may still be begun
	counts loadCounts
}

// LoadCounts is what a Load has done.
type LoadCounts struct {
	Transactions       int64 `json:"transactions"`
	RolledBack         int64 `json:"rolled_back"`
	CommittedPrepared  int64 `json:"committed_prepared"`
	RolledBackPrepared int64 `json:"rolled_back_prepared"`
	WithSavepoints     int64 `json:"with_savepoints"`
	LargestEvents      int64 `json:"largest_events"` // of one transaction
	Interruptions      int64 `json:"interruptions"`  // connections that were lost or not to be had
	Events             int64 `json:"events"`         // written, those that were rolled back included
}

type loadCounts struct {
	mu sync.Mutex
	LoadCounts
}

// NewLoad returns a Load that has not connected yet.
func NewLoad(cfg LoadConfig) (*Load, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("make a load: %w", err)
	}
	l := &Load{cfg: cfg, pacer: pacer{rate: cfg.Rate}}
	l.left.Store(int64(cfg.Events))
	var err error
	if l.ledger, err = newLedgerOf(cfg.Run, cfg.Tenants, cfg.Writers, cfg.Keys); err != nil {
		return nil, err
	}
	l.ledger.topics, l.ledger.keyPrefix = cfg.Topics, fmt.Sprintf("verify-%012x-", cfg.Run)
	each := len(cfg.Tenants) + cfg.Keys
	for i := range cfg.Writers {
		l.writers = append(l.writers, &loadWriter{
			l: l, index: i, firstKey: uint32(i * each), keys: each, connection: wire{open: cfg.Connect}, insert: cfg.Outbox.insert(), //nolint:gosec // bounded by newLedger
			random: rand.New(rand.NewPCG(cfg.Seed, uint64(i))), //nolint:gosec // no secret
		})
	}
	return l, nil
}

// Ledger returns the record of what was written, which grows while Run does.
func (l *Load) Ledger() *Ledger { return l.ledger }

// Counts returns what was done so far.
func (l *Load) Counts() LoadCounts {
	l.counts.mu.Lock()
	defer l.counts.mu.Unlock()
	return l.counts.LoadCounts
}

func (l *Load) count(add func(*LoadCounts)) {
	l.counts.mu.Lock()
	defer l.counts.mu.Unlock()
	add(&l.counts.LoadCounts)
}

// SamplePayload is the payload of an event as a Load writes it.
func SamplePayload() []byte {
	p := payload{ID: eventID{}.String(), Tenant: "tenant", Topic: "topic", Order: "order", Filler: filling}
	body, err := p.encode()
	if err != nil {
		panic(err) // it is text and numbers
	}
	return body
}

// Try inserts an event and rolls that back, to see whether the table takes it.
func (l *Load) Try(ctx context.Context) error {
	conn, err := l.cfg.Connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // what counts was answered
	values, err := l.cfg.Outbox.values(payload{
		ID: eventID{l.cfg.Run, 0, 0}.String(), Tenant: l.cfg.Tenants[0], Topic: l.cfg.Topics[0], Order: l.ledger.keyPrefix + "try",
	})
	if err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, l.cfg.Outbox.insert(), values...); err != nil {
			return fmt.Errorf("insert an event into %s: %w", l.cfg.Outbox.Name.Sanitize(), err)
		}
		return errTried
	})
	if errors.Is(err, errTried) {
		return nil
	}
	return err
}

var errTried = errors.New("the row is rolled back")

// Run writes until ctx ends or all events are written, and then finishes the transactions that were begun. The error is one that
// repeating cannot mend; a lost connection is none.
func (l *Load) Run(ctx context.Context) error {
	return runAll(ctx, l.writers)
}

// Resolve finds out what became of the transactions that Run left unknown, and leaves none prepared. It tries until ctx ends.
// Run must have returned.
func (l *Load) Resolve(ctx context.Context) error {
	return resolveAll(ctx, l.writers)
}

// take reserves events of the total for one transaction: n, or what is left.
func (l *Load) take(n int) int {
	if l.cfg.Events == 0 {
		return n
	}
	left := l.left.Add(-int64(n))
	return max(0, min(n, n+int(left)))
}

// removeAtOnce is how many rows one statement deletes.
const removeAtOnce = 1000

// Remove deletes the rows that the Load has committed, and returns how many there were.
func (l *Load) Remove(ctx context.Context) (removed int64, err error) {
	conn, err := l.cfg.Connect(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // what counts was answered
	statement := `DELETE FROM ` + l.cfg.Outbox.Name.Sanitize() + ` WHERE ` + quoted(l.cfg.Outbox.ID) + ` = ANY ($1)`
	ids := l.ledger.perhapsCommitted()
	for len(ids) > 0 {
		n := min(removeAtOnce, len(ids))
		tag, err := conn.Exec(ctx, statement, ids[:n])
		if err != nil {
			return removed, fmt.Errorf("delete %d rows of %s: %w", n, l.cfg.Outbox.Name.Sanitize(), err)
		}
		removed += tag.RowsAffected()
		ids = ids[n:]
	}
	return removed, nil
}

// perhapsCommitted are the ids of all events that were not rolled back for sure.
func (l *Ledger) perhapsCommitted() (ids []string) {
	for key := range l.keys {
		for seq := 1; seq <= l.written(key); seq++ {
			id := eventID{l.run, uint32(key), uint32(seq)} //nolint:gosec // as in next
			if o, _ := l.look(id); o != rolledBack {
				ids = append(ids, id.String())
			}
		}
	}
	return ids
}
