package pulsar_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	client "github.com/apache/pulsar-client-go/pulsar"
	"github.com/apache/pulsar-client-go/pulsar/crypto"

	"github.com/outboxd/outboxd/sink/pulsar"
)

// publicKey is a key with which others encrypt.
type publicKey []byte

// PublicKey returns it.
func (k publicKey) PublicKey(name string, _ map[string]string) (*crypto.EncryptionKeyInfo, error) {
	return crypto.NewEncryptionKeyInfo(name, k, nil), nil
}

// PrivateKey fails: it is somebody else's.
func (publicKey) PrivateKey(string, map[string]string) (*crypto.EncryptionKeyInfo, error) {
	return nil, errors.New("there is none")
}

func newPublicKey(t testing.TB) publicKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// foreign is what somebody else appends, which the client does not give to a reader as it is.
type foreign struct {
	name     string
	options  client.ProducerOptions
	messages int
	body     int // bytes of each
}

func foreigns(t testing.TB) []foreign {
	encryption := &client.ProducerEncryptionInfo{KeyReader: newPublicKey(t), Keys: []string{"theirs"}}
	return []foreign{
		{"Empty", client.ProducerOptions{DisableBatching: true}, 3, 0},
		{"Encrypted", client.ProducerOptions{DisableBatching: true, Encryption: encryption}, 3, 10},
		{"EncryptedBatch", client.ProducerOptions{BatchingMaxPublishDelay: time.Minute, Encryption: encryption}, 3, 10},
		{"Chunked", client.ProducerOptions{DisableBatching: true, EnableChunking: true, ChunkMaxMessageSize: 100}, 1, 350},
	}
}

// appendForeign lets somebody else append to the topic, which nobody holds.
func (s server) appendForeign(t testing.TB, topic string, f foreign) {
	t.Helper()
	f.options.Topic = topic
	p, err := s.plain(t).CreateProducer(f.options)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ended := make(chan error, f.messages)
	for range f.messages {
		p.SendAsync(t.Context(), &client.ProducerMessage{Payload: make([]byte, f.body)}, func(_ client.MessageID, _ *client.ProducerMessage, err error) { ended <- err })
	}
	if err := p.FlushWithCtx(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range f.messages {
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
}

// The client gives none of these entries to a reader, or not the last of their messages.
func TestEntriesThatNoReaderIsGivenDoNotShutATopic(t *testing.T) {
	s := sharedServer(t)
	quick := func(c *pulsar.Config) { c.Timeout = 10 * time.Second }
	wantOurs := func(t *testing.T, topic string, n, ours int) {
		t.Helper()
		p := s.unowned(t, quick)
		defer closeSink(t, p)
		var ids []string
		for _, e := range mustTail(t, p, topic, n) {
			if !e.Position.IsZero() {
				ids = append(ids, e.ID)
			}
		}
		if len(ids) != ours || ours > 0 && ids[ours-1] != fmt.Sprintf("id-%d", ours) {
			t.Fatalf("of %d entries ours are %v, want %d", n, ids, ours)
		}
		mustPublish(t, p, messages(topic, ours+1, ours+2, 10))
	}
	for _, f := range foreigns(t) {
		t.Run(f.name, func(t *testing.T) {
			topic := s.topic(t)
			s.appendForeign(t, topic, f)
			wantOurs(t, topic, 10, 0) // nothing else is there
			s.appendForeign(t, topic, f)
			wantOurs(t, topic, 10, 2) // behind ours
			wantOurs(t, topic, 10, 4) // before ours
			s.call(t, http.MethodPut, adminPath(topic)+"/unload", nil, http.StatusNoContent)
			s.appendForeign(t, topic, f)
			wantOurs(t, topic, 20, 6) // in a ledger of their own
		})
	}
}

// A message in chunks of which only the last ones are read back takes the reader's place for a message, and does not give it back.
func TestTailThatBeginsWithinAChunkedMessageIsRead(t *testing.T) {
	s := sharedServer(t)
	topic := s.topic(t)
	for _, f := range foreigns(t) {
		if f.name == "Chunked" {
			s.appendForeign(t, topic, f)
		}
	}
	p := s.open(t)
	mustTail(t, p, topic, 1)
	mustPublish(t, p, messages(topic, 1, 1, 10))
	mustPublish(t, p, messages(topic, 2, 2, 10))
	wantTail(t, s.open(t, func(c *pulsar.Config) { c.Timeout = 10 * time.Second }), topic, 2, 2)
	for n := 1; n <= 6; n++ {
		if entries := mustTail(t, p, topic, n); len(entries) < min(n, 2) || entries[len(entries)-1].ID != "id-2" {
			t.Fatalf("tail of %d: %v", n, entries)
		}
	}
}
