package relay_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	client "github.com/apache/pulsar-client-go/pulsar"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/sink/pulsar"
)

// The claims share one broker.
func TestTableLaneOnPulsar(t *testing.T) {
	broker := testenv.NewPulsar(t, testenv.PulsarOptions{Settings: []string{"backlogQuotaCheckIntervalInSeconds=1"}})
	for _, claim := range []struct {
		name  string
		shows func(*pulsarRig)
	}{
		{"TerminatedTopicIsParkedUntilItIsMadeAnew", terminatedTopic},
		{"MissingNamespaceIsParkedUntilItIsThere", missingNamespace},
		{"MissingTopicIsParkedUntilItIsThereWithPartitions", missingPartitionedTopic},
		{"TopicMadeAnewWithPartitionsGetsWhatWasParked", partitionedAnew},
		{"TopicMadeAnewWithFewerPartitionsGetsWhatWasParked", fewerPartitions},
		{"TopicMadeAnewWithFewerPartitionsUnderARelay", fewerPartitionsLive},
		{"ExceededQuotaIsParkedUntilItIsLifted", exceededQuota},
		{"RefusedEventHoldsItsKeyAtItsPartition", refusedAtPartition},
		{"EventOnItsWayIsNotLostWhenPartitionsAreAdded", addedPartition},
		{"MoreTopicsThanProducersAreNoFailure", moreTopicsThanProducers},
	} {
		t.Run(claim.name, func(t *testing.T) { claim.shows(newPulsarRig(t, broker)) })
	}
}

// A broker that is killed can lose a ledger of its own, which it then never reads again ("Digest mismatch", "Error while recovering ledger error code: -10"; seen
// twice, with a broker that had deleted topics before): nothing can be delivered to that topic, and another broker has to show the claim.
func TestKilledPulsarIsParkedForAndDrained(t *testing.T) {
	for try := 1; try <= 3; try++ {
		var lost error
		if !t.Run(fmt.Sprintf("Broker%d", try), func(t *testing.T) {
			if lost = brokerKilled(newPulsarRig(t, testenv.NewPulsar(t, testenv.PulsarOptions{}))); lost != nil {
				t.Logf("the broker lost what it had acknowledged: %v", lost)
			}
		}) || lost == nil {
			return
		}
	}
	t.Error("no broker of three serves its topics again after it was killed")
}

const pulsarEvents = 1000

// While memory is short one failure of a destination is enough for all that waits there to be parked.
func moreTopicsThanProducers(r *pulsarRig) {
	const topics, events, keys = 6, 2000, 7
	tenant := func(i int) string { return fmt.Sprintf("t%d", i) }
	for i := range topics {
		r.create(tenant(i))
	}
	r.cfg.MemoryBudget = 1 << 20
	run := r.run(func(c *pulsar.Config) { c.MaxProducers, c.AckStall = 2, patience/3 }) // a busy broker is no failure
	for first := 0; first < events; first += events / 10 {
		r.exec(`INSERT INTO outbox (tenant_id, aggregate_type, aggregate_id, topic, occurred_at, payload)
			SELECT 't' || i % $3, 'order', (i / $3 % $4)::text, 'orders', now(), jsonb_build_object('seq', i / $3, 'pad', repeat('x', 500))
			FROM generate_series($1::int * $3::int, $2::int * $3::int - 1) i`, first, first+events/10, topics, keys)
	}
	for i := range topics {
		r.sent(tenant(i), events)
		r.once(tenant(i), 0, events, keys, r.read(r.topic(tenant(i))))
	}
	for name, value := range run.metrics(r.t) {
		if value > 0 && (strings.HasPrefix(name, "outboxd_parked_events_total") || strings.HasPrefix(name, "outboxd_destination_failures_total")) {
			r.t.Errorf("%s: %g", name, value)
		}
	}
}

func terminatedTopic(r *pulsarRig) {
	r.create("acme", "broken")
	run := r.run()
	r.insert("broken", 0, 100, 7)
	r.sent("broken", 100)
	r.onTopic(http.MethodPost, "broken", "/terminate", nil)
	for i := range 5 {
		r.insert("broken", 100+i*pulsarEvents/5, pulsarEvents/5, 7)
		r.insert("acme", i*pulsarEvents/5, pulsarEvents/5, 7)
	}
	r.sent("acme", pulsarEvents)
	r.parkedAlone(run, pulsarEvents, "erminated")
	r.once("the terminated topic", 0, 100, 7, r.read(r.topic("broken")))
	r.onTopic(http.MethodDelete, "broken", "?force=true", nil)
	r.insert("broken", 100+pulsarEvents, 100, 7)
	r.settled()
	r.once("the new topic", 100, 200+pulsarEvents, 7, r.read(r.topic("broken")))
	r.once("the other tenant's", 0, pulsarEvents, 7, r.read(r.topic("acme")))
}

