package pulsar_test

import (
	"fmt"
	"hash/fnv"
	"net/http"
	"strings"
	"testing"

	"github.com/outboxd/outboxd/internal/testenv"
)

// neighbour returns the name of a namespace that shares its connection with the other.
func neighbour(of string) string {
	slot := func(namespace string) uint32 {
		h := fnv.New32a()
		_, _ = h.Write([]byte("persistent://" + namespace)) // never fails
		return h.Sum32() % 8
	}
	for i := 0; ; i++ {
		if name := fmt.Sprintf("public/unserved%d", i); slot(name) == slot(of) {
			return name
		}
	}
}

// No broker may own the one namespace. The client loses the connection to the broker by each look at it.
func TestNamespaceWithoutABrokerStopsNoOther(t *testing.T) {
	t.Parallel()
	server := testenv.NewPulsar(t, testenv.PulsarOptions{Settings: []string{
		"loadManagerClassName=org.apache.pulsar.broker.loadbalance.impl.ModularLoadManagerImpl", "loadBalancerEnabled=true",
	}})
	s := keeping(t, server)
	const policy = "clusters/standalone/namespaceIsolationPolicies/nobody"
	namespace := neighbour("public/default")
	s.call(t, http.MethodPut, "namespaces/"+namespace, struct{}{}, http.StatusNoContent)
	s.call(t, http.MethodPost, policy, map[string]any{
		"namespaces": []string{namespace}, "primary": []string{"nobody.*"}, "secondary": []string{},
		"auto_failover_policy": map[string]any{"policy_type": "min_available", "parameters": map[string]string{"min_limit": "1", "usage_threshold": "80"}},
	}, http.StatusNoContent)
	p, good := s.open(t), s.topic(t)
	looks := map[string]func(topic string) error{
		"Probe": func(topic string) error { return p.Probe(t.Context(), topic) },
		"Tail":  func(topic string) error { _, err := p.Tail(t.Context(), topic, 1); return err },
	}
	wantUnserved := func(topic int) {
		t.Helper()
		for name, look := range looks {
			if err := look(fmt.Sprintf("persistent://%s/t%d", namespace, topic)); err == nil || !strings.Contains(err.Error(), "ServiceNotReady") {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
	wantUnserved(0) // the first look is by the client, and costs its connection
	mustTail(t, p, good, 1)
	for i := range 5 {
		wantUnserved(i)
		mustPublish(t, p, messages(good, i+1, i+1, 10))
	}
	s.call(t, http.MethodDelete, policy, nil, http.StatusNoContent)
	for name, look := range looks {
		waitUntil(t, name+" succeeds", func() bool { return look("persistent://"+namespace+"/"+name) == nil })
	}
	mustPublish(t, p, messages(good, 6, 6, 10))
}
