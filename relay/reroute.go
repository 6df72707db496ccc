package relay

import (
	"context"
	"errors"
	"time"

	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/route"
)

// rerouteMost is how many events one reroute takes; a person who retries more of them does it in several steps.
const rerouteMost = 1000

// rerouting is what becomes of events that had no destination, and that a person has retried.
type rerouting struct {
	rows     []park.Row // at the destinations that they have now
	dropped  []park.Row // those that no route matches, where such are dropped
	failures []park.Failure
}

// add looks up the stray's destinations and notes what follows: rows, a drop, or a failed attempt.
func (r *rerouting) add(cfg *Config, stray *park.Row) (found bool) {
	if len(stray.Event.TenantID) == 0 && cfg.Columns.DefaultTenant != "" { // NULL, before there was a default
		stray.Event.TenantID = []byte(cfg.Columns.DefaultTenant)
		stray.Key, _ = park.KeyOf(&stray.Event, stray.Replay, nil)
	}
	destinations, err := cfg.Router.Route(&stray.Event)
	if err != nil && (!errors.Is(err, route.ErrUnrouted) || !cfg.DropUnrouted) {
		r.failures = append(r.failures, park.Failure{Ref: stray.Ref(), Attempts: stray.Attempts + 1, Reason: err.Error(), State: park.Dead})
		return false
	}
	if len(destinations) == 0 {
		r.dropped = append(r.dropped, *stray)
	}
	for _, to := range destinations {
		row := stray.To(to.Sink, to.Name)
		row.State, row.Attempts, row.Due, row.ParkedAt = park.Waiting, 0, time.Time{}, time.Time{}
		r.rows = append(r.rows, row)
	}
	return len(destinations) > 0
}

func (r *rerouting) write(ctx context.Context, s store) error {
	if err := s.move(ctx, park.Destination{}, r.rows); err != nil {
		return err
	}
	if err := s.settleParked(ctx, park.Destination{}, refsOf(r.dropped)); err != nil {
		return err
	}
	return s.fail(ctx, park.Destination{}, r.failures)
}

// rerouteDoubtful gives events that had no destination when they were adopted, and may have landed before that, to those that they have now. It comes before a
// session reads what is parked: from then on their destinations' tails are read back, and nothing is published there before.
func rerouteDoubtful(ctx context.Context, cfg *Config, s store) error {
	after := park.Cursor{}
	for end := false; !end; {
		var strays []park.Row
		var err error
		if strays, end, err = s.loadAfter(ctx, park.Destination{}, after, rerouteMost, parkBytes); err != nil {
			return err
		}
		var r rerouting
		for i := range strays {
			if after = strays[i].Cursor(); !strays[i].LandedAfter.IsZero() {
				r.add(cfg, &strays[i])
			}
		}
		if err := r.write(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// reroute gives events that had no destination, and that a person has retried, to those that they have now. One at a time, and one more after
// it where it was asked for meanwhile: two would load the same events, and the second could park again what is delivered and removed by then.
func (c *core) reroute() {
	if !c.rerouting.begin() {
		return
	}
	var strays []park.Row
	var end bool
	c.pollers.give(&task{
		name: "load events without a destination", statement: statementLoad,
		run: func(ctx context.Context, s store) (err error) {
			strays, end, err = s.loadAfter(ctx, park.Destination{}, park.Cursor{}, rerouteMost, parkBytes)
			return err
		},
		then: func() { c.rerouted(strays, end) },
	})
}

// errMayHaveLanded ends a session that finds such an event: the next one begins with [rerouteDoubtful].
var errMayHaveLanded = errors.New("an event that may have landed already has a destination now")

func (c *core) rerouted(strays []park.Row, end bool) {
	var r rerouting
	passed := c.passed()
	for i := range strays {
		s := &strays[i]
		if !s.Event.Position.IsZero() && s.Replay == 0 && s.Event.Position.After(passed) {
			c.rerouteDue = true // events before it may still be in the log alone
			continue
		}
		if r.add(c.cfg, s) && !s.LandedAfter.IsZero() {
			c.halt(errMayHaveLanded)
			return
		}
	}
	if len(r.rows)+len(r.dropped)+len(r.failures) == 0 {
		c.reroutedAll()
		return
	}
	c.pollers.give(&task{
		name: "give events a destination", statement: statementMove,
		run: r.write,
		then: func() {
			c.facts.droppedUnrouted.Add(uint64(len(r.dropped)))
			c.entered(r.rows)
			c.rerouting.again = c.rerouting.again || !end && !c.rerouteDue
			c.reroutedAll()
		},
	})
}

// reroutedAll ends a reroute.
func (c *core) reroutedAll() {
	if c.rerouting.end() {
		c.reroute()
	}
}
