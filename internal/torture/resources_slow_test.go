//go:build resources

package torture

import (
	"net/url"
	"testing"
	"time"

	"github.com/outboxd/outboxd/internal/testenv"
)

// byteASecond lets one byte a second pass to the broker, and one back.
var byteASecond = []toxic{
	{kind: "slicer", stream: "upstream", attributes: `{"average_size": 1, "delay": 1000000}`},
	{kind: "slicer", stream: "downstream", attributes: `{"average_size": 1, "delay": 1000000}`},
}

// TestResourcesBrokerThatAcceptsAByteASecondHoldsUpNoOther: every event goes to two brokers, one of them behind a leg that has all but come to a stop.
func TestResourcesBrokerThatAcceptsAByteASecondHoldsUpNoOther(t *testing.T) {
	const before, meanwhile, payload = 1000, 20_000, 4096 // two and a half times the budget
	l := newLone(t, "OUTBOXD_RETRY_MAX=2s", `OUTBOXD_ROUTES=[{to: [{sink: redis, destination: "quick:{tenant}:{topic}"}, {sink: redis_slow, destination: "slow:{tenant}:{topic}"}]}]`)
	server, err := url.Parse(l.server.URL)
	l.must(err)
	leg := *server
	leg.Host = testenv.FreeAddress(t)
	l.must(l.network.open(0, legBroker, leg.Host, server.Host))
	l.flags = []string{"--set", "sinks.redis.url=" + l.server.URL, "--set", "sinks.redis_slow.url=" + leg.String()}
	l.begin()
	const events = `'tenant-' || n % 10, 'orders', n % 1000, 4096`
	l.write(0, before, events)
	l.settled()

	heal, err := poison(l.network.proxy(0, legBroker), everyConnection, byteASecond...)
	l.must(err)
	began := time.Now()
	for n := int64(before); n < before+meanwhile; n += 1000 {
		l.write(n, n+1000, events)
	}
	end := l.count(`SELECT (pg_current_wal_lsn() - '0/0')::bigint`)
	arrived := func(prefix string) func() int64 { return func() int64 { return l.stored(prefix) } }
	l.awaitNumber("events at the quick broker", before+meanwhile, arrived("quick:"))
	l.await("the log is confirmed past all of them", func() bool {
		return l.count(`SELECT (confirmed_flush_lsn - '0/0')::bigint FROM pg_replication_slots WHERE slot_name = $1`, slot) >= end
	})
	slow, parked := l.stored("slow:"), l.count(`SELECT count(*) FROM outboxd.parked WHERE sink = 'redis_slow' AND state = 'waiting'`)
	t.Logf("after %v the slow broker has %d of %d events, %d wait in the table", time.Since(began).Round(time.Second), slow, before+meanwhile, parked)
	if slow+parked < before+meanwhile || parked == 0 {
		t.Errorf("%d events are at the slow broker and %d wait for it, want %d together", slow, parked, before+meanwhile)
	}
	if inFlight, budget := l.gauge("outboxd_in_flight_bytes"), float64(32<<20); inFlight > budget {
		t.Errorf("%.0f bytes are in flight, the budget is %.0f", inFlight, budget)
	}
	l.within(modest)

	l.must(heal())
	l.awaitNumber("events at the slow broker, once it is healed", before+meanwhile, arrived("slow:"))
	l.settled()
	l.within(modest)
	l.allOnRedis("quick:", before+meanwhile)
	l.allOnRedis("slow:", before+meanwhile)
}
