package relay

import (
	"context"
	"math"
	"math/rand/v2"
	"time"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lane"
	"github.com/outboxd/outboxd/park"
)

// TableConfig says how the table lane delivers what is parked.
type TableConfig struct {
	BatchSize     int           // rows loaded at once for a destination, 1 to sink.MaxBatch
	MaxConcurrent int           // destinations that are worked on at once
	MaxAttempts   int           // refusals after which an event is dead
	DeadAtOnce    bool          // an event that a broker rejects is dead at its first refusal
	BackoffBase   time.Duration // wait after the first refusal
	Multiplier    float64       // of each further wait
	MaxExponent   int           // after so many refusals the wait grows no more
	MaxKeys       int           // waiting keys that are remembered at the start of a session; 0 stands for ten million
	Sweep         time.Duration // how often the outbox table is looked at for what others did to it
	FullSweep     time.Duration // the same for what takes a walk through the whole table
}

// jitter is how much of a wait is left to chance.
const jitter = 0.2

// due is when an event is tried again that was refused so many times before: after base * multiplier^attempts, at the next full tenth of base, or half
// second. So those that are due at about the same time are tried at once, and take one load and one statement.
func (t *TableConfig) due(now time.Time, attempts int) time.Time {
	wait := float64(t.BackoffBase) * math.Pow(t.Multiplier, float64(min(attempts, t.MaxExponent)))
	together := min(t.BackoffBase/10, time.Second/2)
	return now.Add(time.Duration(wait * (1 + jitter*(2*rand.Float64()-1)))).Truncate(together).Add(together)
}

// maxKeys is the default of MaxKeys.
const maxKeys = 10_000_000

// keysAtOnce is how many keys one load looks for.
const keysAtOnce = 256

// tableWork is what the table lane does at a destination: rows are loaded, published in batches and settled, before the next load has its turn.
type tableWork struct {
	busy   bool // loading, publishing or settling
	loaded bool // rows are to be published
	stale  bool // what is being loaded may have been found in a tail meanwhile
	rows   []park.Row

	turn turn // what became of rows that were loaded with these

	keys   map[uint64]bool // of a load by keys: whether the load had returned the key's last row
	scan   bool            // the load was one in position order
	end    bool            // ... and came to the end
	next   park.Cursor     // ... the cursor behind everything that was looked at
	cursor park.Cursor     // where the next scan goes on
	rescan bool            // it begins anew when what is under way is settled
	first  bool            // it does not begin before a part of what is queued is parked
	ahead  *ahead          // the load behind rows; nil when there is none
}

// again lets the scan begin anew: rows have come to stand before its cursor.
func (w *tableWork) again() {
	w.rescan = w.busy
	w.cursor, w.end = park.Cursor{}, false
}

// scans tells whether rows may be loaded in position order. Where everything was held while events were queued, a scan that begins before any of them is parked finds
// nothing, and would let the destination go: they would be published, however slowly, in place of being parked.
func (d *destination) scans() bool {
	return d.lane.Keys.Whole() && d.lane.State() != lane.Parking && (!d.table.first || d.lane.Queued() == 0)
}

// advance moves the scan on, unless it has to begin anew; it tells whether the scan may end.
func (w *tableWork) advance(to park.Cursor) bool {
	if w.rescan {
		w.rescan, w.end, w.cursor = false, false, park.Cursor{}
		return false
	}
	w.cursor = to
	return w.end
}

// waitsAt notes that the destination has something in the table lane, or may have.
func (c *core) waitsAt(d *destination) {
	if !d.lane.Keys.Empty() {
		c.waiting[d] = struct{}{}
		c.tableDue = time.Time{}
	}
}

// goOn goes on with a destination at which something may have changed: in both lanes.
func (c *core) goOn(d *destination) {
	c.waitsAt(d)
	d.enqueue()
}

// dispatchTable loads what is due, for as many destinations as clerks are free.
func (c *core) dispatchTable(now time.Time) {
	if c.draining || now.Before(c.tableDue) {
		return
	}
	wake := int64(lane.Never)
	for d := range c.waiting {
		if d.lane.Keys.Empty() {
			delete(c.waiting, d)
			d.enqueue()
			continue
		}
		if d.table.busy || d.blocked() || d.target.assumed || d.held {
			continue
		}
		if !c.pollers.free() {
			c.countWaiting(now)
			return // looked at again when one is
		}
		due := d.scans() || d.lane.Keys.Wake() <= micros(now)
		switch {
		case !due:
			wake = min(wake, d.lane.Keys.Wake())
		case d.lane.State() == lane.Unread: // what the tail holds comes first
			if !d.queued {
				d.lineUp()
				d.sink.unread.push(d, d.suspect())
			}
		case d.crowded(): // looked at again when a turn has ended, too
			wake = min(wake, micros(now.Add(crowdedLook)))
		case d.lane.State() == lane.Ready, d.lane.State() == lane.Publishing, d.lane.State() == lane.Parking:
			c.load(d, now)
			if !d.table.busy && d.lane.State() != lane.Parking { // what was loaded ahead holds nothing that is due
				wake = micros(now)
			}
		}
	}
	c.tableDue = c.countWaiting(now)
	if wake != lane.Never && time.UnixMicro(wake).Before(c.tableDue) {
		c.tableDue = time.UnixMicro(wake)
	}
}

