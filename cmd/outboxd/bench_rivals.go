package main

import (
	"context"
	"strings"

	"github.com/outboxd/outboxd/internal/bench"
)

// rivals are those that only read the log, which go before outboxd, and the one that changes the rows.
func (b *bencher) rivals() (before, after []string) {
	for _, name := range b.o.against {
		if name == "polling" {
			after = append(after, name)
		} else {
			before = append(before, name)
		}
	}
	return before, after
}

// compete lets the rivals deliver the backlog, one after the other. One that fails is left out with a note: it does not spoil the others.
func (b *bencher) compete(ctx context.Context, names []string) error {
	sink := b.cfg.Sinks[b.sink]
	for _, name := range names {
		showing := b.app.newProgress("events delivered by "+name, b.o.rows, b.o.output.value)
		f := &bench.Field{
			Backlog: b.backlog, Conn: b.conn, Database: b.cfg.Database.URL.Reveal(), Slot: b.schema, Publication: b.schema, End: b.end,
			Folder: b.dir, Debezium: b.o.debezium, Name: "outboxd-bench-" + b.id, Seen: func(n int64) { showing.set(int(n)) },
		}
		if sink.Redis != nil {
			f.Broker = sink.Redis.URL.Reveal()
		} else {
			f.Broker, f.Admin = sink.Pulsar.URL.Reveal(), sink.Pulsar.AdminURL.Reveal()
		}
		run, err := bench.Rivals[name](ctx, f)
		showing.end()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			b.say("%s is left out: %v", name, err)
			reason, _, _ := strings.Cut(err.Error(), "\n") // the end of a log is behind it
			b.result.Notes = append(b.result.Notes, name+" is left out: "+reason)
			continue
		}
		b.result.Runs = append(b.result.Runs, run)
	}
	return nil
}
