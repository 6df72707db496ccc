package outbox

import (
	"context"
	"fmt"
	"time"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lease"
)

// lastRecovery is when the server may last have replayed its log, which is how it starts, how a standby follows, and how it recovers from the crash
// of a process. After a crash it drops its statistics, and after a promotion it says when the last transaction that it replayed was committed.
const lastRecovery = `SELECT greatest(pg_postmaster_start_time(), pg_last_xact_replay_timestamp(), (SELECT stats_reset FROM pg_stat_bgwriter))`

// loadReplayed finds out which rows the server may have replayed, by when they were created. Their time may come from another clock, which
// can be ahead by a minute, or by a time zone where the column has none.
func (t *Table) loadReplayed(ctx context.Context, db lease.Querier) error {
	var recovery time.Time
	if err := db.QueryRow(ctx, lastRecovery).Scan(&recovery); err != nil {
		return fmt.Errorf("ask when the server last recovered: %w", err)
	}
	margin := time.Minute
	if created := t.has[t.config.Columns.CreatedAt]; created.typeName() != "pg_catalog.timestamptz" {
		margin += 14 * time.Hour
	}
	t.replayed = recovery.Add(margin).UnixMicro()
	return nil
}

// place is what tells where a row stands in the order of the table. Times are in microseconds since 1970.
type place struct {
	createdAt  *int64
	occurredAt *int64
	command    int64  // cmin
	address    uint64 // ctid: block * 2048 + line
}

// position orders rows as they were inserted, as far as they tell: by created_at, which is one for a whole transaction; by the command of their
// transaction, as far as 11 bits have room for it; and by their address, because a new row may lie before an older one where there was room. Without
// a created_at only the address is left, of which the ordinal may be too small.
//
// What a server replays from its log it takes for its transaction's first command. Such rows stand in the order of their occurred_at instead.
func (p place) position(replayed int64) event.Position {
	const commandBits, latest = 11, 1<<53 - 1
	if p.createdAt == nil {
		return event.Position{Commit: event.LSN(p.address >> 32), Ordinal: uint32(p.address)}
	}
	command, ordinal := min(p.command, 1<<commandBits-1), uint32(p.address)
	if *p.createdAt <= replayed {
		command, ordinal = p.occurred()
	}
	at := uint64(min(max(*p.createdAt, 0), latest))<<commandBits | uint64(command)
	return event.Position{Commit: event.LSN(at), Ordinal: ordinal}
}

// occurred orders rows of one created_at by their occurred_at, in 11 bits and an ordinal: by microseconds, as far as 8 seconds from it, and where that
// is one, by the last 19 bits of the address; by the whole address where it is the same as created_at, not known, or farther away.
func (p place) occurred() (command int64, ordinal uint32) {
	const first, middle, last, addressBits, farthest = 0, 1 << 10, 1<<11 - 1, 19, 8_370_000
	if p.occurredAt == nil || *p.occurredAt == *p.createdAt {
		return middle, uint32(p.address)
	}
	from, since := int64(middle)<<32, *p.occurredAt-*p.createdAt
	switch {
	case since < -farthest:
		return first, uint32(p.address)
	case since > farthest:
		return last, uint32(p.address)
	case since > 0:
		from += 1 << 32
	}
	all := from + since<<addressBits + int64(p.address&(1<<addressBits-1))
	return all >> 32, uint32(all)
}
