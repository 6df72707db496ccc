package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/outboxd/outboxd/internal/workload"
)

// pollBatch is how many rows a poll takes.
const pollBatch = 500

// polling is the loop that teams write: take NEW rows with FOR UPDATE SKIP LOCKED, publish them in one pipeline, mark them, commit.
func polling(ctx context.Context, f *Field) (run Run, err error) {
	if f.Admin != "" {
		return run, errors.New("the polling loop publishes to Redis only")
	}
	client, err := f.redis()
	if err != nil {
		return run, err
	}
	stream := f.Name + "-polling"
	reader := workload.NewRedisReaderOn(client, stream)
	defer func() { err = errors.Join(err, reader.Delete(context.WithoutCancel(ctx)), reader.Close()) }()
	table := f.Backlog.Table.Sanitize()
	// The index that such a table has.
	if _, err := f.Conn.Exec(ctx, `CREATE INDEX ON `+table+` (created_at, id) WHERE status = 'NEW'; ANALYZE `+table); err != nil {
		return run, fmt.Errorf("make the index of the polling loop: %w", err)
	}
	before, beforeBroker := Known(CPU(os.Getpid())), Known(reader.CPU(ctx))
	began := time.Now()
	var watched Watched
	for n := -1; n != 0; {
		if n, err = poll(ctx, f.Conn, client, table, stream); err != nil {
			return run, err
		}
		if watched.Entries == 0 {
			watched.First, watched.AtFirst = time.Since(began), int64(n)
		}
		if n > 0 {
			watched.Entries, watched.Last = watched.Entries+int64(n), time.Since(began)
			f.Seen(watched.Entries)
		}
	}
	run = NewRun("polling", watched, f.Backlog.Payload)
	run.CPU.Tool = PerMillion(Used(before, Known(CPU(os.Getpid()))), run.Entries)
	run.CPU.Broker = PerMillion(Used(beforeBroker, Known(reader.CPU(ctx))), run.Entries)
	tally := NewTally(f.Backlog)
	tally.Unordered = true // created_at is not the order of commits
	if err := reader.ReadAll(ctx, tally.Add); err != nil {
		return run, err
	}
	return run, tally.Err()
}

// poll delivers one batch and returns its size.
func poll(ctx context.Context, conn *pgx.Conn, client *redis.Client, table, stream string) (n int, err error) {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return 0, fmt.Errorf("begin a poll: %w", err)
	}
	defer func() {
		if err != nil {
			_ = tx.Rollback(context.WithoutCancel(ctx)) // the first error says more
		}
	}()
	rows, err := tx.Query(ctx, `SELECT id::text, tenant_id, aggregate_type, aggregate_id, topic, occurred_at, payload::text, event_metadata::text
		FROM `+table+` WHERE status = 'NEW' ORDER BY created_at, id LIMIT $1 FOR UPDATE SKIP LOCKED`, pollBatch)
	if err != nil {
		return 0, fmt.Errorf("poll: %w", err)
	}
	var ids []string
	pipeline := client.Pipeline()
	var id, tenant, kind, key, topic, payload, metadata string
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&id, &tenant, &kind, &key, &topic, &at, &payload, &metadata}, func() error {
		ids = append(ids, id)
		pipeline.XAdd(ctx, &redis.XAddArgs{Stream: stream, Values: []any{
			"id", id, "tenant_id", tenant, "aggregate_type", kind, "aggregate_id", key, "topic", topic,
			"occurred_at", at.Format(time.RFC3339Nano), "payload", payload, "metadata", metadata,
		}})
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("poll: %w", err)
	}
	if len(ids) > 0 {
		if _, err := pipeline.Exec(ctx); err != nil {
			return 0, fmt.Errorf("publish a poll: %w", err)
		}
		if _, err := tx.Exec(ctx, `UPDATE `+table+` SET status = 'SENT' WHERE id = ANY ($1::text[]::uuid[])`, ids); err != nil {
			return 0, fmt.Errorf("mark a poll: %w", err)
		}
	}
	return len(ids), tx.Commit(ctx)
}
