package pulsar

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	client "github.com/apache/pulsar-client-go/pulsar"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/sink"
)

// trimming is a client of a topic whose first message is trimmed as soon as somebody has read it.
type trimming struct{ client.Client }

// CreateReader returns a reader, whose messages are trimmed if it begins with the first.
func (c trimming) CreateReader(o client.ReaderOptions) (client.Reader, error) {
	r, err := c.Client.CreateReader(o)
	if err == nil && o.StartMessageID == client.EarliestMessageID() {
		r = trimmedReader{r}
	}
	return r, err
}

type trimmedReader struct{ client.Reader }

// Next returns the next message.
func (r trimmedReader) Next(ctx context.Context) (client.Message, error) {
	m, err := r.Reader.Next(ctx)
	return trimmed{m}, err
}

type trimmed struct{ client.Message }

// ID is that of an entry that is there no more.
func (trimmed) ID() client.MessageID { return client.NewMessageID(0, 0, 0, 0) }

func TestTailEndsThoughTheFirstMessageWasTrimmedMeanwhile(t *testing.T) {
	server := testenv.Pulsar(t)
	s, topic, _ := open(t, Config{URL: server.URL})
	own(t, s, topic)
	path := "persistent/" + strings.TrimPrefix(topic, persistentScheme) + "/unload"
	for range 2 { // in two ledgers
		if results := s.Publish(t.Context(), []sink.Message{sized(topic, 10), sized(topic, 10)}); results != nil {
			t.Fatal(results)
		}
		if status, answer := testenv.PulsarAdmin(t, server.AdminURL, http.MethodPut, path, nil); status != http.StatusNoContent {
			t.Fatalf("unload: %d %s", status, answer)
		}
		own(t, s, topic)
	}
	s.mu.Lock()
	c := s.clients[slotOf(topic)]
	c.Client = trimming{c.Client}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	entries, err := s.Tail(ctx, topic, 100)
	if err != nil || len(entries) != 4 {
		t.Errorf("%d entries of 4: %v", len(entries), err)
	}
}
