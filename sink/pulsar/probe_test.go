package pulsar_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	client "github.com/apache/pulsar-client-go/pulsar"

	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/sink/pulsar"
)

// namespace makes a namespace of the test's own and returns its name.
func (s server) namespace(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("public/n%d", time.Now().UnixNano())
	s.call(t, http.MethodPut, "namespaces/"+name, struct{}{}, http.StatusNoContent)
	return name
}

// wantRefused fails the test unless the probe says why the destination, and not the whole broker, refuses everything.
func wantRefused(t *testing.T, p *pulsar.Sink, topic, why string) {
	t.Helper()
	err := p.Probe(t.Context(), topic)
	if sink.ClassOf(err) != sink.Unavailable || sink.BrokerDown(err) || !sink.FateKnown(err) || !strings.Contains(err.Error(), why) {
		t.Errorf("probe: class %s, the whole broker %v, want one with %q: %v", sink.ClassOf(err), sink.BrokerDown(err), why, err)
	}
}

// refuses tells whether the probe says so by now: at first it may fail for something else, such as a connection that the broker ends.
func refuses(t *testing.T, p *pulsar.Sink, topic, why string) bool {
	t.Helper()
	err := p.Probe(t.Context(), topic)
	return err != nil && strings.Contains(err.Error(), why)
}

func mustProbe(t *testing.T, p *pulsar.Sink, topic string) {
	t.Helper()
	if err := p.Probe(t.Context(), topic); err != nil {
		t.Errorf("probe: %v", err)
	}
}

// A producer that is open holds the topic, whatever becomes of that; the batch that fails closes it.
func TestProbeTellsATerminatedTopic(t *testing.T) {
	s := sharedServer(t)
	p, topic := s.open(t), s.topic(t)
	mustTail(t, p, topic, 1)
	mustPublish(t, p, messages(topic, 1, 2, 1))
	s.call(t, http.MethodPost, adminPath(topic)+"/terminate", nil, http.StatusOK)
	if results := p.Publish(t.Context(), messages(topic, 3, 3, 1)); results == nil || sink.BrokerDown(results[0]) {
		t.Errorf("results: %v", results)
	}
	for range 2 {
		wantRefused(t, p, topic, "erminated")
		if _, err := p.Tail(t.Context(), topic, 1); sink.ClassOf(err) != sink.Unavailable || !strings.Contains(err.Error(), "erminated") {
			t.Errorf("tail: %v", err)
		}
	}
}

func TestProbeTellsADeletedNamespace(t *testing.T) {
	s := sharedServer(t)
	namespace := s.namespace(t)
	p, topic := s.open(t), "persistent://"+namespace+"/orders"
	mustTail(t, p, topic, 1)
	mustPublish(t, p, messages(topic, 1, 2, 1))
	mustProbe(t, p, topic)
	s.call(t, http.MethodDelete, adminPath(topic)+"?force=true", nil, http.StatusNoContent)
	waitUntil(t, "the namespace is deleted", func() bool { return s.try(t, http.MethodDelete, "namespaces/"+namespace) })
	wantRefused(t, p, topic, "pulsar-admin namespaces create "+namespace)
	s.call(t, http.MethodPut, "namespaces/"+namespace, struct{}{}, http.StatusNoContent)
	mustProbe(t, p, topic)
}

func TestProbeTellsAnExceededQuota(t *testing.T) {
	s := sharedServer(t)
	for _, policy := range []string{"producer_exception", "producer_request_hold"} {
		t.Run(policy, func(t *testing.T) {
			namespace := s.namespace(t)
			p, topic := s.open(t), "persistent://"+namespace+"/orders"
			mustTail(t, p, topic, 1)
			reader, err := s.plain(t).Subscribe(client.ConsumerOptions{Topic: topic, SubscriptionName: "slow"})
			if err != nil {
				t.Fatal(err)
			}
			defer reader.Close()
			mustPublish(t, p, messages(topic, 1, 100, 1000))
			mustProbe(t, p, topic)
			quota := map[string]any{"limitSize": 1000, "limitTime": -1, "policy": policy}
			s.call(t, http.MethodPost, "namespaces/"+namespace+"/backlogQuota", quota, http.StatusNoContent)
			waitUntil(t, "the quota is in force", func() bool { return refuses(t, p, topic, "Quota") })
			wantRefused(t, p, topic, "Quota")
			s.call(t, http.MethodDelete, "namespaces/"+namespace+"/backlogQuota", nil, http.StatusNoContent)
			waitUntil(t, "the quota is lifted", func() bool { return p.Probe(t.Context(), topic) == nil })
			l := lane{sink: p, topic: topic, next: 101} // the broker may have ended the producer meanwhile
			if !l.readTail(t.Context()) {
				t.Fatal(l.err)
			}
			mustPublish(t, p, messages(topic, 101, 105, 10))
			s.wantIDs(t, topic, 105)
		})
	}
}

