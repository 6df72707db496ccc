package checkpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lease"
)

// Record is the durable checkpoint of a slot: the stream starts at Confirmed. It is written before the slot is confirmed, so a
// slot that is confirmed beyond it was moved, or made, by somebody else.
type Record struct {
	Slot      string
	SystemID  string    // the cluster's system identifier, as IDENTIFY_SYSTEM prints it
	Timeline  int32     // the cluster's timeline when the epoch began
	Epoch     uint32    // which slot of this name; rises with every slot that is made
	Confirmed event.LSN // every event before it is settled
	At        time.Time // when Confirmed was written, by the server's clock

	Adopt           *Adoption // rows of the table that are older than the slot's log and not parked yet; nil when all are
	SkippedSnapshot string    // rows that it sees are left alone, by request; "": none
	SettledSnapshot string    // where rows are kept: those that it sees are below Confirmed; "": not known
	Routing         *Routing  // how events behind Confirmed may have been given to destinations; nil: none was published
	Lost            string    // why the slot, though it is there, does not carry all that was committed since; "": it does
	Published       string    // what the slot has been read as, the caller's text; "": not known, as in a record of an older version
	Restored        bool      // Load has left out snapshots, which speak of another cluster's transactions
}

// ErrNoRecord says that the slot has no checkpoint yet, so there is none to move: NewEpoch makes it.
var ErrNoRecord = errors.New("the slot has no checkpoint")

// Load reads the slot's record from the given schema; found is false when the slot has none. It fails with
// [lease.ErrNotMigrated] when the table is missing.
//
// A dump that is restored into another cluster brings the snapshots along, but their transaction ids mean nothing there: rows that nobody has
// delivered would count as seen. The transaction that writes a record comes behind those of its snapshots; where it does not, they are left out. pg_upgrade
// keeps ids and rows as they are.
func Load(ctx context.Context, db lease.Querier, schema, slot string) (r Record, found bool, err error) {
	query := `SELECT ` + recordColumns + `, ` + restoredColumn + `
		FROM ` + lease.Table(schema, "checkpoint") + ` WHERE slot = $1`
	var restored bool
	r, err = scan(db.QueryRow(ctx, query, slot), slot, &restored)
	if errors.Is(err, pgx.ErrNoRows) {
		return Record{}, false, nil
	}
	if err != nil {
		return Record{}, false, fmt.Errorf("load the checkpoint of slot %q from schema %q: %w", slot, schema, lease.Classify(err))
	}
	if restored {
		r.SkippedSnapshot, r.SettledSnapshot, r.Restored = "", "", true
	}
	return r, true, nil
}

// NewEpoch records that the lease's slot was made anew: it takes SystemID, Timeline and Confirmed (the slot's starting point, or the position to which
// another layout has delivered) of r, with the snapshots, what is to be adopted and what is published, and raises the epoch to the recorded one plus two, or to now in seconds since 1970 where that is more, so
// that an epoch is never used again, even after the row was removed. Of it nothing was published. The epoch before it is that of adopted rows, unless r.Adopt has one. It returns
// the record as it now is, or [lease.ErrTermLost].
func NewEpoch(ctx context.Context, db lease.Querier, held lease.Lease, r Record, now time.Time) (Record, error) {
	values := []any{held.Slot, held.Term, now.Unix(), r.SystemID, r.Timeline, r.Confirmed.String(), nil, nil, nil, r.SkippedSnapshot, r.SettledSnapshot, nil, r.Published}
	if a := r.Adopt; a != nil {
		values[6] = a.Snapshot
		if a.Epoch > 0 {
			values[11] = int64(a.Epoch)
		}
		if !a.Landed.IsZero() {
			values[7], values[8] = int64(a.Landed.Epoch), a.Landed.Commit.String()
		}
	}
	row := db.QueryRow(ctx, newEpochSQL(held.Schema), values...)
	made, err := scan(row, held.Slot, nil)
	if errors.Is(err, pgx.ErrNoRows) {
		err = lease.ErrTermLost
	}
	if err != nil {
		return Record{}, fmt.Errorf("begin an epoch of slot %q at %s: %w", held.Slot, r.Confirmed, lease.Classify(err))
	}
	return made, nil
}

