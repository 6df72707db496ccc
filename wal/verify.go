package wal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Versions that this package was tested with. Older ones are refused, newer ones get a warning.
const (
	oldestMajor = 12
	newestMajor = 18

	failoverMajor = 17 // from here on slots can be synchronized to standbys
)

// Server is what [Verify] found out. Facts that need an earlier check to pass may be zero beside an error.
type Server struct {
	Version          int    // like 150008; see Major
	SystemID         string // pg_control_system's system_identifier, decimal; what IDENTIFY_SYSTEM says
	Timeline         int32  // 0 on a standby
	Database         string
	Role             string
	WALSenderTimeout time.Duration // 0 when it is switched off

	TableOwner  string
	Partitioned bool // the table is the root of a partitioned table

	PublicationExists  bool
	RowFilter          string // SQL of the publication's row filter on the table, "" without one (15)
	CreatedPublication bool   // by Setup

	Slot        *Slot // nil when it does not exist
	CreatedSlot bool  // by Setup

	Warnings []string // what a person should know and nothing has to be done about now
}

// Major returns the server's major version, like 15.
func (s *Server) Major() int { return s.Version / 10000 }

// verifier collects the problems of one Verify.
type verifier struct {
	conn     *pgx.Conn
	cfg      Config
	server   *Server
	problems []error
}

func (v *verifier) fail(check Check, problem, mend string) {
	v.problems = append(v.problems, &CheckError{check, problem, mend})
}

func (v *verifier) warn(format string, args ...any) {
	v.server.Warnings = append(v.server.Warnings, fmt.Sprintf(format, args...))
}

// Verify makes every check that can be made before START_REPLICATION, over an ordinary connection to the database of cfg.URL. It
// changes nothing. All problems are found at once: the error joins a [CheckError] for each (see [CheckErrors]), and the facts
// are returned beside it. Any other error means that the checks could not be made; the facts are nil then.
//
// With cfg.Create a publication or a slot that is missing is not a problem as long as [Setup] can make it. The role
// needs neither SELECT on the table nor any privilege for the checks themselves.
func Verify(ctx context.Context, conn *pgx.Conn, cfg Config) (*Server, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	v := &verifier{conn: conn, cfg: cfg, server: &Server{}}
	major, err := majorVersion(ctx, conn)
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	if major < oldestMajor {
		v.fail(CheckVersion, fmt.Sprintf("server version is %d, want %d or later", major, oldestMajor), "upgrade PostgreSQL")
		v.server.Version = major * 10000
		return v.server, errors.Join(v.problems...)
	}
	for _, step := range []func(context.Context) error{v.checkServer, v.checkSynchronous, v.checkTable, v.checkSlot, v.checkPublication, v.checkLayout, v.checkCapacity} {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("verify: %w", err)
		}
	}
	return v.server, errors.Join(v.problems...)
}

// checkServer checks what does not depend on table, publication or slot.
func (v *verifier) checkServer(ctx context.Context) error {
	var (
		s                     = v.server
		standby, mayReplicate bool
		walLevel              string
		encoding              string
		timeoutMillis         int64
	)
	err := v.conn.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, pg_is_in_recovery(), current_setting('wal_level'),
		current_database(), current_user, current_setting('server_encoding'),
		(SELECT setting::bigint FROM pg_settings WHERE name = 'wal_sender_timeout'),
		(SELECT system_identifier::text FROM pg_control_system()),
		(SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = current_user)
			OR EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_replication' AND pg_has_role(oid, 'MEMBER'))`).
		Scan(&s.Version, &standby, &walLevel, &s.Database, &s.Role, &encoding, &timeoutMillis, &s.SystemID, &mayReplicate)
	if err != nil {
		return fmt.Errorf("read server: %w", err)
	}
	s.WALSenderTimeout = time.Duration(timeoutMillis) * time.Millisecond
	if s.Major() > newestMajor {
		v.warn("PostgreSQL %d is newer than what this version was tested with (%d to %d)", s.Major(), oldestMajor, newestMajor)
	}
	if v.cfg.Failover && s.Major() < failoverMajor {
		v.warn("database.failover has no effect: PostgreSQL %d does not synchronize logical slots to standbys, %d and later do", s.Major(), failoverMajor)
	}
	if encoding == sqlASCII {
		v.warn("database %q has the encoding %s, which takes any bytes: an event that is not UTF-8 is refused, and parked", s.Database, encoding)
	}
	if standby {
		v.fail(CheckPrimary, "the server is a standby, in recovery", "connect to the primary (several hosts and target_session_attrs=read-write in the URL find it)")
	} else if err := v.readTimeline(ctx); err != nil {
		return err
	}
	if walLevel != "logical" {
		v.fail(CheckWALLevel, fmt.Sprintf("wal_level is %q, want \"logical\"", walLevel),
			"ALTER SYSTEM SET wal_level = 'logical' and restart PostgreSQL (on Amazon RDS set rds.logical_replication = 1 in the parameter group)")
	}
	if !mayReplicate {
		v.fail(CheckRole, fmt.Sprintf("role %q may not replicate", s.Role),
			"ALTER ROLE "+quoteName(s.Role)+" REPLICATION (on Amazon RDS: GRANT rds_replication TO "+quoteName(s.Role)+")")
	}
	v.checkTimeout()
	return nil
}

