package workload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/apache/pulsar-client-go/pulsar"
	pulsarlog "github.com/apache/pulsar-client-go/pulsar/log"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	pulsarTimeout = 5 * time.Second  // of one request
	readTimeout   = 20 * time.Second // for a message that the topic holds
)

// PulsarReader reads topics. Reading one that does not exist makes it, where the broker allows that.
type PulsarReader struct {
	client     pulsar.Client
	admin      string
	namespaces []string
	topics     []string
}

var _ Reader = (*PulsarReader)(nil)

// PulsarTopics says what a PulsarReader reads: the topics of these names (of all their partitions), or, when there are none,
// all persistent topics of the namespaces, which the admin URL is asked for.
type PulsarTopics struct {
	Names      []string
	AdminURL   string   // http://host:port; also needed by Delete
	Namespaces []string // as tenant/namespace
}

// NewPulsarReader connects when it is first used.
func NewPulsarReader(url string, t PulsarTopics) (*PulsarReader, error) {
	return NewPulsarReaderWith(pulsar.ClientOptions{URL: url}, t)
}

// NewPulsarReaderWith is NewPulsarReader with the URL, the authentication and the TLS settings of options.
func NewPulsarReaderWith(options pulsar.ClientOptions, t PulsarTopics) (*PulsarReader, error) {
	client, err := pulsar.NewClient(pulsar.ClientOptions{
		URL: options.URL, Authentication: options.Authentication, TLSConfig: options.TLSConfig,
		OperationTimeout: pulsarTimeout, ConnectionTimeout: pulsarTimeout, Logger: pulsarlog.DefaultNopLogger(),
		MetricsCardinality: pulsar.MetricsCardinalityNone, MetricsRegisterer: prometheus.NewRegistry(), MemoryLimitBytes: 64 << 20,
	})
	if err != nil {
		return nil, fmt.Errorf("make a client of Pulsar: %w", err)
	}
	return &PulsarReader{client: client, admin: strings.TrimSuffix(t.AdminURL, "/"), namespaces: t.Namespaces, topics: t.Names}, nil
}

// Close ends the connections.
func (r *PulsarReader) Close() error {
	r.client.Close()
	return nil
}

// isMissing tells whether the broker says that there is no such topic, namespace or tenant.
func isMissing(err error) bool { return err != nil && strings.Contains(err.Error(), "TopicNotFound") }

// Topics returns the names of the topics, each partition by itself. One whose namespace does not exist is left out.
func (r *PulsarReader) Topics(ctx context.Context) ([]string, error) {
	var all []string
	for _, name := range r.topics {
		partitions, err := r.client.TopicPartitions(name)
		if isMissing(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look up topic %s: %w", name, err)
		}
		all = append(all, partitions...)
	}
	if len(r.topics) > 0 {
		return all, nil
	}
	for _, namespace := range r.namespaces {
		code, answer, err := r.call(ctx, http.MethodGet, "/admin/v2/persistent/"+namespace)
		if code == http.StatusNotFound {
			continue
		}
		var found []string
		if err == nil {
			err = json.Unmarshal(answer, &found)
		}
		if err != nil {
			return nil, fmt.Errorf("list the topics of %s: %w", namespace, err)
		}
		all = append(all, found...)
	}
	return all, nil
}

// call asks the admin API. The status is returned beside the error of a refusal.
func (r *PulsarReader) call(ctx context.Context, method, path string) (status int, answer []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, pulsarTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, r.admin+path, http.NoBody)
	if err != nil {
		return 0, nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(answer)))
	}
	return resp.StatusCode, answer, err
}

// Delete deletes the topics by the admin API, producers or not.
func (r *PulsarReader) Delete(ctx context.Context) error {
	topics, err := r.Topics(ctx)
	if err != nil {
		return err
	}
	var failed []error
	for _, topic := range topics {
		path := "/admin/v2/persistent/" + strings.TrimPrefix(topic, "persistent://") + "?force=true"
		if code, _, err := r.call(ctx, http.MethodDelete, path); err != nil && code != http.StatusNotFound {
			failed = append(failed, fmt.Errorf("delete topic %s: %w", topic, err))
		}
	}
	return errors.Join(failed...)
}

// Break makes the topics refuse every message: it terminates them by the admin API, after it has made those that are missing.
func (r *PulsarReader) Break(ctx context.Context) error {
	for _, topic := range r.topics {
		path := "/admin/v2/persistent/" + strings.TrimPrefix(topic, "persistent://")
		if code, _, err := r.call(ctx, http.MethodPut, path); err != nil && code != http.StatusConflict {
			return fmt.Errorf("make topic %s: %w", topic, err)
		}
		if _, _, err := r.call(ctx, http.MethodPost, path+"/terminate"); err != nil {
			return fmt.Errorf("terminate topic %s: %w", topic, err)
		}
	}
	return nil
}

// Version returns the broker's version, by the admin API.
func (r *PulsarReader) Version(ctx context.Context) (string, error) {
	_, answer, err := r.call(ctx, http.MethodGet, "/admin/v2/brokers/version")
	if err != nil {
		return "", fmt.Errorf("ask Pulsar for its version: %w", err)
	}
	return strings.TrimSpace(string(answer)), nil
}

