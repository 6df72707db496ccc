package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/checkpoint"
	"github.com/outboxd/outboxd/internal/human"
	"github.com/outboxd/outboxd/lease"
	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/shard"
	"github.com/outboxd/outboxd/wal"
)

// checkPublication says what wal.Verify lets pass.
func checkPublication(_ context.Context, d *database) ([]Finding, error) {
	if d.server == nil {
		return nil, nil
	}
	name := d.WAL.Publication
	switch filter := d.server.RowFilter; {
	case !d.server.PublicationExists && d.server.Slot == nil:
		return []Finding{found(Warning, "publication", fmt.Sprintf("publication %q does not exist yet", name),
			"the slot is made after it", "outboxd run or outboxd slot create makes it").withFix(d.createPublication)}, nil
	case !d.server.PublicationExists:
		return nil, nil // beside a slot that is an error, and told
	case d.WAL.Rows != "" && !shard.SameFilter(filter, d.WAL.Rows):
		return nil, nil // an error, and told
	case d.WAL.Rows != "":
		return []Finding{ok("publication", "publication %s publishes the rows of the shard alone", name)}, nil
	case filter != "" && d.filtersByStatus(filter):
		return []Finding{ok("publication", "publication %s publishes fresh rows alone: %s", name, filter)}, nil
	case filter != "":
		return []Finding{found(Warning, "publication", fmt.Sprintf("publication %q publishes only rows WHERE %s", name, filter),
			"other rows are never delivered from the log, and another outboxd that has them adopts and sweeps all rows of the table, too",
			"ALTER PUBLICATION "+quote(name)+" SET TABLE "+quote(d.WAL.Schema, d.WAL.Table)+" (this drops its other tables); to share the table out among several, set shards")}, nil
	default:
		return []Finding{ok("publication", "publication %s exists", name)}, nil
	}
}

// filtersByStatus tells whether the filter lets all rows pass that the log lane would deliver, as the server prints that.
func (d *database) filtersByStatus(filter string) bool {
	o := d.Outbox.WithDefaults()
	bare := strings.NewReplacer("(", "", ")", "", "::text", "", "::character varying", "", `"`, "").Replace(filter)
	return bare == o.Columns.Status+" = '"+o.Statuses.New+"'"
}

func (d *database) createPublication(ctx context.Context, conn *pgx.Conn) (string, error) {
	if err := wal.CreatePublication(ctx, conn, d.WAL); err != nil {
		return "", err
	}
	return "made publication " + d.WAL.Publication, nil
}

// slotFacts is what the rules of the slot go by. The record is read after the slot: it is written before the slot is confirmed, so it must not be
// behind.
type slotFacts struct {
	name              string
	slot              *wal.Slot // nil when there is none
	record            checkpoint.Record
	recorded          bool
	unread            []string // slots of standbys that the server waits for, and that no standby reads (17)
	published         string   // what is published now, "" where there is no table
	systemID          string   // of this server, "" where it is not known
	keep, maxRetained int64    // limits in bytes; keep is 0 without one
	stopWhenLost      bool
	wantFailover      bool
	now               time.Time
	schemaMissing     bool // there is no table of checkpoints
}

func checkSlot(ctx context.Context, d *database) ([]Finding, error) {
	f := slotFacts{
		name: d.WAL.Slot, maxRetained: d.MaxRetainedWAL, stopWhenLost: d.StopWhenLost, now: now(),
		wantFailover: d.Failover && d.server != nil && d.server.Major() >= 17,
	}
	if d.server != nil {
		f.systemID = d.server.SystemID
	}
	var err error
	if f.slot, err = wal.SlotStatus(ctx, d.conn, f.name); err != nil && !errors.Is(err, wal.ErrSlotMissing) {
		return nil, err
	}
	if f.slot != nil && d.server != nil && f.slot.Database != d.server.Database {
		return nil, nil // told by the check of the server; nothing here is to be done about it
	}
	if err = d.conn.QueryRow(ctx, unreadSQL).Scan(&f.unread); err != nil {
		return nil, err
	}
	if f.keep, err = wal.KeepLimit(ctx, d.conn); err != nil {
		return nil, err
	}
	if f.published, err = wal.Published(ctx, d.conn, d.WAL); err != nil {
		return nil, err
	}
	f.record, f.recorded, err = checkpoint.Load(ctx, d.conn, d.Migrations.Schema, f.name)
	if errors.Is(err, lease.ErrNotMigrated) {
		f.schemaMissing, err = true, nil
	}
	return f.findings(), err
}

