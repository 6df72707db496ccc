package torture

import (
	"context"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"
)

// seesWhatIsWrong spoils a good result in each way, and wants each to be found.
func (r *rig) seesWhatIsWrong(t *testing.T) {
	ctx := t.Context()
	client := r.broker.redis
	var stream string
	var entries []redis.XMessage
	for _, name := range client.Keys(ctx, "torture:*").Val() {
		if all := client.XRange(ctx, name, "-", "+").Val(); len(all) > len(entries) {
			stream, entries = name, all
		}
	}
	write := func(stream string, values map[string]any) {
		r.must(client.XAdd(ctx, &redis.XAddArgs{Stream: stream, Values: values}).Err())
	}
	for _, c := range []struct {
		name  string
		spoil func()
		sees  func(*report) int
	}{
		{"doubled", func() { write(stream, entries[0].Values) }, func(r *report) int { return r.Verdict.Doubled.Count }},
		{"corrupted", func() {
			values := entries[1].Values
			values["payload"] = "{}"
			write(stream, values)
		}, func(r *report) int { return r.Verdict.Corrupted.Count }},
		{"misplaced", func() { write("torture:nobody:order.paid", entries[2].Values) }, func(r *report) int { return r.Verdict.Misplaced.Count }},
		{"lost", func() { r.must(client.XDel(ctx, stream, entries[3].ID).Err()) }, func(r *report) int { return r.Verdict.Missing.Count }},
		{"unsettled", func() {
			_, err := r.exec(`UPDATE public.outbox SET status = 'NEW' WHERE id = (SELECT min(id::text)::uuid FROM public.outbox)`)
			r.must(err)
		}, func(r *report) int { return r.Left.Unsettled }},
		{"out of order", func() { r.reverse(ctx, stream) }, func(r *report) int { return r.Verdict.OutOfOrder.Count }},
	} {
		c.spoil()
		result := r.conclude()
		if result.OK() || c.sees(result) == 0 {
			t.Errorf("%s is not seen: %s", c.name, result)
		}
	}
}

// reverse turns the order of a stream around.
func (r *rig) reverse(ctx context.Context, stream string) {
	entries := r.broker.redis.XRange(ctx, stream, "-", "+").Val()
	slices.Reverse(entries)
	r.must(r.broker.redis.Del(ctx, stream).Err())
	for _, e := range entries {
		r.must(r.broker.redis.XAdd(ctx, &redis.XAddArgs{Stream: stream, Values: e.Values}).Err())
	}
}
