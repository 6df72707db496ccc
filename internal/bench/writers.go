package bench

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

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