func missingNamespace(r *pulsarRig) {
	r.create("acme")
	run := r.run()
	r.insert("late", 0, pulsarEvents, 7)
	r.insert("acme", 0, pulsarEvents, 7)
	r.sent("acme", pulsarEvents)
	r.parkedAlone(run, pulsarEvents, "namespaces create")
	run.crash()
	run = r.run()
	r.insert("late", pulsarEvents, 100, 7)
	r.parkedAlone(run, pulsarEvents+100, "namespaces create")
	r.create("late")
	r.insert("late", pulsarEvents+100, 100, 7)
	r.settled()
	r.once("the late topic", 0, pulsarEvents+200, 7, r.read(r.topic("late")))
	r.once("the other tenant's", 0, pulsarEvents, 7, r.read(r.topic("acme")))
}

// A namespace in which topics are made by people is the rule where they have partitions.
func missingPartitionedTopic(r *pulsarRig) {
	r.create("acme")
	run := r.run()
	r.insert("late", 0, pulsarEvents, 7)
	r.parkedAlone(run, pulsarEvents, "namespaces create")
	r.call(http.MethodPut, "namespaces/"+r.namespace("late"), map[string]any{
		"autoTopicCreationOverride": map[string]any{"allowAutoTopicCreation": false},
	})
	r.insert("late", pulsarEvents, 100, 7)
	r.parkedAlone(run, pulsarEvents+100, "TopicNotFound")
	r.onTopic(http.MethodPut, "late", "/partitions", 3)
	r.insert("late", pulsarEvents+100, 100, 7)
	r.settled()
	r.once("the partitions", 0, pulsarEvents+200, 7, r.partitions("late", 3)...)
}

func partitionedAnew(r *pulsarRig) {
	r.create("broken")
	run := r.run()
	r.insert("broken", 0, 100, 7)
	r.sent("broken", 100)
	r.onTopic(http.MethodPost, "broken", "/terminate", nil)
	r.insert("broken", 100, pulsarEvents, 7)
	r.parkedAlone(run, pulsarEvents, "erminated")
	r.call(http.MethodPost, "namespaces/"+r.namespace("broken")+"/autoTopicCreation", map[string]any{"allowAutoTopicCreation": false})
	r.onTopic(http.MethodDelete, "broken", "?force=true", nil)
	r.onTopic(http.MethodPut, "broken", "/partitions", 3)
	r.insert("broken", 100+pulsarEvents, 100, 7)
	r.settled()
	r.once("the partitions", 100, 200+pulsarEvents, 7, r.partitions("broken", 3)...)
}

func fewerPartitions(r *pulsarRig) {
	r.create("broken")
	r.onTopic(http.MethodPut, "broken", "/partitions", 4)
	run := r.run(refuseLarge)
	for key := range 7 {
		r.insertLarge("broken", fmt.Sprint(key), key)
	}
	r.insert("broken", 7, 93, 7)
	r.eventually("all of them wait", func() bool { return r.parked(`state = 'waiting'`) == 100 })
	run.crash()
	if r.parked(`destination LIKE '%-partition-2'`) == 0 || r.parked(`destination LIKE '%-partition-3'`) == 0 {
		r.t.Fatal("nothing waits at the partitions that go")
	}
	r.exec(`UPDATE outboxd.parked SET state = 'dead' WHERE destination LIKE '%-partition-3'`)
	r.onTopic(http.MethodDelete, "broken", "/partitions?force=true", nil)
	r.onTopic(http.MethodPut, "broken", "/partitions", 2)
	r.run()
	r.eventually("only what is dead is left", func() bool { return r.parked(`state = 'waiting'`) == 0 })
	r.retry()
	r.settled()
	r.insert("broken", 100, 100, 7)
	r.settled()
	r.once("the partitions", 0, 200, 7, r.partitions("broken", 2)...)
}

func fewerPartitionsLive(r *pulsarRig) {
	r.create("broken")
	r.onTopic(http.MethodPut, "broken", "/partitions", 4)
	r.run()
	r.insert("broken", 0, 100, 7)
	r.sent("broken", 100)
	r.onTopic(http.MethodDelete, "broken", "/partitions?force=true", nil)
	r.onTopic(http.MethodPut, "broken", "/partitions", 2)
	r.insert("broken", 100, 100, 7)
	r.settled()
	r.once("the partitions", 100, 200, 7, r.partitions("broken", 2)...)
}

