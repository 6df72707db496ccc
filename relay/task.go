package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/lease"
	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/wal"
)

const longTask = 15 * time.Minute // of an attempt at what reads or moves much

const taskTimeout = time.Minute // of one attempt; a connection that is silent for longer is given up with its session

// task is work for the database beside the settler's. The core makes it; a clerk runs it, which touches nothing of the core's; then the
// core goes on with what came of it.
type task struct {
	name      string // for errors: "park events"
	statement statement
	at        park.Destination // the one that it is for; zero: several, or none
	run       func(context.Context, store) error
	then      func()        // in the core, after run has succeeded
	limit     time.Duration // of one attempt; 0 stands for taskTimeout
	soft      bool          // what takes longer is given up, and tried again another time; a stop does not wait for it
	desk      *desk
	err       error
}

// softly is 1 for a soft task.
func (t *task) softly() int {
	if t.soft {
		return 1
	}
	return 0
}

// desk is a number of clerks with a line of tasks before them. It belongs to the core.
type desk struct {
	clerks int
	busy   int
	soft   int // of the busy ones, with tasks that a stop does not wait for
	line   []*task
	todo   chan *task // has room for one task for each clerk
}

func newDesk(clerks int) *desk { return &desk{clerks: clerks, todo: make(chan *task, clerks)} }

// spare is how many tasks would be begun at once.
func (d *desk) spare() int { return d.clerks - d.busy - len(d.line) }

// free tells whether a task would be begun at once.
func (d *desk) free() bool { return d.spare() > 0 }

// idle tells whether nothing is under way that a stop waits for.
func (d *desk) idle() bool { return d.busy == d.soft && len(d.line) == 0 }

// give puts a task at the end of the line.
func (d *desk) give(t *task) {
	t.desk = d
	d.line = append(d.line, t)
	d.begin()
}

// giveFirst puts a task at the head of the line: others wait for what it does.
func (d *desk) giveFirst(t *task) {
	t.desk = d
	d.line = append([]*task{t}, d.line...)
	d.begin()
}

func (d *desk) begin() {
	for d.busy < d.clerks && len(d.line) > 0 {
		d.busy++
		d.soft += d.line[0].softly()
		d.todo <- d.line[0]
		d.line = d.line[1:]
	}
}

// taskDone goes on with what came of a task. A failed one ends the session.
func (c *core) taskDone(t *task) error {
	t.desk.busy--
	t.desk.soft -= t.softly()
	if t.err != nil {
		return fmt.Errorf("%s: %w", t.name, t.err)
	}
	if t.then != nil {
		t.then()
	}
	t.desk.begin()
	return nil
}

// clerk runs tasks, one at a time, on a connection of its own, which it opens at its first.
type clerk struct {
	connect    func(context.Context) (*pgx.Conn, error)
	store      func(*pgx.Conn) store
	statements time.Duration // that the server gives a statement, but for those of tasks with a limit of their own; 0: as it likes

	todo    <-chan *task
	done    chan<- *task // has room for every task that is under way
	queries *queries
	log     zerolog.Logger

	conn *pgx.Conn
}

func (k *clerk) run(ctx context.Context) error {
	defer k.close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case t := <-k.todo:
			t.err = k.do(ctx, t)
			k.done <- t
		}
	}
}

// lateness is how much longer one side waits, so that the one that is to end a statement does.
const lateness = 5 * time.Second

// do runs the task. What another session's lock or a deadlock refused is tried again here.
func (k *clerk) do(ctx context.Context, t *task) (err error) {
	if err := k.connected(ctx, t); err != nil {
		return err
	}
	if k.statements > 0 && t.limit > 0 {
		if err := limitStatements(ctx, k.conn, t.limit+lateness); err != nil {
			return err
		}
		defer func() {
			if err == nil && !k.conn.IsClosed() {
				err = limitStatements(ctx, k.conn, k.statements)
			}
		}()
	}
	notify := func(err error, wait time.Duration) {
		k.log.Warn().Err(err).Str("task", t.name).Str("destination", t.at.Name).Stringer("again_in", wait.Round(time.Millisecond)).Msg("a task on the tables is held up by the database")
	}
	return retryLocked(ctx, notify, func() error { return k.once(ctx, t) })
}

func (k *clerk) once(ctx context.Context, t *task) error {
	limited, cancel := context.WithTimeout(ctx, cmp.Or(t.limit, max(taskTimeout, k.statements+lateness)))
	defer cancel()
	done := k.queries.begin(t.statement)
	err := t.run(limited, k.store(k.conn))
	done()
	if t.soft && ctx.Err() == nil && (limited.Err() != nil || endedByServer(err)) {
		k.log.Warn().Err(err).Str("task", t.name).Str("destination", t.at.Name).Msg("it took too long and is given up for now")
		return nil
	}
	return err
}

// connected makes sure that the clerk has a connection. Where the server has none to give at the moment, the session goes on without: a next one would need more.
func (k *clerk) connected(ctx context.Context, t *task) (err error) {
	if k.conn != nil && !k.conn.IsClosed() {
		return nil
	}
	try := func() (*pgx.Conn, error) {
		limited, cancel := context.WithTimeout(ctx, taskTimeout)
		defer cancel()
		conn, err := k.connect(limited)
		if err != nil && (!passing(err) || errors.Is(err, wal.ErrOtherServer)) {
			err = backoff.Permanent(err)
		}
		return conn, err
	}
	notify := func(err error, wait time.Duration) {
		k.log.Warn().Err(err).Str("task", t.name).Stringer("again_in", wait.Round(time.Millisecond)).Msg("a task on the tables waits for a connection to the database")
	}
	waits := backoff.NewExponentialBackOff()
	waits.InitialInterval, waits.MaxInterval = sessionRetryBase, sessionRetryMax
	k.conn, err = backoff.Retry(ctx, try, backoff.WithBackOff(waits), backoff.WithNotify(notify), backoff.WithMaxElapsedTime(0))
	return err
}

// endedByServer tells whether the server has ended a statement because of its statement_timeout, or because somebody asked it to.
func endedByServer(err error) bool { return lease.HasCode(err, lease.QueryCanceled) }

func (k *clerk) close() {
	if k.conn == nil {
		return
	}
	if err := wal.CloseConn(context.Background(), k.conn); err != nil {
		k.log.Debug().Err(err).Str("connection", "clerk").Msg("closed in disorder")
	}
}

// single is work of which one piece at a time is under way, and one more follows where it was asked for meanwhile.
type single struct{ busy, again bool }

// begin tells whether to begin; if not, it is done once more when the piece under way has ended.
func (s *single) begin() bool {
	if s.busy {
		s.again = true
		return false
	}
	s.busy, s.again = true, false
	return true
}

// end tells whether to begin once more.
func (s *single) end() bool {
	s.busy = false
	return s.again
}
