package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/outboxd/outboxd/internal/bench"
)

// versioned is a reader that knows its server's version.
type versioned interface {
	Version(ctx context.Context) (string, error)
}

// describe notes what is measured, and where.
func (b *bencher) describe(ctx context.Context) error {
	m := bench.ThisMachine()
	var server string
	if err := b.conn.QueryRow(ctx, `SELECT split_part(current_setting('server_version'), ' ', 1)`).Scan(&server); err != nil {
		return fmt.Errorf("ask PostgreSQL for its version: %w", err)
	}
	m.Versions = append(m.Versions, "outboxd "+version, "PostgreSQL "+server)
	if r, ok := b.broker.reader.(versioned); ok {
		v, err := r.Version(ctx)
		if err != nil {
			return err
		}
		name := "Redis "
		if b.cfg.Sinks[b.sink].Pulsar != nil {
			name = "Pulsar "
		}
		m.Versions = append(m.Versions, strings.TrimSpace(name+v))
	}
	m.Settings = append(b.settled, b.given...)
	o := &b.o
	b.result.Machine = m
	rows := o.rows
	if o.rate > 0 {
		rows = int(o.rate * o.duration.Seconds())
	}
	b.result.Load = bench.Load{
		Rows: rows, Transaction: o.transaction, PayloadBytes: o.payload, Tenants: o.tenants, Topics: o.topics, Keys: o.keys,
		Shards: o.shards, Destinations: o.tenants * o.topics * o.shards, Sink: b.sink, OnSent: o.onSent.value, Indexes: o.indexes.value, Waiting: o.waiting, Old: o.old,
	}
	return nil
}

func (b *bencher) print() error {
	switch b.o.output.value {
	case "json":
		return b.app.printJSON(b.result)
	case "markdown":
		return b.app.print("%s", b.result.Markdown())
	default:
		return b.app.print("%s", b.result.Text())
	}
}
