package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/lease"
	"github.com/outboxd/outboxd/migrations"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/wal"
)

// DefaultTimeout is how long one check may take.
const DefaultTimeout = 10 * time.Second

// Config says what to look at. All but Name, Sinks and Timeout is required.
type Config struct {
	// Connect opens a connection to the database with runtime parameters of the session.
	Connect func(ctx context.Context, parameters map[string]string) (*pgx.Conn, error)

	Name       string // before what each finding saw, where there are several configurations to tell apart
	WAL        wal.Config
	Outbox     outbox.Config
	Migrations migrations.Options // Schema is that of outboxd's own tables

	MaxRetainedWAL int64         // outage.max_retained_wal, in bytes
	MaxConnections int           // that one instance opens at most
	StopWhenLost   bool          // slot.on_lost: stop
	Failover       bool          // database.failover
	Sinks          []Sink        // those that routes name
	Timeout        time.Duration // of each check; default DefaultTimeout
}

// check looks at one thing. It keeps to ctx's deadline. An error says that the check could not be made.
type check[T any] struct {
	name string
	run  func(context.Context, T) ([]Finding, error)
}

// Examine makes all checks and returns their findings in a fixed order: the database's, then those of each sink, whose destinations the database may
// know. It returns early, with what it has found, when ctx is cancelled.
func Examine(ctx context.Context, cfg Config) []Finding {
	cfg.Timeout = cmp.Or(cfg.Timeout, DefaultTimeout)
	findings := make([][]Finding, 1+len(cfg.Sinks))
	var waiting []park.Destination
	findings[0], waiting = examineDatabase(ctx, &cfg)
	var all sync.WaitGroup
	for i := range cfg.Sinks {
		all.Go(func() { findings[1+i] = cfg.Sinks[i].examine(ctx, &cfg, waiting) })
	}
	all.Wait()
	together := slices.Concat(findings...)
	for i := range together {
		together[i].Saw = cfg.Name + together[i].Saw
	}
	return together
}

// runCheck makes one check within the time limit. What prevents it is a finding.
func runCheck[T any](ctx context.Context, timeout time.Duration, c check[T], subject T) []Finding {
	if ctx.Err() != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	findings, err := c.run(ctx, subject)
	if err != nil && !errors.Is(err, lease.ErrNotMigrated) { // that has a check of its own
		findings = append(findings, notChecked(c.name, timeout, err))
	}
	return findings
}

func notChecked(name string, timeout time.Duration, err error) Finding {
	why := "what is not checked may be wrong"
	switch {
	case lease.HasCode(err, lease.InsufficientPrivilege):
		return found(Warning, name, "not checked: "+err.Error(), why, "give the role the right, as outboxd migrate sql --role NAME does")
	case lease.HasCode(err, lease.QueryCanceled, lease.LockNotAvailable):
		return found(Warning, name, fmt.Sprintf("not checked: it took longer than %s", timeout), why, "run doctor again with a longer --timeout, when the server has less to do")
	case errors.Is(err, context.DeadlineExceeded):
		return found(Warning, name, fmt.Sprintf("not checked: no answer within %s", timeout), why, "see why the server is slow, or run doctor again with a longer --timeout")
	default:
		return found(Warning, name, "not checked: "+err.Error(), why, "run doctor again; when it stays, see the server's log")
	}
}

// Fixed is what became of one finding that could be fixed.
type Fixed struct {
	Check string `json:"check"`
	Did   string `json:"did,omitempty"`
	Error string `json:"error,omitempty"`
}

// Mend does what the findings offer, in their order, and tells of each. Examine again to see what is left.
func Mend(ctx context.Context, cfg Config, findings []Finding) []Fixed {
	var all []Fixed
	for _, f := range findings {
		if f.fix == nil {
			continue
		}
		did, err := mend(ctx, cfg, f)
		one := Fixed{Check: f.Check, Did: did}
		if err != nil {
			one.Error = err.Error()
		}
		all = append(all, one)
	}
	return all
}

// mend does it over a connection of its own, so that what one leaves behind in its session does not hinder the next. What waits for a lock of the
// application gives up soon; the index of a large table takes the time that it takes, whatever the settings say of a statement.
func mend(ctx context.Context, cfg Config, f Finding) (did string, err error) {
	conn, err := cfg.Connect(ctx, map[string]string{"lock_timeout": mendLockTimeout, "statement_timeout": "0"})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, wal.CloseConn(ctx, conn)) }()
	return f.fix(ctx, conn)
}

// mendLockTimeout is short, for others would wait behind a lock that waits. Tests shorten it.
var mendLockTimeout = "10s"
