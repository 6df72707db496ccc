package doctor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/outboxd/outboxd/park"
)

const (
	oldAge        = time.Hour // from which on an event that is not delivered is told
	reasonsLook   = 10_000    // rows of each state whose reasons are counted
	reasonsShown  = 5
	keysCounted   = 10_000 // beyond that it says "more than"
	knownTopics   = 20     // destinations that are probed because something waits there
	reasonLetters = 200    // of a reason that are shown
)

// checkParked counts what is parked, from indexes.
func checkParked(ctx context.Context, d *database) ([]Finding, error) {
	t, err := park.Count(ctx, d.conn, d.Migrations.Schema, d.WAL.Slot)
	if err != nil {
		return nil, err
	}
	return parkedFindings(t, now()), nil
}

func parkedFindings(t park.Totals, at time.Time) []Finding {
	var findings []Finding
	if t.Dead > 0 {
		findings = append(findings, found(Warning, "dead", fmt.Sprintf("%d deliveries are dead", t.Dead),
			"they are not tried again until a person decides", "outboxd events list --status dead; then outboxd events retry or outboxd events skip"))
	}
	age := at.Sub(t.Oldest).Round(time.Second)
	switch {
	case t.Waiting == 0:
		findings = append(findings, ok("waiting", "no delivery waits"))
	case age > oldAge:
		findings = append(findings, found(Warning, "waiting", fmt.Sprintf("%d deliveries wait, the oldest for %s", t.Waiting, age),
			"a broker, a destination or an event fails for long", "see the reasons here and outboxd events list --status waiting; mend the broker, or raise its limits; outboxd tries again by itself"))
	default:
		findings = append(findings, found(Info, "waiting", fmt.Sprintf("%d deliveries wait, the oldest for %s", t.Waiting, age), "", ""))
	}
	return findings
}

// checkReasons names the most frequent reasons.
func checkReasons(ctx context.Context, d *database) ([]Finding, error) {
	reasons, err := park.Reasons(ctx, d.conn, d.Migrations.Schema, d.WAL.Slot, reasonsLook, reasonsShown)
	if err != nil {
		return nil, err
	}
	var findings []Finding
	for _, r := range reasons {
		text := []rune(r.Text)
		findings = append(findings, found(Info, "reason", fmt.Sprintf("%d %s: %s", r.Count, r.State, string(text[:min(len(text), reasonLetters)])), "", ""))
	}
	return findings, nil
}

// checkKeys counts keys that wait, and those that a dead event holds back.
func checkKeys(ctx context.Context, d *database) ([]Finding, error) {
	waiting, blocked := 0, 0
	err := park.Keys(ctx, d.conn, d.Migrations.Schema, d.WAL.Slot, keysCounted, func(k park.WaitingKey) {
		if waiting++; k.Blocked {
			blocked++
		}
	})
	more := errors.Is(err, park.ErrTooMany)
	if err != nil && !more {
		return nil, err
	}
	return keysFindings(waiting, blocked, more), nil
}

func keysFindings(waiting, blocked int, more bool) (findings []Finding) {
	atLeast := ""
	if more {
		atLeast = "more than "
	}
	if waiting > 0 {
		findings = append(findings, found(Info, "keys", fmt.Sprintf("%s%d keys wait", atLeast, waiting), "later events of these keys wait behind the first", ""))
	}
	if blocked > 0 {
		findings = append(findings, found(Warning, "blocked", fmt.Sprintf("%s%d keys are held back by a dead event (on_dead: block)", atLeast, blocked),
			"no event of these keys is delivered until a person decides", "outboxd events list --status dead; then outboxd events retry or outboxd events skip"))
	}
	return findings
}

// learnDestinations finds out where something waits, for the checks of the brokers.
func learnDestinations(ctx context.Context, d *database) (_ []Finding, err error) {
	d.parked, err = park.Destinations(ctx, d.conn, d.Migrations.Schema, d.WAL.Slot, knownTopics)
	return nil, err
}
