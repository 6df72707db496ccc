package workload

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/migrations"
)

// A COMMIT without an answer whose transaction is not there was never in the log, unless another server answers now.
func TestOnlyAFailoverTakesACommitBack(t *testing.T) {
	primary := testenv.NewPostgres(t, testenv.PostgresOptions{})
	conn, err := pgx.Connect(t.Context(), primary.URL)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := migrations.Up(t.Context(), conn, migrations.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	p, err := NewProducer(Config{URL: primary.URL, Writers: 1, MaxEvents: 1, Rollbacks: -1, Savepoints: -1})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := p.writers[0]
	if err := w.connection.connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.number, w.doubt, w.doubtOn = w.number+1, w.plan(1), w.timeline
	lost := w.doubt[0].id
	if err := p.Resolve(t.Context()); err != nil || p.ledger.isWithdrawn(lost) {
		t.Errorf("COMMIT did not reach the server that runs: resolved with %v, and taken for one that a failover took back", err)
	}

	standby, err := primary.Standby(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := standby.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	standby.Kill()
	for w.doubt == nil { // the commit is on the primary's disk, and waits for the standby
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		err := attempt(ctx, w, func(ctx context.Context) error { return w.transact(ctx, 1) })
		cancel()
		if w.connection.hangUp(); err == nil {
			t.Fatal("a commit does not wait for its standby")
		}
	}
	lost = w.doubt[0].id
	primary.Kill()
	standby.Start()
	if err := standby.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.cfg.URL = standby.URL
	if err := p.Resolve(t.Context()); err != nil || !p.ledger.isWithdrawn(lost) {
		t.Errorf("a failover took the commit back: resolved with %v, and not known", err)
	}
	if c := p.Totals(); c.Committed != 0 || c.RolledBack < 2 {
		t.Errorf("counted %+v", c)
	}
}
