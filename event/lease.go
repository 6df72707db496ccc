package event

import "errors"

// Lease is what a session shows with each statement that writes: the name of its slot and the term that it raised. The
// statement locks the lease's row FOR SHARE and changes nothing when the term is no longer the recorded one.
type Lease struct {
	Schema string // schema of outboxd's own tables
	Slot   string
	Term   int64
}

// ErrTermLost says that a later session raised the term: this one may write nothing any more and ends.
var ErrTermLost = errors.New("the term was raised by a later session")

// ErrNotMigrated says that a table of outboxd's own is missing or older than this program.
var ErrNotMigrated = errors.New("outboxd's own tables are missing or out of date: run outboxd migrate up")

// ErrNoRights says that the role may not use outboxd's own tables.
var ErrNoRights = errors.New("the role lacks rights on outboxd's own tables: have their owner run what outboxd migrate sql --role NAME prints")
