package testenv_test

import (
	"testing"
	"time"

	"github.com/apache/pulsar-client-go/pulsar"
	plog "github.com/apache/pulsar-client-go/pulsar/log"

	"github.com/outboxd/outboxd/internal/testenv"
)

const topic = "persistent://public/default/kept"

func pulsarClient(t *testing.T, o pulsar.ClientOptions) pulsar.Client {
	t.Helper()
	o.Logger, o.OperationTimeout = plog.DefaultNopLogger(), 30*time.Second
	client, err := pulsar.NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func publish(t *testing.T, client pulsar.Client) {
	t.Helper()
	producer, err := client.CreateProducer(pulsar.ProducerOptions{Topic: topic})
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	if _, err := producer.Send(t.Context(), &pulsar.ProducerMessage{Payload: []byte("kept")}); err != nil {
		t.Fatal(err)
	}
}

func TestAKilledPulsarStartsAgainWithItsData(t *testing.T) {
	server := testenv.NewPulsar(t, testenv.PulsarOptions{TLS: true})
	publish(t, pulsarClient(t, pulsar.ClientOptions{URL: server.TLSURL, TLSTrustCertsFilePath: server.Certificates.CA}))
	server.Kill()
	if server.Running() {
		t.Fatal("the killed broker runs")
	}
	server.Start()
	client := pulsarClient(t, pulsar.ClientOptions{URL: server.URL})
	reader, err := client.CreateReader(pulsar.ReaderOptions{Topic: topic, StartMessageID: pulsar.EarliestMessageID()})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if message, err := reader.Next(t.Context()); err != nil || string(message.Payload()) != "kept" {
		t.Fatalf("read %v, %v", message, err)
	}
	publish(t, client)
}