// crowdedLook is how often destinations are looked at again whose loads have to wait for others.
const crowdedLook = 50 * time.Millisecond

// crowded tells whether so many destinations of the sink stand in line with what is loaded that rows of one more would only take memory. Those that failed count
// among themselves.
func (d *destination) crowded() bool {
	line := d.sink.lent.healthy
	if d.suspect() {
		line = d.sink.lent.suspect
	}
	return len(line) >= 2*d.sink.concurrency[jobPublish]
}

// countWaiting shows how much waits, once a second at most, and returns when to do so again.
func (c *core) countWaiting(now time.Time) (again time.Time) {
	const interval = time.Second
	if next := c.counted.Add(interval); now.Before(next) && len(c.waiting) > 0 {
		return next
	}
	c.counted = now
	keys, whole := 0, 0
	for d := range c.waiting {
		keys += d.lane.Keys.Len()
		if d.lane.Keys.Whole() {
			whole++
		}
	}
	c.facts.waitingKeys.Store(int64(keys))
	c.facts.wholeBacklogs.Store(int64(whole))
	return now.Add(time.Hour)
}

// load begins to load what is due at the destination: rows of its keys, or of all keys in position order.
func (c *core) load(d *destination, now time.Time) {
	keys := d.lane.Keys.Next(micros(now), keysAtOnce)
	switch {
	case len(keys) > 0:
		c.loadKeys(d, keys)
	case d.scans():
		c.loadScan(d)
	}
}

// discard forgets what was loaded before a tail was read, of which some may have been found there, or before a person's command, which may have been a skip.
func (c *core) discard(d *destination) {
	w := &d.table
	if a := w.ahead; a != nil {
		if w.ahead = nil; a.wanted {
			w.busy = false
			c.waitsAt(d)
			return
		}
	}
	w.stale = w.busy && !w.loaded
	if !w.loaded {
		return
	}
	for key := range w.keys {
		d.lane.Keys.Settled(key, false, micros(time.Now()))
	}
	w.rows, w.keys, w.loaded, w.busy = nil, nil, false, false
}

// dropStale discards a load during which something may have been found in a tail, and tells whether it did.
func (c *core) dropStale(d *destination) bool {
	if !d.table.stale {
		return false
	}
	d.table.loaded = true
	c.discard(d)
	c.waitsAt(d)
	return true
}

func (c *core) loadKeys(d *destination, keys []uint64) {
	w := &d.table
	w.busy, w.scan, w.ahead = true, false, nil // what was loaded ahead may hold rows of these keys, which are delivered first
	size, bytes := c.loadSize(), int64(c.cfg.BatchBytes)
	at := d.place()
	var rows []park.Row
	var exhausted []uint64
	c.pollers.give(&task{
		name: "load parked events", statement: statementLoad, at: at,
		run: func(ctx context.Context, s store) (err error) {
			rows, exhausted, err = s.loadKeys(ctx, at, keys, max(1, size/len(keys)), bytes)
			return err
		},
		then: func() {
			w.keys = make(map[uint64]bool, len(keys))
			for _, key := range keys {
				w.keys[key] = false
			}
			for _, key := range exhausted {
				w.keys[key] = true
			}
			c.keysLoaded(d, rows)
		},
	})
}

func (c *core) loadSize() int { return min(c.cfg.Table.BatchSize, c.cfg.BatchMessages) }

