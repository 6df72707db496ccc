package monitor

import (
	"fmt"
	"time"

	"github.com/outboxd/outboxd/relay"
)

// Severity says how soon somebody should act.
type Severity string

// The severities, from what is worth knowing to what stops delivery.
const (
	Low      Severity = "low"
	Medium   Severity = "medium"
	High     Severity = "high"
	Critical Severity = "critical"
)

// serious tells whether a person must act.
func (s Severity) serious() bool { return s == High || s == Critical }

// Bottleneck is something that holds delivery up, or will.
type Bottleneck struct {
	Name     string   `json:"name"`
	Severity Severity `json:"severity"`
	Finding  string   `json:"finding"`
	Advice   string   `json:"advice"`
}

// Analyse names what holds delivery up at the time of now, in an instance that should deliver. An instance that stands by or stops has no
// bottlenecks.
func Analyse(before, now Sample) []Bottleneck {
	switch now.Status.State {
	case relay.StateStandby, relay.StateDraining:
		return []Bottleneck{}
	case relay.StateConnecting, relay.StateStopped:
		return notStreaming(now)
	case relay.StateActive:
	}
	found := []Bottleneck{}
	rates := Between(before, now)
	for _, rule := range rules {
		if b := rule.look(&before.Status, &now.Status, rates); b.Severity != "" {
			b.Name, b.Advice = rule.name, rule.advice
			found = append(found, b)
		}
	}
	return found
}

// patience is how long an instance may take to open a session.
const patience = time.Minute

func notStreaming(now Sample) []Bottleneck {
	found := []Bottleneck{}
	s := &now.Status
	if s.Slot != nil && s.Slot.Lost {
		found = append(found, Bottleneck{"slot", Critical, "the slot is lost", adviceSlot})
	}
	if age := now.At.Sub(s.Since); age >= patience || s.State == relay.StateStopped {
		found = append(found, Bottleneck{
			"session", Critical, fmt.Sprintf("nothing is delivered for %s: %s: %s", age.Round(time.Second), s.State, s.Reason),
			"mend what the reason names; nothing is lost meanwhile, but PostgreSQL keeps its log",
		})
	}
	return found
}

// grade returns the finding with the severity of the highest step that the value is above; none of them gives none. Steps are for low, medium, high
// and critical; a negative one is left out.
func grade(value float64, steps [4]float64, format string, args ...any) Bottleneck {
	b := Bottleneck{}
	for i, severity := range []Severity{Low, Medium, High, Critical} {
		if steps[i] >= 0 && value > steps[i] {
			b = Bottleneck{Severity: severity, Finding: fmt.Sprintf(format, args...)}
		}
	}
	return b
}
