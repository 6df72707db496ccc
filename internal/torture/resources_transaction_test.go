//go:build resources

package torture

import (
	"context"
	"errors"
	"flag"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// modest is the memory that outboxd is to live in, in MB.
const modest = 128

var transactionBytes = flag.Float64("resources.bytes", 5e9, "payload of the large transaction")

// TestResourcesTransactionOfGigabytesPassesInModestMemory: one transaction, one destination. Redis keeps only what is not read yet.
func TestResourcesTransactionOfGigabytesPassesInModestMemory(t *testing.T) {
	const payload, stream = 8 << 10, "large:acme:orders"
	rows := int64(*transactionBytes) / payload
	l := newLone(t, `OUTBOXD_ROUTES=[{to: [{sink: redis, destination: "large:{tenant}:{topic}"}]}]`)
	l.environ = append(l.environ, "REDIS_URL="+l.server.URL)
	l.room(4 * int64(*transactionBytes))                                         // the table, its log, what the walsender puts aside, and as much again
	l.must(l.patiently(`ALTER TABLE outbox ALTER payload SET STORAGE EXTERNAL`)) // repeat('x') would be compressed
	l.begin()
	f := l.follow(stream)
	began := time.Now()
	l.write(0, rows, `'acme', 'orders', n % 100, `+"8192")
	t.Logf("%d rows of %d bytes were committed after %v", rows, payload, time.Since(began).Round(time.Second))
	l.awaitNumber("events that arrived", rows, f.arrived.Load)
	t.Logf("%.1f GB arrived %v after INSERT began", float64(rows*payload)/1e9, time.Since(began).Round(time.Second))
	l.settled()
	f.finish()
	if f.judged.n != rows {
		t.Errorf("%d events arrived, want %d", f.judged.n, rows)
	}
	l.within(modest)
}

// room fails the test where the disk cannot hold so much.
func (l *lone) room(need int64) {
	l.t.Helper()
	var disk syscall.Statfs_t
	l.must(syscall.Statfs(l.dir, &disk))
	if free := int64(disk.Bavail) * disk.Bsize; free < need {
		l.t.Fatalf("the disk has %.1f GB free, this needs %.1f: free some, or choose a smaller transaction by SIZE", float64(free)/1e9, float64(need)/1e9)
	}
}

// follower reads a stream while it grows, and removes what it has read but for the last pages, which outboxd goes by after a restart.
type follower struct {
	arrived atomic.Int64
	judged  *arrivals // once finish has returned
	finish  func()
}

func (l *lone) follow(stream string) *follower {
	client := redis.NewClient(&redis.Options{Addr: l.server.Addr})
	ctx, cancel := context.WithCancel(l.t.Context())
	f, ended := &follower{judged: newArrivals(l.t)}, make(chan error, 1)
	go func() { ended <- errors.Join(f.read(ctx, client, stream), client.Close()) }()
	f.finish = func() {
		l.t.Helper()
		cancel()
		l.must(<-ended)
	}
	l.t.Cleanup(cancel)
	return f
}

func (f *follower) read(ctx context.Context, client *redis.Client, stream string) error {
	const page = 1000 // as large as a batch may be
	last, mark, since := "0-0", "0-0", 0
	for {
		found, err := client.XRead(ctx, &redis.XReadArgs{Streams: []string{stream, last}, Count: page, Block: time.Second}).Result()
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, redis.Nil) {
			continue
		}
		if err != nil {
			return err
		}
		entries := found[0].Messages
		for _, e := range entries {
			id, _ := e.Values["id"].(string)
			key, _ := e.Values["aggregate_id"].(string)
			f.judged.add(stream, key, id)
		}
		f.arrived.Add(int64(len(entries)))
		last = entries[len(entries)-1].ID
		if since += len(entries); since < page {
			continue // less than a page would stay behind what is read
		}
		if err := client.XTrimMinID(ctx, stream, mark).Err(); err != nil && ctx.Err() == nil {
			return err
		}
		mark, since = last, 0
	}
}
