package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/outboxd/outboxd/lease"
)

// Snapshot says which transactions one statement could see.
// Source: https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SNAPSHOT
type Snapshot struct {
	xmin   uint64   // everything before it is finished
	xmax   uint64   // nothing from it on is finished
	active []uint64 // not finished between the two; sorted

	everything bool // of a table whose rows are kept: nothing has to be seen
}

// ParseSnapshot reads the text form of pg_snapshot and txid_snapshot, "xmin:xmax:xip_list" in 64-bit ids: "10:20:10,14,15".
func ParseSnapshot(text string) (Snapshot, error) {
	fail := func(err error) (Snapshot, error) { return Snapshot{}, fmt.Errorf("parse snapshot %q: %w", text, err) }
	low, rest, ok := strings.Cut(text, ":")
	high, list, ok2 := strings.Cut(rest, ":")
	if !ok || !ok2 {
		return fail(errors.New("want XMIN:XMAX:XIP,XIP"))
	}
	var s Snapshot
	var err error
	if s.xmin, err = strconv.ParseUint(low, 10, 64); err != nil {
		return fail(err)
	}
	if s.xmax, err = strconv.ParseUint(high, 10, 64); err != nil {
		return fail(err)
	}
	if list == "" {
		return s, nil
	}
	for id := range strings.SplitSeq(list, ",") {
		xid, err := strconv.ParseUint(id, 10, 64)
		if err != nil {
			return fail(err)
		}
		s.active = append(s.active, xid)
	}
	slices.Sort(s.active)
	return s, nil
}

// Visible tells whether the statement saw what the committed transaction xid did. The log carries ids without their epoch, so xid
// stands for the transaction nearest to the snapshot's end: PostgreSQL itself keeps all that live within 2^31 of each other. The zero
// Snapshot sees nothing.
func (s Snapshot) Visible(xid uint32) bool {
	return s.sees(nearest(xid, s.xmax))
}

// sees is Visible for an id that has its epoch.
func (s Snapshot) sees(full uint64) bool {
	if s.everything || full < s.xmin {
		return true
	}
	if full >= s.xmax {
		return false
	}
	_, running := slices.BinarySearch(s.active, full)
	return !running
}

// nearest returns the 64-bit id with the low half xid that is nearest to around.
func nearest(xid uint32, around uint64) uint64 {
	const epoch, half = uint64(1) << 32, uint64(1) << 31
	full := around&^(epoch-1) | uint64(xid)
	switch {
	case full > around && full-around >= half && full >= epoch:
		return full - epoch
	case around > full && around-full > half:
		return full + epoch
	}
	return full
}

// firstNormalXid is the first id of a transaction; those below it stand for rows that are older than all.
const firstNormalXid = 3

// SeenBy tells whether the snapshot, which may be of any age, sees what the transaction xmin of a row wrote. The zero Snapshot sees nothing.
func SeenBy(s *Snapshot, xmin uint64) bool {
	return s.sees(xmin) || xmin < firstNormalXid && s.xmax > 0
}

// Low returns the id before which every transaction is seen. The zero Snapshot's is 0.
func (s *Snapshot) Low() uint64 { return s.xmin }

// ReadSnapshot returns the text form of what was finished when the oldest transaction that is open now began. PostgreSQL does not list the ids of
// subtransactions among those that are open, and a row that was inserted behind a savepoint bears such an id: all of them are above that of their
// transaction. Source: https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT
func ReadSnapshot(ctx context.Context, db lease.Querier) (text string, err error) {
	if err := db.QueryRow(ctx, `SELECT format('%s:%s:', xmin, xmin) FROM txid_snapshot_xmin(txid_current_snapshot()) AS xmin`).Scan(&text); err != nil {
		return "", fmt.Errorf("read a snapshot: %w", err)
	}
	return text, nil
}

// ReadSlotSnapshot returns the text form of what was over when the slot was made, or where it stands, whichever is later: it sends nothing of that. The slot
// must be there. Source: https://www.postgresql.org/docs/current/view-pg-replication-slots.html, catalog_xmin.
func ReadSlotSnapshot(ctx context.Context, db lease.Querier, slot string) (text string, err error) {
	const sql = `SELECT format('%s:%s:', xmin, xmin) FROM (
			SELECT xmax - ((xmax - catalog_xmin::text::bigint) & x'ffffffff'::bigint) AS xmin
			FROM pg_replication_slots, txid_snapshot_xmax(txid_current_snapshot()) AS xmax WHERE slot_name = $1
		) AS slot`
	if err := db.QueryRow(ctx, sql, slot).Scan(&text); err != nil {
		return "", fmt.Errorf("read the snapshot of slot %q: %w", slot, err)
	}
	return text, nil
}

// Latest returns the latest of the text forms of snapshots of one server, which sees what any of them does; "" stands for none.
func Latest(texts ...string) (latest string, err error) {
	var last Snapshot
	for _, text := range texts {
		if text == "" {
			continue
		}
		s, err := ParseSnapshot(text)
		if err != nil {
			return "", err
		}
		if latest == "" || s.xmax > last.xmax || s.xmax == last.xmax && len(s.active) < len(last.active) {
			latest, last = text, s
		}
	}
	return latest, nil
}
