package workload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
)

// Counts are events of one tenant.
type Counts struct {
	Tenant     string `json:"tenant"`
	Committed  int64  `json:"committed"`
	RolledBack int64  `json:"rolled_back"`
}

// Producer is an application that writes orders and their events.
type Producer struct {
	cfg     Config
	ledger  *Ledger
	pacer   pacer
	writers []*writer
	counts  []tenantCounts // as cfg.Tenants

	transactions  atomic.Int64
	interruptions atomic.Int64
	unknown       atomic.Int64
}

type tenantCounts struct{ committed, rolledBack atomic.Int64 }

// NewProducer returns a Producer that has not connected yet.
func NewProducer(cfg Config) (*Producer, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("make a producer: %w", err)
	}
	if cfg.Random == 0 {
		cfg.Random = rand.Uint64() //nolint:gosec // only has to differ
	}
	p := &Producer{cfg: cfg, pacer: pacer{rate: cfg.Rate}, counts: make([]tenantCounts, len(cfg.Tenants))}
	var err error
	if p.ledger, err = newLedgerOf(cfg.Random&maxRun, cfg.Tenants, cfg.Writers, cfg.Keys); err != nil {
		return nil, err
	}
	each := len(cfg.Tenants) + cfg.Keys
	for i := range cfg.Writers {
		p.writers = append(p.writers, newWriter(p, i, uint32(i*each), each)) //nolint:gosec // bounded by newLedger
	}
	return p, nil
}

// Ledger returns the record of what was written, which grows while Run does.
func (p *Producer) Ledger() *Ledger { return p.ledger }

// Counts returns how many events of each tenant were committed and rolled back so far.
func (p *Producer) Counts() []Counts {
	all := make([]Counts, len(p.counts))
	for i := range all {
		c := &p.counts[i]
		all[i] = Counts{p.cfg.Tenants[i], c.committed.Load(), c.rolledBack.Load()}
	}
	return all
}

// Totals returns the events of all tenants together.
func (p *Producer) Totals() (c Counts) {
	for _, t := range p.Counts() {
		c.Committed += t.Committed
		c.RolledBack += t.RolledBack
	}
	return c
}

// Transactions returns how many transactions were begun.
func (p *Producer) Transactions() int64 { return p.transactions.Load() }

// Interruptions returns how often a connection was lost or not to be had.
func (p *Producer) Interruptions() int64 { return p.interruptions.Load() }

// CutCommits returns how many transactions lost their connection between COMMIT and its answer.
func (p *Producer) CutCommits() int64 { return p.unknown.Load() }

// Setup makes the tables orders and order_writers where they are absent. The outbox table is somebody else's to make.
func (p *Producer) Setup(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, p.cfg.URL)
	if err != nil {
		return fmt.Errorf("connect the producer: %w", err)
	}
	err = p.setup(ctx, conn)
	return errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
}

func (p *Producer) setup(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, fmt.Sprintf(`
		CREATE TABLE IF NOT EXISTS %s (
			tenant_id text, id text, state text NOT NULL, cents bigint NOT NULL, updated_at timestamptz NOT NULL DEFAULT now(),
			PRIMARY KEY (tenant_id, id)
		);
		CREATE TABLE IF NOT EXISTS %s (run bigint, writer int, number bigint NOT NULL, PRIMARY KEY (run, writer))`,
		p.table("orders"), p.table("order_writers")))
	if err != nil {
		return fmt.Errorf("make the producer's tables: %w", err)
	}
	for _, w := range p.writers {
		_, err := conn.Exec(ctx, `INSERT INTO `+p.table("order_writers")+` VALUES ($1, $2, 0) ON CONFLICT DO NOTHING`, p.ledger.run, w.index)
		if err != nil {
			return fmt.Errorf("register writer %d: %w", w.index, err)
		}
	}
	return nil
}

func (p *Producer) table(name string) string { return pgx.Identifier{p.cfg.Schema, name}.Sanitize() }

// Run writes until ctx ends, and then finishes the transactions that were begun. The error is one that repeating cannot mend; a lost
// connection is none. Run may be called again.
func (p *Producer) Run(ctx context.Context) error {
	return runAll(ctx, p.writers)
}

// Resolve finds out what became of the transactions that Run left unknown. It tries until ctx ends. Run must have returned.
func (p *Producer) Resolve(ctx context.Context) error {
	return resolveAll(ctx, p.writers)
}

// settle records what became of the events of a transaction.
func (p *Producer) settle(events []written, o outcome) {
	for _, e := range events {
		p.ledger.decide(e.id, o)
		c := p.countsOf(e.id)
		if o == committed {
			c.committed.Add(1)
		} else {
			c.rolledBack.Add(1)
		}
	}
}

// withdraw records a transaction that a failover has lost while its COMMIT was unanswered.
func (p *Producer) withdraw(events []written) {
	for i, e := range events {
		if e.undo {
			p.settle(events[i:i+1], rolledBack)
			continue
		}
		p.ledger.withdraw(e.id)
		p.countsOf(e.id).rolledBack.Add(1)
	}
}

func (p *Producer) countsOf(id eventID) *tenantCounts { return &p.counts[p.ledger.keys[id.key].tenant] }
