package workload

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// book is a ledger of two keyed keys (0, 1) of two tenants and one loose key (2), with events that are easy to name.
type book struct {
	*Ledger
	t *testing.T
}

func newBook(t *testing.T) book {
	t.Helper()
	l, err := newLedger(7, []string{"acme", "globex"}, 3, func(key int) (int, bool) { return key % 2, key == 2 })
	if err != nil {
		t.Fatal(err)
	}
	return book{l, t}
}

// write adds an event of the topic order.created.
func (b book) write(key uint32, o outcome) eventID {
	id := b.next(key, 0)
	if o != pending {
		b.decide(id, o)
	}
	return id
}

// message is what an honest broker holds of the event.
func (b book) message(id eventID) message {
	b.t.Helper()
	p := payload{ID: id.String(), Tenant: b.tenantOf(id.key), Topic: topics[0], Order: b.keyName(id.key), Seq: id.seq, WrittenAt: 1_000_000}
	body, err := p.encode()
	if err != nil {
		b.t.Fatal(err)
	}
	m := message{id: p.ID, tenant: p.Tenant, topic: p.Topic, aggregateID: p.Order, body: body}
	if p.Order != "" {
		m.aggregateType = AggregateType
	}
	return m
}

func (b book) received(id eventID, destination string) Received {
	return understand(b.message(id), destination, "1-0", time.UnixMilli(1002))
}

func TestCheckerFindsEachFault(t *testing.T) {
	forge := func(change func(*message)) func(book, *Checker) {
		return func(b book, c *Checker) {
			m := b.message(b.write(0, committed))
			change(&m)
			c.Add(understand(m, "d", "1-0", time.UnixMilli(1002)))
			c.report.Corrupted.Examples = nil
		}
	}
	for name, test := range map[string]struct {
		history func(b book, c *Checker)
		want    map[string]int // findings by name; every other must be 0
	}{
		"all is well": {func(b book, c *Checker) {
			for _, key := range []uint32{0, 1, 0, 2, 2} {
				c.Add(b.received(b.write(key, committed), "d"))
			}
			b.write(0, rolledBack)
		}, nil},
		"missing": {func(b book, c *Checker) {
			b.write(0, committed)
			c.Add(b.received(b.write(0, committed), "d"))
		}, map[string]int{"missing": 1}},
		"missing at the end": {func(b book, c *Checker) {
			c.Add(b.received(b.write(0, committed), "d"))
			b.write(0, committed)
		}, map[string]int{"missing": 1}},
		"doubled": {func(b book, c *Checker) {
			e := b.received(b.write(0, committed), "d")
			c.Add(e)
			c.Add(e)
			c.Add(e)
		}, map[string]int{"doubled": 2}},
		"doubled in another destination": {func(b book, c *Checker) {
			id := b.write(0, committed)
			c.Add(b.received(id, "d"))
			c.Add(b.received(id, "e"))
		}, map[string]int{"doubled": 1}},
		"doubled without an aggregate id": {func(b book, c *Checker) {
			e := b.received(b.write(2, committed), "d")
			c.Add(e)
			c.Add(e)
		}, map[string]int{"doubled": 1}},
		"more than 255 copies": {func(b book, c *Checker) {
			e := b.received(b.write(0, committed), "d")
			for range 300 {
				c.Add(e)
			}
		}, map[string]int{"doubled": 299}},
		"out of order": {func(b book, c *Checker) {
			first, second := b.write(0, committed), b.write(0, committed)
			c.Add(b.received(second, "d"))
			c.Add(b.received(first, "d"))
		}, map[string]int{"out of order": 1}},
		"order among destinations is no promise": {func(b book, c *Checker) {
			first, second := b.write(0, committed), b.write(0, committed)
			c.Add(b.received(second, "d"))
			c.Add(b.received(first, "e"))
		}, nil},
		"order among keys is no promise": {func(b book, c *Checker) {
			first, second := b.write(0, committed), b.write(1, committed)
			c.Add(b.received(second, "d"))
			c.Add(b.received(first, "d"))
		}, nil},
		"order among events without an aggregate id is no promise": {func(b book, c *Checker) {
			first, second := b.write(2, committed), b.write(2, committed)
			c.Add(b.received(second, "d"))
			c.Add(b.received(first, "d"))
		}, nil},
		"published though rolled back": {func(b book, c *Checker) {
			c.Add(b.received(b.write(0, rolledBack), "d"))
		}, map[string]int{"published though rolled back": 1}},
		"of a commit that a failover took back": {func(b book, c *Checker) {
			id := b.write(0, pending)
			c.Add(b.received(id, "d"))
			b.withdraw(id)
			b.withdraw(b.write(0, pending)) // it was not published
		}, nil},
		"doubled, of a commit that a failover took back": {func(b book, c *Checker) {
			id := b.write(0, pending)
			c.Add(b.received(id, "d"))
			c.Add(b.received(id, "d"))
			b.withdraw(id)
		}, map[string]int{"doubled": 1}},
		"of unknown outcome": {func(b book, c *Checker) {
			c.Add(b.received(b.write(0, pending), "d"))
		}, map[string]int{"of unknown outcome": 1}},
		"received before it is known to be committed": {func(b book, c *Checker) {
			id := b.write(0, pending)
			c.Add(b.received(id, "d"))
			b.decide(id, committed)
		}, nil},
		"in a wrong destination": {func(b book, c *Checker) {
			c.Destination = func(tenant, topic string) string { return tenant + ":" + topic }
			c.Add(b.received(b.write(0, committed), "acme:order.created-partition-3"))
			c.Add(b.received(b.write(0, committed), "globex:order.created"))
		}, map[string]int{"in a wrong destination": 1}},
		"another run": {func(b book, c *Checker) {
			id := b.write(0, committed)
			c.Add(b.received(id, "d"))
			id.run++
			c.Add(b.received(id, "d"))
		}, map[string]int{"corrupted": 1}},
		"written by nobody": {func(b book, c *Checker) {
			id := b.write(0, committed)
			c.Add(b.received(id, "d"))
			id.seq = 1 << 30
			c.Add(b.received(id, "d"))
		}, map[string]int{"corrupted": 1}},
		"another payload":      {forge(func(m *message) { m.body = []byte(strings.Replace(string(m.body), "acme", "acne", 1)) }), map[string]int{"corrupted": 1, "missing": 1}},
		"no payload":           {forge(func(m *message) { m.body = nil }), map[string]int{"corrupted": 1, "missing": 1}},
		"another tenant":       {forge(func(m *message) { m.tenant = "globex" }), map[string]int{"corrupted": 1, "missing": 1}},
		"another topic":        {forge(func(m *message) { m.topic = "order.paid" }), map[string]int{"corrupted": 1, "missing": 1}},
		"another aggregate":    {forge(func(m *message) { m.aggregateID = "999" }), map[string]int{"corrupted": 1, "missing": 1}},
		"another type":         {forge(func(m *message) { m.aggregateType = "invoice" }), map[string]int{"corrupted": 1, "missing": 1}},
		"another message key":  {forge(func(m *message) { k := "acme"; m.key = &k }), map[string]int{"corrupted": 1, "missing": 1}},
		"an id that is no id":  {forge(func(m *message) { m.id = "12" }), map[string]int{"corrupted": 1, "missing": 1}},
		"an id of other tools": {forge(func(m *message) { m.id = "5f0c7c52-4d1b-4a4e-8f60-6f0f1f6d8a11" }), map[string]int{"corrupted": 1, "missing": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBook(t)
			c := NewChecker(b.Ledger)
			test.history(b, c)
			r := c.Report()
			for _, f := range r.findings() {
				if f.Count != test.want[f.name] {
					t.Errorf("%s: %d, want %d", f.name, f.Count, test.want[f.name])
				}
				if f.Count > 0 && !strings.Contains(r.String(), f.name) {
					t.Errorf("the summary lacks %q: %s", f.name, r.String())
				}
			}
			if r.OK() != (len(test.want) == 0) {
				t.Errorf("OK is %v: %s", r.OK(), r.String())
			}
		})
	}
}