// keysLoaded takes of a load by keys what is due.
func (c *core) keysLoaded(d *destination, rows []park.Row) {
	w, now := &d.table, time.Now()
	w.rows = w.rows[:0]
	if c.dropStale(d) {
		return
	}
	found := map[uint64]bool{}
	for _, row := range rows {
		_, ours := w.keys[row.Key]
		if !ours {
			continue // behind a row of its key that is not due
		}
		found[row.Key] = true
		if row.Due.After(now) {
			c.cutKey(d, row.Key, row.Due)
			continue
		}
		if len(w.rows) == c.loadSize() {
			w.keys[row.Key] = false
			continue
		}
		w.rows = append(w.rows, row)
	}
	for key, exhausted := range w.keys {
		if found[key] {
			continue
		}
		delete(w.keys, key)
		switch {
		case exhausted:
			d.lane.Keys.Settled(key, true, micros(now))
		case len(rows) > 0: // others have used up the bytes, or a dead row blocks it: the next load tells
			d.lane.Keys.Settled(key, false, micros(now))
		default:
			d.lane.Keys.Refused(key, lane.Never) // a dead row of the key blocks it
		}
	}
	c.loadEnded(d)
}

// cutKey lets the key's rows from one on wait for their time: those before it are still published.
func (c *core) cutKey(d *destination, key uint64, due time.Time) {
	delete(d.table.keys, key)
	d.lane.Keys.Refused(key, micros(due))
}

// scanLoaded takes of a load in position order what is due; the keys of the rest wait for their time.
func (c *core) scanLoaded(d *destination, a *ahead) {
	w, now := &d.table, time.Now()
	w.rows = w.rows[:0]
	w.next, w.end = w.cursor, a.end
	if c.dropStale(d) {
		return
	}
	for _, row := range a.rows {
		w.next = row.Cursor()
		switch {
		case d.lane.Keys.PassesOver(row.Key):
		case row.Due.After(now):
			c.metInScan(d, &row)
		default:
			w.rows = append(w.rows, row)
		}
	}
	if len(w.rows) == 0 {
		if w.advance(w.next) && d.lane.State() != lane.Parking && d.lane.Keys.ScanEnded() {
			c.drainedAt(d)
		}
	}
	c.loadAhead(d)
	c.loadEnded(d)
}

// metInScan lets the key of a row that is not due, or was refused, wait as the row says. Where rows have changed during the scan, the row may be out of
// date: the key is loaded again.
func (c *core) metInScan(d *destination, row *park.Row) {
	if d.table.rescan {
		d.lane.Keys.Refused(row.Key, 0)
		return
	}
	c.keyRefused(d, row)
}

// drainedAt notes that the destination's backlog is delivered.
func (c *core) drainedAt(d *destination) {
	d.table.cursor = park.Cursor{}
	c.cfg.Log.Info().Str("sink", d.sink.name).Str("destination", d.name).Int("keys_waiting", d.lane.Keys.Len()).
		Msg("the parked backlog is delivered; the destination takes from the log again")
}

// loadEnded goes on with what was loaded, if anything was.
func (c *core) loadEnded(d *destination) {
	w := &d.table
	w.loaded = len(w.rows) > 0
	w.busy = w.loaded
	c.tableDue = time.Time{}
	d.enqueue()
}

// lend begins the table lane's turn with the job that publishes the destination's loaded rows, or the first batch of them.
func (s *sinkLane) lend(cfg *Config, d *destination) {
	d.lane.Lend()
	d.table.loaded, d.table.turn = false, turn{began: time.Now()}
	s.publishLent(cfg, d)
}

// publishLent publishes the next batch of the turn's rows.
func (s *sinkLane) publishLent(cfg *Config, d *destination) {
	rows := d.table.rows
	rows = rows[:min(len(rows), cfg.BatchMessages)]
	j := s.spareJob()
	j.table, j.suspect, j.frontier = true, d.suspect(), d.lane.Frontier()
	entries := make([]entry, len(rows))
	for i := range rows {
		row := &rows[i]
		entries[i] = entry{event: row.Event, replay: int32(row.Replay), key: row.Key, commitTime: micros(row.Committed)}
		j.items = append(j.items, lane.Item[*entry]{Position: row.Event.Position, Size: row.Event.Size(), Value: &entries[i]})
		if row.Event.Position.After(j.frontier) {
			j.frontier = row.Event.Position
		}
	}
	j.spans = append(j.spans, span{destination: d, to: len(j.items)})
	s.busyLent++
	s.start(j)
}

// place is the destination as the table knows it.
func (d *destination) place() park.Destination {
	return park.Destination{Sink: d.sink.name, Name: d.name}
}

// passed is the position that the checkpoint has passed.
func (c *core) passed() event.Position {
	return event.Position{Epoch: c.epochs.at(c.saved), Commit: c.saved}
}

// tableWake is when the table lane has to look again; zero when only an answer wakes it.
func (c *core) tableWake() time.Time {
	if len(c.waiting) == 0 || c.draining || !c.pollers.free() {
		return time.Time{}
	}
	return c.tableDue
}
