package pulsar_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/sink/pulsar"
	"github.com/outboxd/outboxd/sink/sinktest"
)

// TestOwnServer holds the tests that need a broker of their own, secured or to be killed: starting one takes long.
func TestOwnServer(t *testing.T) {
	own := testenv.NewPulsar(t, testenv.PulsarOptions{TLS: true, Settings: settings()})
	s := keeping(t, own)
	t.Run("Credentials", func(t *testing.T) { testCredentials(t, own) })
	t.Run("Conformance", func(t *testing.T) { sinktest.Run(t, harness(s, own)) })
	t.Run("KilledUnderLoadLosesAndDoublesNothing", func(t *testing.T) { testKilledUnderLoad(t, s, own, 2) })
}

func harness(s server, own *testenv.PulsarServer) sinktest.Harness {
	return sinktest.Harness{
		New:         func(t testing.TB) sink.Sink { return s.unowned(t) },
		Destination: s.topic,
		Read:        s.messages,
		Partitioned: func(t testing.TB) string {
			topic := s.topic(t)
			s.call(t, http.MethodPut, adminPath(topic)+"/partitions", 3, http.StatusNoContent)
			return topic
		},
		Append:           s.append,
		TooLarge:         2 << 20,
		Missing:          func(testing.TB) string { return "persistent://nobody/nowhere/nothing" },
		WrongCredentials: intruder(s),
		Unreachable: func(t testing.TB) sink.Sink {
			return server{url: "pulsar://127.0.0.1:1"}.unowned(t, func(c *pulsar.Config) { c.Timeout = 3 * time.Second })
		},
		Freeze:   s.freeze,
		Kill:     func(testing.TB) { own.Kill() },
		Start:    func(testing.TB) { own.Start() },
		Kills:    1,
		Patience: patience,
	}
}