// unreadSQL names what an older server has not the setting for.
// Source: https://www.postgresql.org/docs/current/runtime-config-replication.html#GUC-SYNCHRONIZED-STANDBY-SLOTS
const unreadSQL = `SELECT coalesce(array_agg(name ORDER BY name), '{}') FROM (SELECT btrim(part, ' "') AS name
	FROM unnest(string_to_array(current_setting('synchronized_standby_slots', true), ',')) part) named
	LEFT JOIN pg_replication_slots s ON s.slot_name = name WHERE name <> '' AND s.active IS NOT TRUE`

func (f *slotFacts) findings() []Finding {
	if f.slot == nil {
		return []Finding{f.missing()}
	}
	findings := []Finding{f.state()}
	if f.slot.Lost() {
		return findings
	}
	findings = append(findings, f.retained()...)
	if f.slot.Failover && len(f.unread) > 0 {
		findings = append(findings, found(Error, "slot_standbys", "synchronized_standby_slots names slots that no standby reads: "+strings.Join(f.unread, ", "),
			fmt.Sprintf("slot %q is synchronised to standbys, so the server sends nothing of it before those have it", f.name),
			"start the standbys, or take their slots out: ALTER SYSTEM SET synchronized_standby_slots = '...'; SELECT pg_reload_conf()"))
	}
	findings = append(findings, f.agreement()...)
	if f.wantFailover && !f.slot.Failover {
		findings = append(findings, found(Warning, "slot_failover", fmt.Sprintf("database.failover is set, and slot %q is not synchronised to standbys", f.name),
			"after a failover the slot is gone, and is made anew", "stop outboxd, outboxd slot drop, outboxd run: it makes the slot anew and takes what is due from the table"))
	}
	return findings
}

// anew is what outboxd does about a slot that cannot be used.
func (f *slotFacts) anew() string {
	if f.stopWhenLost {
		return "outboxd run --set slot.on_lost=recover makes it anew, and takes what is due from the table"
	}
	return "outboxd run makes it anew by itself, and takes what is due from the table"
}

func (f *slotFacts) missing() Finding {
	if f.recorded {
		return found(Error, "slot", fmt.Sprintf("slot %q does not exist, and outboxd has read from it before", f.name),
			"the log since its last position is gone; somebody has dropped it", f.anew())
	}
	return found(Warning, "slot", fmt.Sprintf("slot %q does not exist yet", f.name),
		"nothing is delivered, and the log since now is not kept for outboxd", "outboxd run makes it, and delivers what is in the table already")
}

func (f *slotFacts) state() Finding {
	s := f.slot
	switch {
	case s.Lost():
		reason := strings.TrimSpace(s.WALStatus + " " + s.InvalidationReason)
		return found(Error, "slot_lost", fmt.Sprintf("slot %q was invalidated by the server (%s)", f.name, reason),
			"nothing can be read from it any more", f.anew()+"; "+s.Prevention())
	case s.Active:
		return ok("slot", "slot %s is read by process %d", f.name, s.ActivePID)
	default:
		since := ""
		if s.InactiveSince != nil {
			since = " since " + s.InactiveSince.UTC().Format(time.DateTime) + "Z"
		}
		return found(Warning, "slot_active", fmt.Sprintf("nobody reads from slot %q%s", f.name, since),
			"nothing is delivered, and the server keeps the log", "start outboxd run; when nobody needs the events any more, outboxd slot drop")
	}
}

