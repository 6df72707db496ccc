package torture

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/outboxd/outboxd/internal/workload"
)

// report is what a run found.
type report struct {
	Sink     string          `json:"sink"`
	Seed     uint64          `json:"seed"`
	Rate     float64         `json:"rate"` // events that the application was to write in a second
	Began    time.Time       `json:"began"`
	Storm    float64         `json:"storm_seconds"`
	Verdict  workload.Report `json:"verdict"`
	Left     left            `json:"left"`
	Trouble  []string        `json:"trouble,omitempty"` // panics, data races and secrets that the instances logged
	Rounds   int             `json:"rounds"`
	Injected map[string]int  `json:"injected"`           // fault: how often
	LeftOut  []string        `json:"left_out,omitempty"` // faults that this machine cannot inject, and why

	Transactions  int64   `json:"transactions"`
	CutCommits    int64   `json:"cut_commits"`   // whose answer was lost, to be asked for later
	Interruptions int64   `json:"interruptions"` // of the application
	Starts        int     `json:"starts"`        // of outboxd's processes
	Slowest       float64 `json:"slowest_settle_seconds"`

	Timeline []moment `json:"timeline"`
	Samples  []sample `json:"samples"`
}

// left is what the database still holds when everything should be over.
type left struct {
	Unsettled int `json:"unsettled"` // rows of the outbox that are not SENT
	Parked    int `json:"parked"`    // rows of parked tables, in any state
	Extra     int `json:"extra"`     // rows more or less in the outbox than events committed
}

func (l left) String() string {
	return fmt.Sprintf("%d rows not SENT, %d parked, %d more or less than were committed", l.Unsettled, l.Parked, l.Extra)
}

// OK tells whether nothing was found.
func (r *report) OK() bool {
	return r.Verdict.OK() && r.Left == left{} && len(r.Trouble) == 0
}

func (r *report) String() string {
	var b strings.Builder
	total := 0
	var counts []string
	for _, name := range slices.Sorted(maps.Keys(r.Injected)) {
		total += r.Injected[name]
		counts = append(counts, fmt.Sprintf("%s %d", name, r.Injected[name]))
	}
	fmt.Fprintf(&b, "sink %s, seed %d: %d faults in %d rounds, %.0f s; outboxd started %d times, %d commits without an answer, slowest recovery %.1f s\n",
		r.Sink, r.Seed, total, r.Rounds, r.Storm, r.Starts, r.CutCommits, r.Slowest)
	for _, line := range r.LeftOut {
		fmt.Fprintf(&b, "left out: %s\n", line)
	}
	fmt.Fprintf(&b, "faults: %s\n%s\n", strings.Join(counts, ", "), r.Verdict.String())
	fmt.Fprintf(&b, "left in the database: %s\n", r.Left)
	for _, line := range r.Trouble {
		fmt.Fprintf(&b, "trouble: %s\n", line)
	}
	if r.OK() {
		b.WriteString("PASSED")
	} else {
		b.WriteString("FAILED")
	}
	return b.String()
}

// write leaves the report in a folder, as text and as JSON.
func (r *report) write(dir string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	var lines strings.Builder
	lines.WriteString(r.String() + "\n\n")
	for _, m := range r.Timeline {
		fmt.Fprintf(&lines, "%9.3f  %-8s %s\n", m.At, m.Kind, m.Text)
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "report.json"), append(text, '\n'), 0o600),
		os.WriteFile(filepath.Join(dir, "report.txt"), []byte(lines.String()), 0o600),
	)
}