// Save moves the checkpoint of the lease's slot forward to lsn, durably; it never moves back. It returns [lease.ErrTermLost] when a
// later session holds the term, and [ErrNoRecord] when the slot has no checkpoint.
func Save(ctx context.Context, db lease.Querier, held lease.Lease, lsn event.LSN) error {
	return change(ctx, db, held, "save the checkpoint at "+lsn.String(),
		`confirmed_lsn = greatest(confirmed_lsn, $3::text::pg_lsn), confirmed_at = now()`, lsn.String())
}

const recordColumns = `epoch, system_identifier, timeline, confirmed_lsn::text, confirmed_at, coalesce(skipped_snapshot, ''), coalesce(settled_snapshot, ''),
	adopt_snapshot, coalesce(adopt_after, ''), coalesce(adopt_epoch, 0), coalesce(landed_epoch, 0), coalesce(landed_lsn, '0/0')::text, routing, coalesce(lost, ''), coalesce(published, '')`

// restoredColumn tells whether a snapshot of the record ends behind the transaction that wrote the record: the last one before 2^31 from now whose id has
// the low half xmin.
const restoredColumn = `coalesce(greatest(split_part(skipped_snapshot, ':', 2)::bigint, split_part(settled_snapshot, ':', 2)::bigint) >
		(SELECT ahead - ((ahead - xmin::text::bigint) & 4294967295)
		FROM (SELECT txid_snapshot_xmax(txid_current_snapshot()) + 2147483648 AS ahead) AS now), false)`

// nextEpoch is above the epochs of the slot before, of which each promotion since its record used one more, whatever the clock says.
const nextEpoch = `greatest(c.epoch + 2 + greatest(excluded.timeline - c.timeline, 0), excluded.epoch)`

func newEpochSQL(schema string) string {
	return lease.CTE(schema) + `
		INSERT INTO ` + lease.Table(schema, "checkpoint") + ` AS c
			(slot, epoch, system_identifier, timeline, confirmed_lsn, confirmed_at, adopt_snapshot, adopt_epoch, landed_epoch, landed_lsn,
				skipped_snapshot, settled_snapshot, published)
		SELECT $1, $3::bigint, $4::text, $5::integer, $6::text::pg_lsn, now(), $7::text, CASE WHEN $7::text IS NOT NULL THEN coalesce($12::bigint, $3::bigint - 1) END, $8::bigint, $9::text::pg_lsn,
			nullif($10::text, ''), nullif($11::text, ''), nullif($13::text, '')
		WHERE EXISTS (SELECT FROM lease)
		ON CONFLICT (slot) DO UPDATE SET
			epoch = ` + nextEpoch + `, system_identifier = excluded.system_identifier,
			timeline = excluded.timeline, confirmed_lsn = excluded.confirmed_lsn, confirmed_at = excluded.confirmed_at,
			adopt_snapshot = excluded.adopt_snapshot, adopt_after = NULL,
			adopt_epoch = CASE WHEN excluded.adopt_snapshot IS NOT NULL THEN coalesce($12::bigint, ` + nextEpoch + ` - 1) END,
			landed_epoch = excluded.landed_epoch, landed_lsn = excluded.landed_lsn,
			skipped_snapshot = excluded.skipped_snapshot, settled_snapshot = excluded.settled_snapshot, routing = NULL, lost = NULL,
			published = excluded.published
		RETURNING ` + recordColumns + `, ` + lease.Durable
}

// scan reads recordColumns and one more.
func scan(row pgx.Row, slot string, last any) (Record, error) {
	r := Record{Slot: slot}
	var epoch, adoptEpoch, landedEpoch int64
	var confirmed, landed string
	var snapshot *string
	var routing []byte
	var a Adoption
	err := row.Scan(&epoch, &r.SystemID, &r.Timeline, &confirmed, &r.At, &r.SkippedSnapshot, &r.SettledSnapshot,
		&snapshot, &a.After, &adoptEpoch, &landedEpoch, &landed, &routing, &r.Lost, &r.Published, last)
	if err == nil && routing != nil {
		err = json.Unmarshal(routing, &r.Routing)
	}
	if err != nil {
		return Record{}, err
	}
	r.Epoch = uint32(epoch) // the table's CHECK keeps it in range
	if r.Confirmed, err = event.ParseLSN(confirmed); err != nil || snapshot == nil {
		return r, err
	}
	a.Snapshot, a.Epoch, a.Landed.Epoch = *snapshot, uint32(adoptEpoch), uint32(landedEpoch)
	a.Landed.Commit, err = event.ParseLSN(landed)
	r.Adopt = &a
	return r, err
}
