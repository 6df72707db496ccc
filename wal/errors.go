package wal

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// What ends or prevents a session. Each is found with errors.Is in the errors that this package returns; an error that
// is none of them (a cut connection, a refused login) says nothing about the log, and the caller connects again.
var (
	// ErrSlotActive: another session streams from the slot. Wait and try again, or end the other one.
	ErrSlotActive = errors.New("slot is in use by another session")

	// ErrSlotMissing: the slot does not exist.
	ErrSlotMissing = errors.New("slot does not exist")

	// ErrSlotLost: the server removed WAL that the slot needs. Nothing can be read from the slot again; the rows since its
	// position are only in the table.
	ErrSlotLost = errors.New("slot was invalidated by the server")

	// ErrReplaced: the server is another cluster than the one that Config.SystemID names, so log positions of
	// before mean nothing here.
	ErrReplaced = errors.New("the server is another cluster")

	// ErrOtherHistory: the server's timeline did not come of the one that it was asked about. It was restored from a backup of another time.
	ErrOtherHistory = errors.New("the server has another history")

	// ErrOtherServer: the server is not the one of the caller's other connections (Config.Started), as in a failover whose old primary goes on.
	ErrOtherServer = errors.New("the connection leads to another server than the session's first one")

	// ErrServerStopping: the server shuts down, or waits in its shutdown for this session to go. Close the stream
	// at once and connect again later.
	ErrServerStopping = errors.New("server is stopping")

	// ErrServerSilent: the server was asked for a sign of life and gave none for its own wal_sender_timeout.
	ErrServerSilent = errors.New("server is silent")

	// ErrPublicationMissing: at this place of the log the publication does not exist (it was dropped, or made after the slot).
	// Rows may have been left out of the stream, so nothing received from now on may be confirmed.
	ErrPublicationMissing = errors.New("publication does not exist at this place of the log")
)

// SQLSTATEs that this package alone asks for; the others have their names in package lease. Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
const (
	codeObjectInUse   = "55006"
	codeNotInState    = "55000" // object_not_in_prerequisite_state: an invalidated slot, a wrong wal_level, ...
	codeSyntaxError   = "42601"
	codeNotSupported  = "0A000"
	codeAdminShutdown = "57P01"
	codeCrashShutdown = "57P02"
	codeCannotConnect = "57P03"

	codeProtocolViolation = "08P01"
)

// Check names one of the checks of [Verify], or that of [CheckPooler].
type Check string

// The checks of [CheckPooler] and of [Verify], in the order in which they are made.
const (
	CheckThroughPooler Check = "pooler" // of CheckPooler alone
	CheckVersion       Check = "server_version"
	CheckPrimary       Check = "primary"
	CheckWALLevel      Check = "wal_level"
	CheckRole          Check = "role"
	CheckSenders       Check = "max_wal_senders"
	CheckSlots         Check = "max_replication_slots"
	CheckTimeout       Check = "wal_sender_timeout"
	CheckSynchronous   Check = "synchronous_standby_names"
	CheckTable         Check = "table"
	CheckColumns       Check = "columns"
	CheckPublication   Check = "publication"
	CheckFilter        Check = "row_filter" // of a shard's publication
	CheckLayout        Check = "layout"     // an instance of another layout is there
	CheckSlot          Check = "slot"
	CheckSlotLost      Check = "slot_lost"   // errors.Is(err, ErrSlotLost)
	CheckSlotActive    Check = "slot_active" // errors.Is(err, ErrSlotActive)
)

// CheckError is one thing that must be put right before the log can be read. [Verify] joins all that it finds.
type CheckError struct {
	Check   Check
	Problem string // what is wrong, naming the thing
	Mend    string // the command or SQL that puts it right
}

// Error returns "PROBLEM: MEND".
func (e *CheckError) Error() string { return e.Problem + ": " + e.Mend }

// Is lets errors.Is find the session errors that a check foresees.
func (e *CheckError) Is(target error) bool {
	switch e.Check {
	case CheckSlotLost:
		return target == ErrSlotLost
	case CheckSlotActive:
		return target == ErrSlotActive
	default:
		return false
	}
}

// CheckErrors returns the failed checks inside err, in order.
func CheckErrors(err error) []*CheckError {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		var all []*CheckError
		for _, one := range joined.Unwrap() {
			all = append(all, CheckErrors(one)...)
		}
		return all
	}
	if check, ok := errors.AsType[*CheckError](err); ok {
		return []*CheckError{check}
	}
	return nil
}

// sqlState returns the SQLSTATE of a server's error, or "".
func sqlState(err error) string {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr.Code
	}
	return ""
}

// classify puts the name of its meaning before a server's error. What has no name stays as it is.
func classify(err error) error {
	switch sqlState(err) {
	case codeObjectInUse:
		return fmt.Errorf("%w: %w", ErrSlotActive, err)
	case codeAdminShutdown, codeCrashShutdown, codeCannotConnect:
		return fmt.Errorf("%w: %w", ErrServerStopping, err)
	default:
		return ThroughPooler(err)
	}
}