// Before anything is published the end of a topic is read, by a subscription.
func TestProbeTellsThatTheEndMayNotBeRead(t *testing.T) {
	s := sharedServer(t)
	for _, c := range []struct {
		policy string
		value  any
		says   string
	}{
		{"subscriptionTypesEnabled", []string{"Shared"}, "sub type!"},
		{"maxConsumersPerTopic", 1, "max consumers"},
	} {
		t.Run(c.policy, func(t *testing.T) {
			namespace := s.namespace(t)
			p, topic := s.open(t), "persistent://"+namespace+"/orders"
			mustProbe(t, p, topic)
			reader, err := s.plain(t).Subscribe(client.ConsumerOptions{Topic: topic, SubscriptionName: "theirs", Type: client.Shared})
			if err != nil {
				t.Fatal(err)
			}
			defer reader.Close()
			s.call(t, http.MethodPost, "namespaces/"+namespace+"/"+c.policy, c.value, http.StatusNoContent)
			waitUntil(t, "the policy is in force", func() bool { return refuses(t, p, topic, c.says) })
			wantRefused(t, p, topic, c.says)
			if _, err := p.Tail(t.Context(), topic, 1); sink.ClassOf(err) != sink.Unavailable || !strings.Contains(err.Error(), c.says) {
				t.Errorf("tail: class %s: %v", sink.ClassOf(err), err)
			}
			s.call(t, http.MethodDelete, "namespaces/"+namespace+"/"+c.policy, nil, http.StatusNoContent)
			waitUntil(t, "the policy is lifted", func() bool { return p.Probe(t.Context(), topic) == nil })
			mustTail(t, p, topic, 1)
		})
	}
}

func TestProbeLeavesEveryProducerAlone(t *testing.T) {
	s := sharedServer(t)
	p, newer, topic := s.open(t), s.open(t), s.topic(t)
	mustTail(t, p, topic, 1)
	mustPublish(t, p, messages(topic, 1, 1, 1))
	mustProbe(t, p, topic)
	mustProbe(t, newer, topic) // of the same outbox, so it would take over
	mustPublish(t, p, messages(topic, 2, 2, 1))
	wantRefused(t, s.open(t, func(c *pulsar.Config) { c.Name = func() string { return "another" } }), topic, "another producer holds the topic")
	mustPublish(t, p, messages(topic, 3, 3, 1))
	s.wantIDs(t, topic, 3)

	shared, err := s.plain(t).CreateProducer(client.ProducerOptions{Topic: s.topic(t), Name: "billing-8"})
	if err != nil {
		t.Fatal(err)
	}
	wantRefused(t, p, shared.Topic(), "another producer holds the topic")
	if _, err := shared.Send(t.Context(), &client.ProducerMessage{Payload: []byte("goes on")}); err != nil {
		t.Error(err)
	}
}

// A probe's own producer is gone before the next tail asks for one.
func TestTailGoesOnAfterEachProbe(t *testing.T) {
	s := sharedServer(t)
	p, topic := s.open(t), s.topic(t)
	for i := range 10 {
		mustProbe(t, p, topic)
		if i%2 == 0 {
			wantTail(t, p, topic, 20, i/2)
			mustPublish(t, p, messages(topic, i/2+1, i/2+1, 1))
		}
	}
	s.wantIDs(t, topic, 5)
}