// retained is about the log that the slot holds back.
func (f *slotFacts) retained() (findings []Finding) {
	s := f.slot
	held := human.Bytes(s.RetainedBytes)
	mend := "see outboxd's log and /readyz for what holds it up, and the checks of transactions here; a broker that is down parks its events at outage.max_retained_wal"
	switch {
	case s.WALStatus == "unreserved" || s.SafeWALSize != nil && *s.SafeWALSize <= 0:
		return []Finding{found(Error, "slot_wal", fmt.Sprintf("slot %q holds back %s and is lost with the next checkpoint of the server", f.name, held),
			"the server removes what the slot needs", "ALTER SYSTEM SET max_slot_wal_keep_size = '"+fmt.Sprint((f.keep+s.RetainedBytes)>>20)+"MB'; SELECT pg_reload_conf(), at once; then "+mend)}
	case s.SafeWALSize != nil && f.keep > 0 && *s.SafeWALSize < f.keep/4:
		return []Finding{found(Warning, "slot_wal", fmt.Sprintf("slot %q holds back %s, and is lost after %s more", f.name, held, human.Bytes(*s.SafeWALSize)),
			"beyond max_slot_wal_keep_size the server removes what the slot needs", "raise max_slot_wal_keep_size while there is disk; "+mend)}
	case f.maxRetained > 0 && s.RetainedBytes > f.maxRetained:
		return []Finding{found(Warning, "slot_wal", fmt.Sprintf("slot %q holds back %s, more than outage.max_retained_wal (%s)", f.name, held, human.Bytes(f.maxRetained)),
			"the disk of the server fills up", mend)}
	default:
		return []Finding{ok("slot_wal", "slot %s holds back %s", f.name, held)}
	}
}

// agreement compares the slot with the record. Their rules are in package checkpoint.
func (f *slotFacts) agreement() []Finding {
	lost := "that counts as a lost slot: rows may have passed that nobody has read"
	switch {
	case f.schemaMissing:
		return nil // told by another check
	case !f.recorded:
		return []Finding{found(Info, "checkpoint", fmt.Sprintf("slot %q has no checkpoint in outboxd's schema yet", f.name),
			"outboxd run drops it and makes it anew, because only then it knows which rows are older than its log", "")}
	case f.systemID != "" && f.record.SystemID != f.systemID:
		return []Finding{found(Error, "checkpoint", fmt.Sprintf("the checkpoint was written for another cluster (%s, this is %s)", f.record.SystemID, f.systemID),
			"on a copy of the database outboxd would deliver to the live brokers a second time",
			"right after a move of the database: "+f.anew()+". On a copy: never start outboxd with the live brokers")}
	case f.slot.ConfirmedFlush > f.record.Confirmed:
		return []Finding{found(Error, "checkpoint", fmt.Sprintf("slot %q is confirmed at %s, beyond its checkpoint %s: somebody else has read from it or moved it",
			f.name, f.slot.ConfirmedFlush, f.record.Confirmed), lost, f.anew())}
	case f.record.Lost != "":
		return []Finding{found(Error, "checkpoint", fmt.Sprintf("it is on record that slot %q is lost: %s", f.name, f.record.Lost), lost, f.anew())}
	case f.record.Published != "" && f.published != "" && f.record.Published != f.published:
		return []Finding{found(Error, "checkpoint", fmt.Sprintf("since slot %q was read, another table has taken the outbox table's name, or its publication was changed", f.name),
			lost, f.anew())}
	case f.record.Adopt != nil:
		return []Finding{found(Info, "checkpoint", "rows that are older than the slot are being taken from the table", "", "")}
	default:
		return []Finding{ok("checkpoint", "the checkpoint is %s, %s old, and the slot agrees", f.record.Confirmed, f.now.Sub(f.record.At).Round(time.Second))}
	}
}

// checkInstances sees who is active and who stands by.
func checkInstances(ctx context.Context, d *database) ([]Finding, error) {
	active, waiting, err := park.Instances(ctx, d.conn, d.Migrations.Schema, d.WAL.Slot)
	if err != nil {
		return nil, err
	}
	return []Finding{instancesFinding(active, waiting)}, nil
}