// open makes a reader that begins with the first message of a topic.
func (r *PulsarReader) open(topic string) (pulsar.Reader, error) {
	reader, err := r.client.CreateReader(pulsar.ReaderOptions{Topic: topic, StartMessageID: pulsar.EarliestMessageID()})
	if err != nil {
		return nil, fmt.Errorf("read topic %s: %w", topic, err)
	}
	return reader, nil
}

// ReadAll reads every message of every topic.
func (r *PulsarReader) ReadAll(ctx context.Context, handle func(Received)) error {
	topics, err := r.Topics(ctx)
	if err != nil {
		return err
	}
	for _, topic := range topics {
		if err := r.readAll(ctx, topic, handle); err != nil {
			return err
		}
	}
	return nil
}

func (r *PulsarReader) readAll(ctx context.Context, topic string, handle func(Received)) error {
	reader, err := r.open(topic)
	if isMissing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer reader.Close()
	last, err := reader.GetLastMessageID()
	if err != nil {
		return fmt.Errorf("ask for the end of topic %s: %w", topic, err)
	}
	for at := pulsar.EarliestMessageID(); last.EntryID() >= 0 && before(at, last); {
		m, err := nextMessage(ctx, reader)
		if err != nil {
			return fmt.Errorf("read topic %s, which ends at %v: %w", topic, last, err)
		}
		handle(fromPulsar(topic, m))
		at = m.ID()
	}
	return nil
}

func nextMessage(ctx context.Context, reader pulsar.Reader) (pulsar.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return reader.Next(ctx)
}

// before orders ids of one topic.
func before(a, b pulsar.MessageID) bool {
	if a.LedgerID() != b.LedgerID() {
		return a.LedgerID() < b.LedgerID()
	}
	if a.EntryID() != b.EntryID() {
		return a.EntryID() < b.EntryID()
	}
	return a.BatchIdx() < b.BatchIdx()
}

// Follow reads the topics as they grow.
func (r *PulsarReader) Follow(ctx context.Context, handle func(Received), trouble func(error)) {
	var mu sync.Mutex // of handle and trouble
	followed := map[string]bool{}
	var all sync.WaitGroup
	defer all.Wait()
	for ctx.Err() == nil {
		topics, err := r.Topics(ctx)
		if err != nil && ctx.Err() == nil {
			mu.Lock()
			trouble(err)
			mu.Unlock()
		}
		for _, topic := range topics {
			if !followed[topic] {
				followed[topic] = true
				all.Go(func() { r.follow(ctx, topic, &mu, handle, trouble) })
			}
		}
		Sleep(ctx, lookInterval)
	}
}

// follow reads one topic. The client itself connects again and goes on where it was.
func (r *PulsarReader) follow(ctx context.Context, topic string, mu *sync.Mutex, handle func(Received), trouble func(error)) {
	var reader pulsar.Reader
	for reader == nil {
		var err error
		if reader, err = r.open(topic); err == nil {
			break
		}
		mu.Lock()
		trouble(err)
		mu.Unlock()
		if !Sleep(ctx, retryInterval) {
			return
		}
	}
	defer reader.Close()
	for {
		m, err := reader.Next(ctx)
		if ctx.Err() != nil {
			return
		}
		mu.Lock()
		if err == nil {
			handle(fromPulsar(topic, m))
		} else {
			trouble(fmt.Errorf("read topic %s: %w", topic, err))
		}
		mu.Unlock()
		if err != nil && !Sleep(ctx, retryInterval) {
			return
		}
	}
}

func fromPulsar(topic string, m pulsar.Message) Received {
	p, key := m.Properties(), m.Key()
	id := m.ID()
	entry := fmt.Sprintf("%d:%d:%d", id.LedgerID(), id.EntryID(), id.BatchIdx())
	return understand(message{
		id: p["id"], tenant: p["tenant_id"], topic: p["topic"],
		aggregateType: p["aggregate_type"], aggregateID: p["aggregate_id"], key: &key, body: m.Payload(),
	}, topic, entry, m.PublishTime())
}

// Count returns how many messages the topics have taken since the broker loaded them, by the admin API.
func (r *PulsarReader) Count(ctx context.Context) (sum int64, err error) {
	topics, err := r.Topics(ctx)
	if err != nil {
		return 0, err
	}
	for _, topic := range topics {
		code, answer, err := r.call(ctx, http.MethodGet, "/admin/v2/persistent/"+strings.TrimPrefix(topic, "persistent://")+"/stats")
		if code == http.StatusNotFound {
			continue
		}
		var stats struct {
			Taken int64 `json:"msgInCounter"`
		}
		if err == nil {
			err = json.Unmarshal(answer, &stats)
		}
		if err != nil {
			return 0, fmt.Errorf("count the messages of topic %s: %w", topic, err)
		}
		sum += stats.Taken
	}
	return sum, nil
}

// CPU is the processor time that the broker says it has used, by its metrics; false where it does not tell.
func (r *PulsarReader) CPU(ctx context.Context) (time.Duration, bool) {
	_, answer, err := r.call(ctx, http.MethodGet, "/metrics/")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(answer)) {
		if !strings.HasPrefix(line, "process_cpu_seconds_total") {
			continue
		}
		fields := strings.Fields(line)
		seconds, err := strconv.ParseFloat(fields[1], 64)
		return time.Duration(seconds * float64(time.Second)), err == nil
	}
	return 0, false
}
