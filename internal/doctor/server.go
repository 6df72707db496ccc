package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/lease"
	"github.com/outboxd/outboxd/wal"
)

// whyOf says why a check of wal.Verify matters.
var whyOf = map[wal.Check]string{
	wal.CheckVersion:     "older servers lack what logical decoding needs here",
	wal.CheckPrimary:     "a standby can neither hold the slot nor be written to",
	wal.CheckWALLevel:    "without logical decoding nothing can be read from the log",
	wal.CheckRole:        "the replication connection is refused",
	wal.CheckSenders:     "there is no place for the replication connection",
	wal.CheckSlots:       "there is no place for the slot",
	wal.CheckTimeout:     "the server would end the stream for want of a sign of life",
	wal.CheckSynchronous: "every commit of the server can stand still, or counts as copied to a standby that has no copy",
	wal.CheckTable:       "no row of it would be read",
	wal.CheckColumns:     "rows cannot be read as events",
	wal.CheckPublication: "the server leaves rows out that no publication names, without a word",
	wal.CheckFilter:      "events of this shard are not delivered, those of another or updated ones are delivered twice, or rows cannot be changed",
	wal.CheckLayout:      "every event would be delivered twice",
	wal.CheckSlot:        "the stream cannot be read from it",
}

// checkServer makes the checks of a session's beginning. Those of the slot's state have checks of their own here, where an active one is fine.
func checkServer(ctx context.Context, d *database) ([]Finding, error) {
	server, err := wal.Verify(ctx, d.conn, d.WAL)
	failed := wal.CheckErrors(err)
	if server == nil || err != nil && len(failed) == 0 {
		return nil, err
	}
	d.server = server
	var findings []Finding
	for _, f := range failed {
		if f.Check != wal.CheckSlotActive && f.Check != wal.CheckSlotLost {
			findings = append(findings, d.verified(f))
		}
	}
	for _, w := range server.Warnings {
		if !toldElsewhere(server, w) {
			findings = append(findings, found(Info, "server", w, "", ""))
		}
	}
	if server.Major() < oldestMaintained {
		findings = append(findings, found(Info, "version", fmt.Sprintf("PostgreSQL %d gets no more corrections", server.Major()),
			"faults of the server itself stay", "upgrade PostgreSQL"))
	}
	return append(findings, ok("server", "PostgreSQL %d, database %s, role %s", server.Major(), server.Database, server.Role)), nil
}

// toldElsewhere tells whether another check says the same, with its mend.
func toldElsewhere(s *wal.Server, warning string) bool {
	return s.RowFilter != "" && strings.Contains(warning, s.RowFilter) || s.Slot != nil && strings.Contains(warning, "is about to be lost")
}

// oldestMaintained is the oldest major version with corrections. Source: https://www.postgresql.org/support/versioning/
const oldestMaintained = 14

// verified is a failed check of wal.Verify. A table that is not in the publication can be added: the mend is the statement.
func (d *database) verified(c *wal.CheckError) Finding {
	f := found(Error, string(c.Check), c.Problem, whyOf[c.Check], c.Mend)
	if c.Check == wal.CheckPublication && strings.HasPrefix(c.Mend, "ALTER PUBLICATION") && strings.Contains(c.Mend, " ADD TABLE ") {
		return f.withFix(func(ctx context.Context, conn *pgx.Conn) (string, error) { return execute(ctx, conn, c.Mend) })
	}
	return f
}

// execute runs a statement that is harmless where somebody else did the same.
func execute(ctx context.Context, conn *pgx.Conn, statement string) (did string, err error) {
	_, err = conn.Exec(ctx, statement)
	if lease.HasCode(err, lease.DuplicateObject) {
		return "found it done: " + statement, nil
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", statement, err)
	}
	return statement, nil
}

