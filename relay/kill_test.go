package relay_test

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/testenv"
)

// writer is an application that commits events with rising seq, three in a transaction, until it is ended. When its
// connection breaks it opens another and goes on with the next seq, whatever became of the last transaction.
type writer struct {
	rig          *rig
	ctx          context.Context
	cancel       context.CancelFunc
	done         sync.WaitGroup
	acknowledged atomic.Int64  // events whose commit was acknowledged
	known        map[int]bool  // their seq
	pause        time.Duration // between two transactions
}

const perTransaction = 3

func (r *rig) write(pause time.Duration) *writer {
	ctx, cancel := context.WithCancel(context.Background())
	w := &writer{rig: r, ctx: ctx, cancel: cancel, known: make(map[int]bool), pause: pause}
	w.done.Go(w.run)
	r.t.Cleanup(w.end)
	return w
}

// end stops the writer; afterwards known may be read.
func (w *writer) end() {
	w.cancel()
	w.done.Wait()
}

func (w *writer) run() {
	tick := time.NewTicker(w.pause)
	defer tick.Stop()
	for first := 0; w.ctx.Err() == nil; {
		conn, err := pgx.Connect(w.ctx, w.rig.url)
		for err == nil {
			_, err = conn.Exec(context.WithoutCancel(w.ctx), `INSERT INTO outbox (tenant_id, aggregate_id, topic, occurred_at, payload)
				SELECT 'acme', 'k', 'orders', now(), jsonb_build_object('seq', i) FROM generate_series($1::int, $1::int + $2::int - 1) i`, first, perTransaction)
			if err == nil {
				for i := range perTransaction {
					w.known[first+i] = true
				}
				w.acknowledged.Add(perTransaction)
				err = w.ctx.Err()
			}
			first += perTransaction
			<-tick.C
		}
		if conn != nil {
			_ = conn.Close(context.Background())
		}
		<-tick.C
	}
}

// seqs returns what the stream holds, in order.
func (r *rig) seqs(name string) []int {
	r.t.Helper()
	entries, err := r.redis.XRange(r.t.Context(), r.stream(name), "-", "+").Result()
	if err != nil {
		r.t.Fatal(err)
	}
	all := make([]int, len(entries))
	for i, e := range entries {
		var body struct{ Seq int }
		text, _ := e.Values["payload"].(string)
		if err := json.Unmarshal([]byte(text), &body); err != nil {
			r.t.Fatalf("entry %d of %s: %v", i, name, err)
		}
		all[i] = body.Seq
	}
	return all
}

// committed returns the seq of every row in the table; one writer writes them in order.
func (r *rig) committed() []int {
	r.t.Helper()
	rows, err := r.conn.Query(r.t.Context(), `SELECT (payload->>'seq')::int FROM outbox ORDER BY 1`)
	if err != nil {
		r.t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		r.t.Fatal(err)
	}
	return all
}

// arrivedOnce waits until every committed event has arrived, and checks that each is there once and in order.
func (r *rig) arrivedOnce(w *writer) {
	r.t.Helper()
	w.end()
	want := r.committed()
	for seq := range w.known {
		if _, found := slices.BinarySearch(want, seq); !found {
			r.t.Fatalf("the commit of event %d was acknowledged, its row is gone", seq)
		}
	}
	r.eventually("every event", func() bool { return r.length("acme:orders") >= int64(len(want)) })
	if got := r.seqs("acme:orders"); !slices.Equal(got, want) {
		r.t.Fatalf("the stream holds %d events, the table %d, and not the same in the same order:\n%v\n%v", len(got), len(want), got, want)
	}
	r.eventually("every row is SENT", func() bool { return r.count(`SELECT count(*) FROM outbox WHERE status <> 'SENT'`) == 0 })
}

// durableRedis is a Redis that loses nothing that it acknowledged.
func durableRedis(t *testing.T) *testenv.RedisServer {
	return testenv.NewRedis(t, testenv.RedisOptions{Settings: []string{"appendonly yes", "appendfsync always"}})
}

func TestRedisKilledUnderLoadLosesAndDoublesNothing(t *testing.T) {
	redis := durableRedis(t)
	r := newRig(t, "", redis.URL)
	r.start(nil)
	w := r.write(time.Millisecond)
	for range 5 {
		before := r.length("acme:orders")
		r.eventually("the stream grows", func() bool { return r.length("acme:orders") > before+50 })
		redis.Kill()
		behind := w.acknowledged.Load()
		r.eventually("events wait", func() bool { return w.acknowledged.Load() > behind+100 })
		redis.Start()
	}
	r.arrivedOnce(w)
}

func TestPostgresKilledUnderLoadLosesAndDoublesNothing(t *testing.T) {
	postgres := testenv.NewPostgres(t, testenv.PostgresOptions{})
	r := newRig(t, postgres.Database(t), "")
	r.start(nil)
	w := r.write(time.Millisecond)
	for range 4 {
		before := r.length("acme:orders")
		r.eventually("the stream grows", func() bool { return r.length("acme:orders") > before+50 })
		postgres.Kill()
		postgres.Start()
	}
	r.conn = r.connect()
	r.arrivedOnce(w)
}
