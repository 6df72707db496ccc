package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outboxd/outboxd/lease"
	"github.com/outboxd/outboxd/wal"
)

// fatal tells whether only a person can mend the cause of err.
func fatal(err error) bool {
	if failsCheck(err, wal.CheckPrimary) {
		return false // the wrong server was asked, whatever else it said
	}
	for _, failed := range wal.CheckErrors(err) {
		if !slices.Contains(passingChecks, failed.Check) {
			return true
		}
	}
	for _, one := range []error{wal.ErrSlotLost, wal.ErrReplaced, ErrLogLost, ErrOtherActive, lease.ErrNotMigrated} {
		if errors.Is(err, one) {
			return true
		}
	}
	return false
}

// passingChecks are those that a running system can fail for a while: another instance has the slot, or senders of sessions that were cut
// off have not ended yet. A failover can lead to the standby before it is promoted. Patroni's
// synchronous_mode_strict names any standby while none is there.
var passingChecks = []wal.Check{wal.CheckSlotActive, wal.CheckSenders, wal.CheckSynchronous}

func failsCheck(err error, check wal.Check) bool {
	return slices.ContainsFunc(wal.CheckErrors(err), func(e *wal.CheckError) bool { return e.Check == check })
}

// failedChecks joins those of the failed checks in err that are wanted.
func failedChecks(err error, wanted func(wal.Check) bool) error {
	var found []error
	for _, failed := range wal.CheckErrors(err) {
		if wanted(failed.Check) {
			found = append(found, failed)
		}
	}
	return errors.Join(found...)
}

// passing tells whether err can go away by itself: a server that is not there yet, busy, or on its way down. Before the first
// session everything else is taken for a wrong setting (a password, a database, a right, a column), and Run ends with it; later
// nothing of the settings has changed, and trying again is safer than ending.
func passing(err error) bool {
	for _, one := range []error{
		wal.ErrSlotActive, wal.ErrServerStopping, wal.ErrServerSilent, wal.ErrOtherServer, lease.ErrTermLost,
		io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, context.DeadlineExceeded, context.Canceled,
	} {
		if errors.Is(err, one) {
			return true
		}
	}
	if _, ok := errors.AsType[*pgconn.PgError](err); ok {
		return lease.InClass(err, passingClasses...)
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	return connecting
}

// passingClasses are the classes of SQLSTATE that say nothing about the settings: connection, serialization, resources, object in use,
// operator, system. Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
var passingClasses = []string{"08", "40", "53", "55", "57", "58"}
