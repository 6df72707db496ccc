package relay

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/route"
)

// Many destinations have a backlog, and the broker is slow: its calls do not return yet, and none has failed.
func TestFewOfManyBacklogsAreInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many = 400
		w := newWorld(simRelay(), nil, "")
		w.relay.cfg.Table.MaxKeys = 1 << 20
		router, err := route.New([]route.Rule{{To: []route.Target{{Sink: "a", Destination: "{topic}"}}}}, map[string]route.Kind{"a": route.Redis, "b": route.Redis}, route.Shard{})
		if err != nil {
			t.Fatal(err)
		}
		w.relay.cfg.Router = router
		tx := w.begin()
		tx.visible = true
		for n := range many {
			topic := fmt.Sprintf("t%03d", n)
			row := park.Row{Event: w.insert(tx, '1', topic).event, Destination: park.Destination{Sink: "a", Name: topic}, Target: topic}
			row.Event.Position.Epoch = 1
			row.Key, _ = park.KeyOf(&row.Event, 0, nil)
			w.db.add([]park.Row{row})
			w.places = append(w.places, row.Destination)
		}
		w.start(nil)
		i := w.active()
		answered := func(p *pending) bool { return !p.publish }
		for range 5 * many {
			i.ask()
			at := slices.IndexFunc(i.pending, answered)
			if at < 0 {
				break
			}
			i.finish(at)
		}
		loaded := 0
		for d := range i.core.waiting {
			if d.table.rows != nil {
				loaded++
			}
		}
		s := i.core.sinks["a"]
		if most := 2*s.concurrency[jobPublish] + w.relay.cfg.Table.MaxConcurrent + s.busyLent; loaded == 0 || loaded > most {
			t.Errorf("rows of %d destinations are in memory, want some, and %d at most", loaded, most)
		}
	})
}
