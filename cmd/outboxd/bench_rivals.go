package main

import (
	"context"
	"strings"

	"github.com/outboxd/outboxd/internal/bench"
)

// rivals are those that only read the log, which go before outboxd, and those that change rows, and so write to the log.
func (b *bencher) rivals() (before, after []string) {
	for _, name := range b.o.against {
		if name == "polling" || name == bench.Update {
			after = append(after, name)
		} else {
			before = append(before, name)
		}
	}
	return before, after
}

// field is where the rivals compete.
func (b *bencher) field(seen func(int64)) *bench.Field {
	f := &bench.Field{
		Backlog: b.backlog, Conn: b.conn, Database: b.cfg.Database.URL.Reveal(), Slot: b.schema, Publication: b.schema, End: b.end,
		Folder: b.dir, Debezium: b.o.debezium, Name: "outboxd-bench-" + b.id, Seen: seen,
	}
	sink := b.cfg.Sinks[b.sink]
	if sink.Redis != nil {
		f.Broker = sink.Redis.URL.Reveal()
	} else {
		f.Broker, f.Admin = sink.Pulsar.URL.Reveal(), sink.Pulsar.AdminURL.Reveal()
	}
	return f
}

// compete lets the rivals deliver the backlog, one after the other. One that fails is left out with a note: it does not spoil the others.
func (b *bencher) compete(ctx context.Context, names []string) error {
	for _, name := range names {
		showing := b.app.newProgress("events delivered by "+name, b.o.rows, b.o.output.value)
		run, err := bench.Rivals[name](ctx, b.field(func(n int64) { showing.set(int(n)) }))
		showing.end()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			b.leaveOut(name, err)
			continue
		}
		b.result.Runs = append(b.result.Runs, run)
	}
	return nil
}

func (b *bencher) leaveOut(rival string, err error) {
	b.say("%s is left out: %v", rival, err)
	reason, _, _ := strings.Cut(err.Error(), "\n") // the end of a log is behind it
	b.result.Notes = append(b.result.Notes, rival+" is left out: "+reason)
}