// concurrently runs CREATE or DROP INDEX CONCURRENTLY, which nobody waits behind, and which waits itself for every open snapshot of the database:
// a standby instance holds one for a minute (see park.Lock).
func concurrently(ctx context.Context, conn *pgx.Conn, statement string) (did string, err error) {
	if _, err := conn.Exec(ctx, "SET lock_timeout = '2min'"); err != nil {
		return "", err
	}
	did, err = execute(ctx, conn, statement)
	if err != nil {
		err = fmt.Errorf("%w (what it leaves is an invalid index: end transactions that are open for long, and run doctor --fix again)", err)
	}
	return did, err
}

var settingNames = []string{
	"wal_level", "max_replication_slots", "max_wal_senders", "max_slot_wal_keep_size", "wal_sender_timeout", "idle_replication_slot_timeout",
	"fsync", "full_page_writes", "autovacuum", "track_counts",
}

func checkSettings(ctx context.Context, d *database) ([]Finding, error) {
	s := settings{values: map[string]string{}, maxRetained: d.MaxRetainedWAL}
	rows, err := d.conn.Query(ctx, `SELECT name, setting FROM pg_settings WHERE name = ANY($1)`, settingNames)
	if err != nil {
		return nil, err
	}
	var name, value string
	if _, err := pgx.ForEachRow(rows, []any{&name, &value}, func() error {
		s.values[name] = value
		return nil
	}); err != nil {
		return nil, err
	}
	err = d.conn.QueryRow(ctx, `SELECT (SELECT count(*) FROM pg_replication_slots), (SELECT count(*) FROM pg_stat_replication)`).Scan(&s.slots, &s.senders)
	return s.findings(), err
}

// checkConnections sees whether there is room for one instance more.
func checkConnections(ctx context.Context, d *database) ([]Finding, error) {
	var most, reserved, used int
	err := d.conn.QueryRow(ctx, `SELECT current_setting('max_connections')::int, current_setting('superuser_reserved_connections')::int,
		(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')`).Scan(&most, &reserved, &used)
	if err != nil {
		return nil, err
	}
	return []Finding{connectionsFinding(most, reserved, used, d.MaxConnections)}, nil
}

func connectionsFinding(most, reserved, used, wanted int) Finding {
	if free := most - reserved - used; free < wanted {
		return found(Warning, "max_connections", fmt.Sprintf("%d of %d connections are in use, and outboxd opens up to %d", used, most-reserved, wanted),
			"what is parked waits when no connection is to be had, and an instance cannot start",
			fmt.Sprintf("ALTER SYSTEM SET max_connections = %d and restart PostgreSQL, or end connections that nobody needs", most+wanted-free))
	}
	return ok("max_connections", "%d of %d connections are in use", used, most-reserved)
}

// maxSkew is how far clocks may differ. Ages and due times are in seconds.
const maxSkew = 2 * time.Second

func checkDatabaseClock(ctx context.Context, d *database) ([]Finding, error) {
	var theirs time.Time
	before := now()
	if err := d.conn.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&theirs); err != nil {
		return nil, err
	}
	return []Finding{clockFinding("PostgreSQL", theirs, before, now())}, nil
}

// clockFinding compares a clock that was read between two moments of this machine's.
func clockFinding(whose string, theirs, before, after time.Time) Finding {
	skew := time.Duration(0)
	switch {
	case theirs.Before(before):
		skew = theirs.Sub(before)
	case theirs.After(after):
		skew = theirs.Sub(after)
	}
	if skew.Abs() > maxSkew {
		return found(Warning, "clock", fmt.Sprintf("the clock of %s differs from this machine's by %s", whose, skew.Round(100*time.Millisecond)),
			"ages, times of the next attempt and the validity of certificates and tokens go by it", "let chrony or systemd-timesyncd set both clocks (timedatectl set-ntp true)")
	}
	return ok("clock", "the clock of %s agrees with this machine's", whose)
}

// now is the clock, which tests set.
var now = time.Now
