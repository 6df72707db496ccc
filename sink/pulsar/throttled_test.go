package pulsar

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/sink"
)

// The broker reads nothing from the connection of a namespace that has had more than its publish rate, for as long as that takes to be made up for.
func TestThrottledNamespaceHoldsUpNoneOfAnotherClient(t *testing.T) {
	server := testenv.Pulsar(t)
	s, _, _ := open(t, Config{URL: server.URL, AckStall: 2 * time.Second}) // three times that is less than the broker waits
	namespace := func(name string) string {
		t.Helper()
		name = fmt.Sprintf("public/%s-%d", name, time.Now().UnixNano())
		if status, answer := testenv.PulsarAdmin(t, server.AdminURL, http.MethodPut, "namespaces/"+name, struct{}{}); status/100 != 2 {
			t.Fatalf("make namespace %s: %d %s", name, status, answer)
		}
		return persistentScheme + name + "/orders"
	}
	throttled := namespace("throttled")
	path := "namespaces/" + strings.TrimSuffix(strings.TrimPrefix(throttled, persistentScheme), "/orders") + "/publishRate"
	if status, answer := testenv.PulsarAdmin(t, server.AdminURL, http.MethodPost, path, map[string]int{"publishThrottlingRateInMsg": 75, "publishThrottlingRateInByte": -1}); status/100 != 2 {
		t.Fatalf("limit the rate: %d %s", status, answer)
	}
	other := namespace("other")
	for slotOf(other) == slotOf(throttled) {
		other = namespace("other")
	}
	own(t, s, throttled)
	own(t, s, other)
	if results := s.Publish(t.Context(), slices.Repeat([]sink.Message{sized(throttled, 100)}, sink.MaxBatch)); results != nil {
		t.Fatalf("the first batch: %v", results[0])
	}
	stalled := make(chan []error, 1)
	go func() { stalled <- s.Publish(t.Context(), []sink.Message{sized(throttled, 100)}) }()
	slowest, published := time.Duration(0), 0
	for {
		select {
		case results := <-stalled:
			t.Logf("%d messages were published meanwhile, the slowest took %s", published, slowest)
			if len(results) != 1 || !errors.Is(results[0], errStalled) || published == 0 {
				t.Errorf("the throttled topic: %v", results)
			}
			return
		default:
		}
		began := time.Now()
		if results := s.Publish(t.Context(), []sink.Message{sized(other, 100)}); results != nil {
			t.Fatalf("the other topic: %v", results)
		}
		slowest, published = max(slowest, time.Since(began)), published+1
	}
}