func exceededQuota(r *pulsarRig) {
	r.create("acme", "full")
	run := r.run()
	slow, err := r.client.Subscribe(client.ConsumerOptions{Topic: r.topic("full"), SubscriptionName: "slow"})
	if err != nil {
		r.t.Fatal(err)
	}
	defer slow.Close()
	r.insert("full", 0, pulsarEvents, 7)
	r.sent("full", pulsarEvents)
	quota := map[string]any{"limitSize": 1000, "limitTime": -1, "policy": "producer_exception"}
	r.call(http.MethodPost, "namespaces/"+r.namespace("full")+"/backlogQuota", quota)
	next := pulsarEvents
	r.eventually("events are parked", func() bool {
		r.insert("full", next, 10, 7)
		next += 10
		return r.parked(`state = 'waiting'`) > 0
	})
	r.insert("full", next, pulsarEvents, 7)
	r.insert("acme", 0, pulsarEvents, 7)
	next += pulsarEvents
	r.sent("acme", pulsarEvents)
	r.eventually("the rest is parked", func() bool {
		return r.count(`SELECT count(*) FROM outbox WHERE status = 'SENT' AND tenant_id = 'full'`)+r.parked(`state = 'waiting'`) == next
	})
	r.parkedAlone(run, r.parked(`state = 'waiting'`), "Quota")
	r.call(http.MethodDelete, "namespaces/"+r.namespace("full")+"/backlogQuota", nil)
	r.settled()
	r.once("the full topic", 0, next, 7, r.read(r.topic("full")))
}

func refusedAtPartition(r *pulsarRig) {
	const keys, large = 8, 8
	r.create("acme")
	r.onTopic(http.MethodPut, "acme", "/partitions", 2)
	run := r.run(refuseLarge)
	r.insert("acme", 0, large, keys)
	r.insertLarge("acme", fmt.Sprint(large%keys), large)
	r.insert("acme", large+1, 999, keys)
	waiting := 1 + 999/keys
	r.eventually("the key waits at its partition", func() bool { return r.parked(`destination LIKE '%-partition-_' AND state = 'waiting'`) == waiting })
	r.sent("acme", 1008-waiting)
	r.eventually("the slot is confirmed past them", func() bool { return run.Status().LagBytes == 0 })
	run.crash()

	run = r.run(refuseLarge)
	r.insert("acme", 1008, 992, keys)
	waiting += 992 / keys
	r.eventually("the key waits on", func() bool { return r.parked(`state = 'waiting'`) == waiting })
	r.sent("acme", 2000-waiting)
	r.onTopic(http.MethodPost, "acme", "/partitions", 4)
	r.insert("acme", 2000, 1000, keys)
	waiting += 1000 / keys
	r.eventually("the key waits on beside more partitions", func() bool { return r.parked(`state = 'waiting'`) == waiting })
	r.sent("acme", 3000-waiting)
	run.crash()

	r.run()
	r.insert("acme", 3000, 1000, keys)
	r.settled()
	r.once("the partitions", 0, 4000, keys, r.partitions("acme", 4)...)

	r.exec(`UPDATE outbox SET status = 'NEW' WHERE payload->>'seq' = '3990'`)
	r.eventually("the event is delivered again, at its partition", func() bool {
		again := 0
		for _, log := range r.partitions("acme", 4) {
			if len(log) > 0 && log[len(log)-1] == 3990 {
				again++
			}
		}
		return again == 1
	})
	r.settled()
}

// brokerKilled returns an error where the broker itself serves a topic no more.
func brokerKilled(r *pulsarRig) error {
	r.create("acme", "split", "new")
	r.onTopic(http.MethodPut, "split", "/partitions", 2)
	r.onTopic(http.MethodPut, "new", "/partitions", 2)
	run := r.run()
	next := 0
	commit := func() {
		r.insert("acme", next, 500, 7)
		r.insert("split", next, 500, 7)
		next += 500
	}
	for range 10 {
		commit()
	}
	r.eventually("both topics are known", func() bool { return r.count(`SELECT count(DISTINCT tenant_id) FROM outbox WHERE status = 'SENT'`) == 2 })
	r.broker.Kill()
	for range 5 {
		commit()
	}
	r.eventually("it counts as down", func() bool { return r.down(run, "pulsar") })
	r.insert("new", 0, 1000, 7)
	r.eventually("all of them are parked", func() bool { return r.parked(`state = 'waiting'`) >= 6000 })
	r.eventually("the slot is confirmed past them", func() bool { return run.Status().LagBytes == 0 })
	run.crash()

	// The next session cannot ask for the partitions, at which events wait, and parks under the topic's own name.
	run = r.run()
	for range 5 {
		commit()
	}
	r.eventually("events are parked beside those of the partitions", func() bool { return r.parked(`destination = '`+r.topic("split")+`'`) >= 2500 })
	r.eventually("the slot is confirmed past them", func() bool { return run.Status().LagBytes == 0 })
	r.retry()
	r.broker.Start()
	if err := r.readable([]string{r.topic("acme"), r.topic("split") + "-partition-0", r.topic("split") + "-partition-1"}); err != nil {
		return err
	}
	commit()
	r.insert("new", 1000, 100, 7)
	r.settled()
	r.once("acme", 0, next, 7, r.read(r.topic("acme")))
	r.once("split", 0, next, 7, r.partitions("split", 2)...)
	r.once("new", 0, 1100, 7, r.partitions("new", 2)...)
	return nil
}
