package pulsar

import (
	"testing"

	client "github.com/apache/pulsar-client-go/pulsar"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/sink"
)

// written is a message that somebody wrote.
type written struct {
	client.Message
	properties map[string]string
}

// Properties returns what stands beside the body.
func (w written) Properties() map[string]string { return w.properties }

// FuzzEntryOf takes the properties of a message, which anybody may have published. They stop nothing, and what is read of them is what they say:
// without a position nothing counts as landed by it.
func FuzzEntryOf(f *testing.F) {
	f.Add("e1", "1764000000:0/16B3748:2", "1764000000:0/16B3740:1", "1", uint8(15))
	f.Add("e1", "1:0/1:1", "", "", uint8(3))
	f.Add("e1", "x", "1:0/1:1", "1", uint8(15))
	f.Add("", "1:0/1:1", "1:0/1:1:1", "-1", uint8(15))
	f.Fuzz(func(t *testing.T, id, position, frontier, replay string, there uint8) {
		properties := map[string]string{}
		for i, p := range [][2]string{{sink.HeaderID, id}, {sink.HeaderPosition, position}, {sink.HeaderFrontier, frontier}, {sink.HeaderReplay, replay}} {
			if there&(1<<i) != 0 {
				properties[p[0]] = p[1]
			}
		}
		got := entryOf(written{properties: properties})
		want, err := event.ParsePosition(properties[sink.HeaderPosition])
		if got.ID != properties[sink.HeaderID] || !got.Position.IsZero() && (err != nil || got.Position != want) {
			t.Errorf("%q is read as %+v", properties, got)
		}
		if got.Position.IsZero() && (!got.Frontier.IsZero() || got.Replay != 0) {
			t.Errorf("%q has no position and is read as %+v", properties, got)
		}
		if f, err := event.ParsePosition(properties[sink.HeaderFrontier]); !got.Frontier.IsZero() && (err != nil || f != got.Frontier) {
			t.Errorf("the frontier of %q is read as %s", properties, got.Frontier)
		}
	})
}

// FuzzParseTopic: a topic that is accepted is written as it was read.
func FuzzParseTopic(f *testing.F) {
	for _, name := range []string{"persistent://t/n/a", "persistent://t/n/a-partition-3", "non-persistent://t/n/a", "t/n/a", "persistent://t//a", "persistent://t/n/a/b", ""} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if parsed, err := parseTopic(name); err == nil && parsed.String() != name {
			t.Errorf("%q is written as %q", name, parsed)
		}
	})
}
