package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/apache/pulsar-client-go/pulsar"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/outboxd/outboxd/internal/workload"
)

// databaseWriter writes transactions into the outbox table.
type databaseWriter struct{ conn *pgx.Conn }

// NewDatabaseWriter returns a Writer into the backlog's table, which closes the connection.
func NewDatabaseWriter(ctx context.Context, b *Backlog, conn *pgx.Conn) (Writer, error) {
	statement := b.insert() + fmt.Sprintf(` FROM (SELECT %s AS tenants, %s AS topics, %s AS filler) c, generate_series($1::bigint, $2::bigint) n`,
		array(workload.Tenants(b.Tenants)), array(b.topicNames()), quote(b.filler()))
	if _, err := conn.Prepare(ctx, "write", statement); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare the load: %w", err), conn.Close(context.WithoutCancel(ctx)))
	}
	return &databaseWriter{conn}, nil
}

func (w *databaseWriter) Write(ctx context.Context, first, last int64, sending func()) error {
	batch := &pgx.Batch{}
	batch.Queue("BEGIN")
	batch.Queue("write", first, last)
	if err := w.conn.SendBatch(ctx, batch).Close(); err != nil {
		return err
	}
	sending()
	_, err := w.conn.Exec(ctx, "COMMIT")
	return err
}

func (w *databaseWriter) Close(ctx context.Context) error { return w.conn.Close(ctx) }

// redisWriter appends to streams, without a database: what an application would do that needs no outbox.
type redisWriter struct {
	backlog *Backlog
	client  *redis.Client
	names   []string
	body    string
}

func (w *redisWriter) Write(ctx context.Context, first, last int64, sending func()) error {
	pipe := w.client.Pipeline()
	for n := first; n <= last; n++ {
		pipe.XAdd(ctx, &redis.XAddArgs{Stream: w.names[n%int64(len(w.names))], Values: []string{"id", w.backlog.id(n), "payload", w.body}})
	}
	sending()
	_, err := pipe.Exec(ctx)
	return err
}

func (w *redisWriter) Close(context.Context) error { return nil }

// pulsarWriter sends to topics by the bare client, each message by itself and none waiting for another.
type pulsarWriter struct {
	backlog   *Backlog
	producers []pulsar.Producer
	body      []byte

	mu     sync.Mutex
	failed error // guarded by mu
}

func (w *pulsarWriter) Write(ctx context.Context, first, last int64, sending func()) error {
	sending()
	for n := first; n <= last; n++ {
		message := &pulsar.ProducerMessage{Payload: w.body, Key: strconv.FormatInt(n%int64(w.backlog.Keys), 10), Properties: map[string]string{"id": w.backlog.id(n)}}
		w.producers[n%int64(len(w.producers))].SendAsync(ctx, message, func(_ pulsar.MessageID, _ *pulsar.ProducerMessage, err error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.failed == nil {
				w.failed = err
			}
		})
	}
	return w.failure()
}

// failure is the first message's that was not sent, nil for none.
func (w *pulsarWriter) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed
}

func (w *pulsarWriter) Close(context.Context) error { return nil }