// readTimeline reads the timeline that is written now; pg_control_checkpoint knows only that of the last checkpoint.
func (v *verifier) readTimeline(ctx context.Context) error {
	err := v.conn.QueryRow(ctx, `SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int`).Scan(&v.server.Timeline)
	if err != nil {
		return fmt.Errorf("read timeline: %w", err)
	}
	return nil
}

// checkTimeout refuses a status so rare that the server ends the connection, or asks for one each time.
func (v *verifier) checkTimeout() {
	limit := v.server.WALSenderTimeout
	if limit > 0 && v.cfg.StatusInterval >= limit/2 {
		v.fail(CheckTimeout, fmt.Sprintf("wal_sender_timeout is %s and the status interval %s, want less than half of it", limit, v.cfg.StatusInterval),
			"ALTER ROLE "+quoteName(v.server.Role)+" SET wal_sender_timeout = '60s'")
	}
}

// checkCapacity checks that the server has room for the session, and for the slot when it will be made.
func (v *verifier) checkCapacity(ctx context.Context) error {
	var senders, maxSenders, slots, maxSlots, unread, missing int
	err := v.conn.QueryRow(ctx, `SELECT (SELECT count(*) FROM pg_stat_replication), current_setting('max_wal_senders')::int,
		(SELECT count(*) FROM pg_replication_slots), current_setting('max_replication_slots')::int,
		count(*) FILTER (WHERE s.active IS NOT TRUE), count(*) FILTER (WHERE s.slot_name IS NULL)
		FROM unnest($1::text[]) b(slot) LEFT JOIN pg_replication_slots s ON s.slot_name = b.slot`, v.cfg.Beside).
		Scan(&senders, &maxSenders, &slots, &maxSlots, &unread, &missing)
	if err != nil {
		return fmt.Errorf("read capacity: %w", err)
	}
	active := v.server.Slot != nil && v.server.Slot.Active // its sender will be ours
	if senders+unread >= maxSenders && !active {
		v.fail(CheckSenders, fmt.Sprintf("max_wal_senders is %d and %d are in use%s", maxSenders, senders, forShards(unread)),
			fmt.Sprintf("ALTER SYSTEM SET max_wal_senders = %d and restart PostgreSQL", maxSenders+unread+10))
	}
	if v.server.Slot == nil && v.cfg.Create && slots+missing >= maxSlots {
		v.fail(CheckSlots, fmt.Sprintf("max_replication_slots is %d and %d are in use%s", maxSlots, slots, forShards(missing)),
			fmt.Sprintf("drop a slot that nobody needs (SELECT slot_name FROM pg_replication_slots WHERE NOT active), or ALTER SYSTEM SET max_replication_slots = %d and restart PostgreSQL", maxSlots+missing+10))
	}
	return nil
}

// forShards says how many other shards need one too.
func forShards(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", and so many other shards need one: %d", n)
}
