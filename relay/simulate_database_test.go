package relay

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/outboxd/outboxd/checkpoint"
	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lease"
	"github.com/outboxd/outboxd/park"
)

// simDatabase is a model of PostgreSQL: the log, the outbox table, and the tables of outboxd.
type simDatabase struct {
	w          *world
	log        []*simTx
	rows       map[string]*simRow
	parked     []*park.Row // in the order of the primary key's first use
	tailRead   map[park.Destination]event.Position
	undurable  []park.Row // with the protection off: rows that the park's answer came before
	record     checkpoint.Record
	slot       simSlot
	timelines  []event.LSN // where those began that came since the record was made
	replicated int         // so many transactions of the log has the standby, for certain
	term       int64
	nextXid    uint32
	replays    int
}

// simSlot is the replication slot.
type simSlot struct {
	confirmed  event.LSN
	gone       bool // somebody has dropped it
	unrecorded bool // it was made, and the record is still that of the one before
}

// simTx is a committed transaction. It becomes visible some time after it is in the log.
type simTx struct {
	commit, end event.LSN
	xid         uint32
	visible     bool
	rows        []*simRow
}

// simRow is a row of the outbox.
type simRow struct {
	event    event.Event
	status   string
	serial   int  // in the order of commits
	replays  int  // so many times it was to be delivered once more
	reset    bool // a person has set it back to NEW, and the sweep has not seen it yet
	loose    bool // nothing more is promised of it
	attempts int
	due      time.Time
	tx       *simTx
	xmin     uint32
}

func (d *simDatabase) end() event.LSN {
	if len(d.log) == 0 {
		return 1
	}
	return d.log[len(d.log)-1].end
}

// seen is the row of the id, if a statement can see it.
func (d *simDatabase) seen(id string) *simRow {
	if r := d.rows[id]; r != nil && r.tx.visible {
		return r
	}
	return nil
}

// set changes a row's status, in a transaction of its own.
func (d *simDatabase) set(r *simRow, status string) { r.status, r.xmin = status, d.xid() }

func (d *simDatabase) xid() uint32 {
	d.nextXid++
	return d.nextXid - 1
}

func (d *simDatabase) isParked(id string) bool {
	return slices.ContainsFunc(d.parked, func(p *park.Row) bool { return string(p.Event.ID) == id })
}

// find is a parked row; nil when there is none.
func (d *simDatabase) find(at park.Destination, ref event.Ref) *park.Row {
	i := slices.IndexFunc(d.parked, func(p *park.Row) bool { return p.Destination == at && p.Ref() == ref })
	if i < 0 {
		return nil
	}
	return d.parked[i]
}

// simStore is what one connection of a session does there.
type simStore struct {
	*simDatabase
	term  int64
	limit *int // so many statements more, before the connection is cut; negative: it is not
}

var errSimCut = errors.New("the connection is cut")

// begin is the beginning of a statement: it fails where the connection is cut, or a later session has raised the term.
func (s simStore) begin(writes bool) error {
	if *s.limit == 0 {
		return errSimCut
	}
	*s.limit--
	if writes && s.term != s.simDatabase.term && s.w.off != "term" {
		return lease.ErrTermLost
	}
	if writes { // it returns when the standby has it, and with it all that came before
		s.replicated = len(s.log)
	}
	return nil
}

// done is the end of a statement: the connection may be cut before its answer.
func (s simStore) done() error {
	if *s.limit == 0 && s.w.lostAnswer {
		return errSimCut
	}
	return nil
}

func (s simStore) checkTerm(context.Context) (event.LSN, error) {
	if err := s.begin(s.w.off != "term checked behind the fence"); err != nil {
		return 0, err
	}
	return s.end(), s.done()
}
