package workload

import (
	"fmt"
	"slices"
	"strings"
)

// Place is where an event goes: a destination of a broker.
type Place struct {
	Sink        string `json:"sink"`
	Destination string `json:"destination"` // of a partitioned topic without the partition
}

// String is the sink and the destination.
func (p Place) String() string { return p.Sink + " " + p.Destination }

// Audit compares what arrives at several brokers with a Ledger, where an event may go to several places: it has to arrive once at each of
// them. It is not safe for concurrent use.
type Audit struct {
	ledger   *Ledger
	route    func(tenant, topic string, keyed bool) []Place
	shared   bool
	checkers []*Checker // that at index i is of the events' i-th place
	foreign  int
	wrong    Finding // misplaced
}

// NewAudit returns an Audit of the ledger. route says where an event goes, with and without an aggregate id; always the same. shared says that
// others write to the ledger's topics too.
func NewAudit(l *Ledger, route func(tenant, topic string, keyed bool) []Place, shared bool) *Audit {
	a := &Audit{ledger: l, route: route, shared: shared}
	most := 1
	for _, tenant := range l.tenants {
		for _, topic := range l.topics {
			most = max(most, len(route(tenant, topic, true)), len(route(tenant, topic, false)))
		}
	}
	for i := range most {
		c := NewChecker(l)
		c.due = func(id eventID) bool { return len(a.places(id)) > i }
		a.checkers = append(a.checkers, c)
	}
	return a
}

// places are where an event of the ledger goes.
func (a *Audit) places(id eventID) []Place {
	_, topic := a.ledger.look(id)
	return a.route(a.ledger.tenantOf(id.key), topic, !a.ledger.keys[id.key].loose)
}

// Add takes the next event of r.Destination at the sink. It tells whether it was received there for the first time. An event of somebody else
// is only counted.
func (a *Audit) Add(sink string, r Received) bool {
	if r.event.run != a.ledger.run && (a.shared || !slices.Contains(a.ledger.topics, r.Topic)) {
		a.foreign++
		return false
	}
	if a.checkers[0].fault(&r) != "" {
		return a.checkers[0].Add(r)
	}
	places := a.places(r.event)
	at := slices.IndexFunc(places, func(p Place) bool {
		return p.Sink == sink && (r.Destination == p.Destination || strings.HasPrefix(r.Destination, p.Destination+"-partition-"))
	})
	if at < 0 {
		var names []string
		for _, p := range places {
			names = append(names, p.String())
		}
		a.wrong.add(example(&r, "it belongs in "+strings.Join(names, " and ")))
		a.checkers[0].report.Received++
		return false
	}
	return a.checkers[at].Add(r)
}

// Foreign returns how many entries of others were read.
func (a *Audit) Foreign() int { return a.foreign }

// Report compares everything that was added with everything that was written until now. What an event lacks at several places counts several
// times; what was committed and rolled back counts events.
func (a *Audit) Report() Report {
	total := a.checkers[0].Report()
	a.name(&total.Missing, 0)
	for i, c := range a.checkers[1:] {
		r := c.Report()
		a.name(&r.Missing, i+1)
		total.Received += r.Received
		r.Unresolved = Finding{} // the first names them
		for j, f := range total.findings() {
			f.merge(r.findings()[j].Finding)
		}
	}
	total.Misplaced.merge(&a.wrong)
	return total
}

// name tells of each missing event where it was not found.
func (a *Audit) name(missing *Finding, at int) {
	missing.Examples = slices.Clone(missing.Examples)
	for i := range missing.Examples {
		e := &missing.Examples[i]
		id, err := parseEventID(e.ID)
		if err != nil {
			panic(fmt.Sprintf("workload: the ledger has an event %q: %v", e.ID, err))
		}
		e.Detail = "not in " + a.places(id)[at].String()
	}
}

// merge adds what another place found.
func (f *Finding) merge(g *Finding) {
	f.Count += g.Count
	f.Examples = append(slices.Clip(f.Examples), g.Examples[:min(len(g.Examples), maxExamples-len(f.Examples))]...)
}
