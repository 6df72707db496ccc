package workload

import (
	"fmt"
	"strings"
)

// maxExamples is how many events of each finding are named.
const maxExamples = 5

// Example names one event of a finding.
type Example struct {
	ID          string `json:"id"`
	Tenant      string `json:"tenant"`
	Topic       string `json:"topic"`
	Key         string `json:"key,omitempty"`
	Seq         uint32 `json:"seq"`
	Destination string `json:"destination,omitempty"`
	Entry       string `json:"entry,omitempty"`
	Detail      string `json:"detail,omitempty"`
}

func (e Example) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s %s", e.ID, e.Tenant, e.Topic)
	if e.Key != "" {
		fmt.Fprintf(&b, ", %s %s", AggregateType, e.Key)
	}
	fmt.Fprintf(&b, ", number %d)", e.Seq)
	if e.Destination != "" {
		fmt.Fprintf(&b, " in %s at %s", e.Destination, e.Entry)
	}
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	return b.String()
}

// Finding is one kind of fault: how often it was found, and the first examples.
type Finding struct {
	Count    int       `json:"count"`
	Examples []Example `json:"examples,omitempty"`
}

func (f *Finding) add(e Example) {
	f.Count++
	if len(f.Examples) < maxExamples {
		f.Examples = append(f.Examples, e)
	}
}

// Report compares what was committed with what arrived.
type Report struct {
	Committed  int `json:"committed"`   // events of committed transactions
	RolledBack int `json:"rolled_back"` // events of transactions and savepoints that were rolled back
	Received   int `json:"received"`    // entries read, every copy of an event counted
	Withdrawn  int `json:"withdrawn"`   // received, of rolled back ones whose COMMIT the database had begun and a failover lost: no fault

	Missing    Finding `json:"missing"`      // committed and not received
	Doubled    Finding `json:"doubled"`      // each copy after the first
	OutOfOrder Finding `json:"out_of_order"` // first received behind a later event of its key in the same destination
	Phantom    Finding `json:"phantom"`      // received although its transaction was rolled back, or never was
	Misplaced  Finding `json:"misplaced"`    // in a destination that is not its own
	Corrupted  Finding `json:"corrupted"`    // content that is not what was written
	Unresolved Finding `json:"unresolved"`   // whether the transaction committed is not known: nothing can be said of it
}

type namedFinding struct {
	name string
	*Finding
}

func (r *Report) findings() []namedFinding {
	return []namedFinding{
		{"missing", &r.Missing},
		{"doubled", &r.Doubled},
		{"out of order", &r.OutOfOrder},
		{"published though rolled back", &r.Phantom},
		{"in a wrong destination", &r.Misplaced},
		{"corrupted", &r.Corrupted},
		{"of unknown outcome", &r.Unresolved},
	}
}

// OK tells whether every committed event arrived once, in order, unchanged, in its destination, and nothing else did.
func (r *Report) OK() bool {
	for _, f := range r.findings() {
		if f.Count > 0 {
			return false
		}
	}
	return true
}

// String is a summary of a few lines: one when all is well, else one for each kind of fault and one for each example.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d committed, %d received, %d rolled back: ", r.Committed, r.Received, r.RolledBack)
	if r.Withdrawn > 0 {
		fmt.Fprintf(&b, "%d published that a failover took back, ", r.Withdrawn)
	}
	if r.OK() {
		b.WriteString("none missing, doubled, out of order or published though rolled back")
		return b.String()
	}
	var counts []string
	for _, f := range r.findings() {
		if f.Count > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", f.Count, f.name))
		}
	}
	b.WriteString(strings.Join(counts, ", "))
	for _, f := range r.findings() {
		for _, e := range f.Examples {
			fmt.Fprintf(&b, "\n  %s: %s", f.name, e)
		}
		if more := f.Count - len(f.Examples); more > 0 {
			fmt.Fprintf(&b, "\n  %s: %d more", f.name, more)
		}
	}
	return b.String()
}