// Two events whose payloads were exchanged are each valid in themselves.
func TestCheckerFindsExchangedPayloads(t *testing.T) {
	b := newBook(t)
	c := NewChecker(b.Ledger)
	one, two := b.message(b.write(0, committed)), b.message(b.write(0, committed))
	one.body, two.body = two.body, one.body
	for _, m := range []message{one, two} {
		c.Add(understand(m, "d", "1-0", time.UnixMilli(1002)))
	}
	if r := c.Report(); r.Corrupted.Count != 2 {
		t.Errorf("found %s", r.String())
	}
}

func TestReportNamesTheFirstExamples(t *testing.T) {
	b := newBook(t)
	for range maxExamples + 3 {
		b.write(1, committed)
	}
	r := NewChecker(b.Ledger).Report()
	text := r.String()
	for _, want := range []string{"8 committed, 0 received, 0 rolled back: 8 missing", "(globex order.created, order 2, number 1)", "missing: 3 more"} {
		if !strings.Contains(text, want) {
			t.Errorf("lacks %q: %s", want, text)
		}
	}
	body, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(body, &back); err != nil {
		t.Fatal(err)
	}
	if len(back.Missing.Examples) != maxExamples || back.Missing.Count != maxExamples+3 || back.OK() {
		t.Errorf("as JSON: %s", body)
	}
}

func TestReportLeavesTheCheckerAsItIs(t *testing.T) {
	b := newBook(t)
	c := NewChecker(b.Ledger)
	id := b.write(0, committed)
	if r := c.Report(); r.Missing.Count != 1 {
		t.Errorf("before: %s", r.String())
	}
	c.Add(b.received(id, "d"))
	if r := c.Report(); !r.OK() || r.Committed != 1 {
		t.Errorf("after: %s", r.String())
	}
}

func TestEventIDsHaveOneText(t *testing.T) {
	for _, id := range []eventID{{1, 0, 1}, {maxRun, maxKey, 1<<32 - 1}, {12345, 678, 910}} {
		back, err := parseEventID(id.String())
		if err != nil || back != id {
			t.Errorf("%v becomes %s becomes %v, %v", id, id, back, err)
		}
	}
}

func TestLatencyIsFromBeforeCommitToTheEntry(t *testing.T) {
	b := newBook(t)
	r := b.received(b.write(0, committed), "d")
	if got := r.Latency(); got != 2*time.Millisecond {
		t.Errorf("written at 1.000 s, received at 1.002 s: latency %s", got)
	}
	r.ReceivedAt = time.UnixMilli(999)
	if got := r.Latency(); got != 0 {
		t.Errorf("the broker's milliseconds are rounded down: latency %s", got)
	}
}

func TestPacerKeepsTheRateAndForgetsOldDebts(t *testing.T) {
	p := pacer{rate: 100}
	now := time.Now()
	first := p.due(10, now)
	if got := p.due(1, now).Sub(first); got != 100*time.Millisecond {
		t.Errorf("10 events at 100/s take %s", got)
	}
	later := now.Add(time.Hour)
	if got := p.due(1, later); !got.Equal(later) {
		t.Errorf("after an idle hour the next event is due at %s, want now", got.Sub(later))
	}
}
