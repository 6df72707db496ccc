package pulsar_test

import (
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/sink/pulsar"
)

func TestConfigNamesEveryProblem(t *testing.T) {
	_, err := pulsar.New(pulsar.Config{
		URL: "http://broker:8080", Token: "hush-hush", Username: "u", Compression: "brotli", MaxProducers: -1, PendingBytes: -1,
		MaxMessageBytes: -1, AckStall: time.Minute, Timeout: time.Second, Create: true, TLS: sink.TLS{CertFile: "c.pem"},
	}, zerolog.Nop())
	if err == nil {
		t.Fatal("accepted")
	}
	for _, problem := range []string{
		"url must begin with pulsar://", "only one of token", "username and password", "cert_file and tls.key_file", "tls is set but",
		`compression is "brotli"`, "max_producers", "pending_bytes", "max_message_bytes", "timeout must be longer", "create needs admin_url",
	} {
		if !strings.Contains(err.Error(), problem) {
			t.Errorf("no word of %q in: %v", problem, err)
		}
	}
	if strings.Contains(err.Error(), "hush-hush") {
		t.Error("the error shows the token")
	}
}

func TestConfigRefusesCredentialsInURL(t *testing.T) {
	for _, c := range []pulsar.Config{{URL: "pulsar://me:hush-hush@broker:6650"}, {URL: "pulsar://b:6650", AdminURL: "http://me:hush-hush@b:8080"}} {
		_, err := pulsar.New(c, zerolog.Nop())
		if err == nil || strings.Contains(err.Error(), "hush-hush") {
			t.Errorf("%v", err)
		}
	}
}

func TestMissingFilesAreFoundAtStart(t *testing.T) {
	for _, c := range []pulsar.Config{
		{TokenFile: "/nowhere/token"},
		{TLS: sink.TLS{CAFile: "/nowhere/ca.pem"}},
		{TLS: sink.TLS{CertFile: "/nowhere/c.pem", KeyFile: "/nowhere/k.pem"}},
	} {
		c.URL = "pulsar+ssl://broker:6651"
		if _, err := pulsar.New(c, zerolog.Nop()); err == nil || !strings.Contains(err.Error(), "/nowhere/") {
			t.Errorf("%v", err)
		}
	}
}

// The hashes are those of org.apache.pulsar.client.impl.JavaStringHash and MathUtils.signSafeMod of Pulsar 4.0.8.
func TestPartitionAgreesWithTheJavaClient(t *testing.T) {
	var s pulsar.Sink
	for _, c := range []struct {
		key                   string
		of3, of7, of16, of100 int
	}{
		{"", 0, 0, 0, 0},
		{"acme/order/1", 0, 3, 11, 71},
		{"acme/order/2", 1, 4, 12, 72},
		{"acme/#018f", 1, 2, 13, 77},
		{"polygenelubricants", 0, 0, 0, 0}, // hashCode is the smallest int
		{"Zoë 🐘", 0, 4, 5, 21},
		{"東京/注文/7", 1, 2, 11, 55},
		{"globex/invoice/4711", 2, 2, 9, 81},
	} {
		for n, want := range map[int]int{3: c.of3, 7: c.of7, 16: c.of16, 100: c.of100} {
			if got := s.Partition([]byte(c.key), n); got != want {
				t.Errorf("partition of %q of %d: %d, want %d", c.key, n, got, want)
			}
		}
	}
}
