//go:build resources

package torture

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os/exec"
	"testing"

	"github.com/redis/go-redis/v9"
)

var waitingKeys = flag.Int64("resources.keys", 100_000, "keys that wait")

// parkedStatus is what /status says of the table lane.
type parkedStatus struct {
	WaitingKeys   int64 `json:"waiting_keys"`
	WholeBacklogs int64 `json:"whole_backlogs"`
}

func (l *lone) parkedStatus() parkedStatus {
	l.t.Helper()
	answer, err := http.Get("http://" + l.metrics + "/status")
	l.must(err)
	defer answer.Body.Close()
	var status struct {
		Relay struct {
			Parked parkedStatus `json:"parked"`
		} `json:"relay"`
	}
	l.must(json.NewDecoder(answer.Body).Decode(&status))
	return status.Relay.Parked
}

// newKeys has a destination that will refuse, and one for other tenants.
func newKeys(t *testing.T, environ ...string) *lone {
	l := newLone(t, append(environ, "OUTBOXD_RETRY_MAX=2s", `OUTBOXD_ROUTES=[{to: [{sink: redis, destination: "keys:{tenant}:{topic}"}]}]`)...)
	l.environ = append(l.environ, "REDIS_URL="+l.server.URL)
	return l
}

const waiting = `SELECT count(*) FROM outboxd.parked WHERE state = 'waiting'`

// TestResourcesHundredThousandWaitingKeysDrainInOrder: an event of each key is refused as too large, so that each waits by itself.
func TestResourcesHundredThousandWaitingKeysDrainInOrder(t *testing.T) {
	const limit = "OUTBOXD_SINKS_REDIS_MAX_MESSAGE_BYTES="
	keys := *waitingKeys
	l := newKeys(t, "OUTBOXD_POLL_BACKOFF_BASE=1h")
	l.begin(limit + "1KiB")
	l.write(0, 2*keys, fmt.Sprintf(`'refused', 'orders', n %% %[1]d, CASE WHEN n < %[1]d THEN 2000 ELSE 10 END`, keys))
	l.othersFlow(2*keys, 1000)
	l.awaitNumber("events that wait", 2*keys, func() int64 { return l.count(waiting) })
	l.awaitNumber("keys that wait", keys, func() int64 { return l.parkedStatus().WaitingKeys })
	l.within(modest)

	l.end()
	l.begin(limit + "1KiB")
	l.awaitNumber("keys that wait after a restart", keys, func() int64 { return l.parkedStatus().WaitingKeys })
	l.write(2*keys+1000, 3*keys+1000, fmt.Sprintf(`'refused', 'orders', (n - 1000) %% %d, 10`, keys))
	l.othersFlow(3*keys+1000, 1000)
	l.awaitNumber("events that wait", 3*keys, func() int64 { return l.count(waiting) })
	l.within(modest)

	l.end()
	l.begin(limit + "64MiB")
	retry := exec.CommandContext(t.Context(), l.process.program, "events", "retry", "--all", "--yes")
	retry.Env = l.process.environ
	if answer, err := retry.CombinedOutput(); err != nil {
		t.Fatalf("events retry: %v\n%s", err, answer)
	}
	l.awaitNumber("events that wait when the cause is gone", 0, func() int64 { return l.count(waiting) })
	l.settled()
	l.within(modest)
	l.allOnRedis("keys:", 3*keys+2000)
}

// TestResourcesHundredThousandKeysOfARefusingDestinationDrainInOrder: the destination refuses everything, and its backlog waits as a whole.
func TestResourcesHundredThousandKeysOfARefusingDestinationDrainInOrder(t *testing.T) {
	const stream = "keys:refused:orders"
	keys, l := *waitingKeys, newKeys(t)
	client := redis.NewClient(&redis.Options{Addr: l.server.Addr})
	defer client.Close()
	l.must(client.Set(t.Context(), stream, "no stream", 0).Err())
	l.begin()
	l.write(0, 2*keys, fmt.Sprintf(`'refused', 'orders', n %% %d, 10`, keys))
	l.othersFlow(2*keys, 1000)
	l.awaitNumber("events that wait", 2*keys, func() int64 { return l.count(waiting) })
	l.within(modest)

	l.end()
	l.begin()
	l.othersFlow(2*keys+1000, 1000)
	l.within(modest)

	l.must(client.Del(t.Context(), stream).Err())
	l.awaitNumber("events that wait when the cause is gone", 0, func() int64 { return l.count(waiting) })
	l.settled()
	l.within(modest)
	l.allOnRedis("keys:", 2*keys+2000)
}

// othersFlow writes events that nobody refuses, and waits until they have arrived.
func (l *lone) othersFlow(from, events int64) {
	l.t.Helper()
	before := l.stored("keys:fine:")
	l.write(from, from+events, `'fine', 'orders', n % 10, 10`)
	l.awaitNumber("events of others", before+events, func() int64 { return l.stored("keys:fine:") })
}