func instancesFinding(active, waiting int) Finding {
	switch {
	case active == 0:
		return found(Warning, "instances", "no instance of outboxd is active", "nothing is delivered", "start outboxd run under a supervisor")
	case waiting == 0:
		return found(Info, "instances", "one instance is active, and none stands by", "when its machine fails, delivery waits until somebody starts another",
			"start outboxd run on a second machine with the same configuration")
	default:
		return ok("instances", "one instance is active, %d stand by", waiting)
	}
}

// longTransaction is how long a transaction may be open before it is told. Tests shorten it.
var longTransaction = time.Hour

func checkTransactions(ctx context.Context, d *database) ([]Finding, error) {
	var pid, hidden, long int
	var seconds float64
	var who string
	err := d.conn.QueryRow(ctx, `WITH t AS (
			SELECT pid, xact_start, concat_ws(', ', nullif(usename::text, ''), nullif(application_name, ''), state) AS who FROM pg_stat_activity
			WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
		)
		SELECT coalesce(f.pid, 0), coalesce(extract(epoch FROM clock_timestamp() - f.xact_start), 0)::float8, coalesce(f.who, ''),
			(SELECT count(*) FROM t WHERE xact_start < now() - $1::float8 * interval '1s'),
			(SELECT count(*) FROM pg_stat_activity WHERE query = '<insufficient privilege>')
		FROM (SELECT) one LEFT JOIN LATERAL (SELECT * FROM t WHERE xact_start IS NOT NULL ORDER BY xact_start LIMIT 1) f ON true`,
		longTransaction.Seconds()).Scan(&pid, &seconds, &who, &long, &hidden)
	if err != nil {
		return nil, err
	}
	return transactionFindings(pid, who, time.Duration(seconds*float64(time.Second)), long, hidden), nil
}

func transactionFindings(pid int, who string, age time.Duration, long, hidden int) []Finding {
	if long > 0 {
		return []Finding{found(Warning, "transactions", fmt.Sprintf("%d transactions are open longer than %s, the oldest for %s: process %d (%s)",
			long, longTransaction, age.Round(time.Second), pid, who),
			"the slot keeps the log since the oldest began, a new slot waits for it, and VACUUM removes nothing that is younger",
			fmt.Sprintf("end it in its application, or SELECT pg_terminate_backend(%d); ALTER ROLE NAME SET idle_in_transaction_session_timeout = '10min' prevents it", pid))}
	}
	if hidden > 0 {
		return []Finding{found(Info, "transactions", "transactions of other roles cannot be seen", "one that is open for long holds the slot and VACUUM back",
			"GRANT pg_read_all_stats TO the role, or look as a superuser")}
	}
	return []Finding{ok("transactions", "no transaction is open longer than %s", longTransaction)}
}

// maxPrepared is how long a transaction may stay prepared: a coordinator ends it in seconds. Tests shorten it.
var maxPrepared = 10 * time.Minute

func checkPrepared(ctx context.Context, d *database) ([]Finding, error) {
	var n int
	var oldest string
	err := d.conn.QueryRow(ctx, `SELECT count(*), coalesce((array_agg(gid ORDER BY prepared))[1], '') FROM pg_prepared_xacts
		WHERE database = current_database() AND prepared < now() - $1::float8 * interval '1s'`, maxPrepared.Seconds()).Scan(&n, &oldest)
	if err != nil || n == 0 {
		return nil, err
	}
	return []Finding{preparedFinding(n, oldest)}, nil
}

func preparedFinding(n int, oldest string) Finding {
	literal := shard.Literal(oldest)
	return found(Warning, "prepared", fmt.Sprintf("%d prepared transactions are older than %s, the oldest is %s", n, maxPrepared, literal),
		"the slot keeps the log since it began, and nobody's end of session ends it",
		"ask its coordinator; else COMMIT PREPARED "+literal+" or ROLLBACK PREPARED "+literal)
}

func quote(parts ...string) string { return pgx.Identifier(parts).Sanitize() }
