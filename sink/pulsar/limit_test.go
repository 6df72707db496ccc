package pulsar

import (
	"testing"

	"github.com/rs/zerolog"
)

// Brokers can differ in what they take, while their settings are changed one after the other, and each says it at the beginning of its connection.
func TestSmallestLimitThatABrokerOfThisSessionNamesHolds(t *testing.T) {
	s := &Sink{cfg: Config{}.WithDefaults(), producers: newProducers(), heard: &overheard{}}
	l := clientLogger{log: zerolog.Nop(), heard: s.heard, client: new(byte)}
	holds := func(when string, want int64) {
		t.Helper()
		if got := s.maxMessageSize(); got != want {
			t.Errorf("%s: the limit is %d, want %d", when, got, want)
		}
	}
	for _, c := range []struct {
		says int32
		want int64
	}{{4 << 20, 4 << 20}, {1 << 20, 1 << 20}, {4 << 20, 1 << 20}} {
		l.Debug(lineMaxMessageSize, c.says)
		holds("after a handshake", c.want)
	}
	s.BeginSession()
	holds("in a new session", 1<<20)
	l.Debug(lineMaxMessageSize, int32(4<<20))
	holds("after its first handshake", 4<<20)
}
