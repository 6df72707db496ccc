package torture

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/internal/workload"
)

// machine is what a server can be made to suffer.
type machine interface {
	Kill()
	Start()
	Stop()
	Freeze()
	Thaw()
	Running() bool
	FillDisk(room int64) error
	EmptyDisk() error
}

// broker is the sink's server, what outboxd is told of it, and who reads it.
type broker struct {
	machine
	redis     *redis.Client   // nil for Pulsar; past the proxies
	reader    workload.Reader // of what comes; one of its own, from open, reads everything
	open      func() (workload.Reader, error)
	upstreams []string // what each instance's proxy leads to
	proxies   []string // addresses that the proxies must listen on
	settings  func(proxy string) []string
	template  string // of the destinations
}

// destination is the place of an event by the template.
func (b *broker) destination(tenant, topic string) string {
	return strings.NewReplacer("{tenant}", tenant, "{topic}", topic).Replace(b.template)
}

// newBroker starts the broker of a sink, with a disk of its own or not.
func newBroker(t *testing.T, sink string, disk bool) *broker {
	start := newRedis
	if sink == "pulsar" {
		start = newPulsar
	}
	b := start(t, disk)
	var err error
	if b.reader, err = b.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.reader.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// newRedis starts a Redis that keeps what it has acknowledged. The instances use TLS, so that they notice corrupted connections.
func newRedis(t *testing.T, disk bool) *broker {
	pems, secured := testenv.NewCertificates(t), testenv.FreeAddress(t)
	server := testenv.NewRedis(t, testenv.RedisOptions{Disk: sizeOf(disk), Settings: []string{
		"appendonly yes", "appendfsync always", "tls-port " + secured[strings.LastIndex(secured, ":")+1:], "tls-auth-clients no",
		"tls-cert-file " + pems.ServerCert, "tls-key-file " + pems.ServerKey, "tls-ca-cert-file " + pems.CA,
	}})
	client := redis.NewClient(&redis.Options{Addr: server.Addr, MaxRetries: -1, ContextTimeoutEnabled: true})
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	const template = "torture:{tenant}:{topic}"
	return &broker{
		machine: server, redis: client, template: template,
		open:      func() (workload.Reader, error) { return workload.NewRedisReader(server.URL, "torture:") },
		upstreams: []string{secured, secured}, proxies: []string{testenv.FreeAddress(t), testenv.FreeAddress(t)},
		settings: func(proxy string) []string {
			return []string{
				"OUTBOXD_SINKS_REDIS_URL=rediss://" + proxy + "/0", "OUTBOXD_SINKS_REDIS_TLS_CA_FILE=" + pems.CA, "OUTBOXD_SINKS_REDIS_TIMEOUT=3s",
				"OUTBOXD_ROUTES=[{to: [{sink: redis, destination: '" + template + "'}]}]",
			}
		},
	}
}

// newPulsar starts a broker that keeps everything. It has a listener for each instance, which advertises that instance's proxy: what a client
// looks up leads it through its proxy again. They use TLS, so that the instances notice corrupted connections.
func newPulsar(t *testing.T, disk bool) *broker {
	pems := testenv.NewCertificates(t)
	var listeners, bindings, upstreams []string
	proxies := make([]string, 2)
	for i := range proxies {
		proxies[i], upstreams = testenv.FreeAddress(t), append(upstreams, testenv.FreeAddress(t))
		listeners = append(listeners, fmt.Sprintf("instance%d:pulsar+ssl://%s", i, proxies[i]))
		bindings = append(bindings, fmt.Sprintf("instance%d:pulsar+ssl://%s", i, upstreams[i]))
	}
	own := testenv.FreeAddress(t)
	_, ownPort, _ := strings.Cut(own, ":")
	settings := []string{
		"brokerServicePort=" + ownPort,
		"advertisedAddress=",
		"advertisedListeners=internal:pulsar://" + own + "," + strings.Join(listeners, ","),
		"internalListenerName=internal",
		"bindAddresses=" + strings.Join(bindings, ","),
		"tlsCertificateFilePath=" + pems.ServerCert, "tlsKeyFilePath=" + pems.ServerKey, "tlsTrustCertsFilePath=" + pems.CA,
		"defaultRetentionTimeInMinutes=-1", "defaultRetentionSizeInMB=-1",
	}
	if disk {
		settings = append(settings, bookieLimit...)
	}
	server := testenv.NewPulsar(t, testenv.PulsarOptions{Disk: sizeOf(disk), Settings: settings})
	const namespace = "torture/storm"
	open := func() (workload.Reader, error) {
		return workload.NewPulsarReader("pulsar://"+own, workload.PulsarTopics{AdminURL: server.AdminURL, Namespaces: []string{namespace}})
	}
	const template = "persistent://" + namespace + "/{tenant}.{topic}"
	return &broker{machine: server, open: open, template: template, upstreams: upstreams, settings: func(proxy string) []string {
		return []string{
			"OUTBOXD_SINKS_PULSAR_URL=pulsar+ssl://" + proxy, "OUTBOXD_SINKS_PULSAR_TLS_CA_FILE=" + pems.CA,
			"OUTBOXD_SINKS_PULSAR_ADMIN_URL=" + server.AdminURL, "OUTBOXD_SINKS_PULSAR_CREATE=true",
			"OUTBOXD_SINKS_PULSAR_TIMEOUT=5s",
			"OUTBOXD_ROUTES=[{to: [{sink: pulsar, destination: '" + template + "'}]}]",
		}
	}, proxies: proxies}
}

// arrivals reads everything that the broker holds, from the beginning.
func (b *broker) arrivals(ctx context.Context, l *workload.Ledger) (workload.Report, error) {
	reader, err := b.open()
	if err != nil {
		return workload.Report{}, err
	}
	checker := workload.NewChecker(l)
	checker.Destination = b.destination
	err = reader.ReadAll(ctx, func(r workload.Received) { checker.Add(r) })
	return checker.Report(), errors.Join(err, reader.Close())
}
