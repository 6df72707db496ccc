package park

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lease"
)

// Summary is what is parked for one destination.
type Summary struct {
	Destination   Destination
	Target        string
	Highest       event.Position // of the rows that are no replays, in any state
	Waiting, Dead int
	MayHaveLanded bool           // some that wait may have landed
	LandedAfter   event.Position // ... behind this position: the lowest of theirs
}

// Summaries returns what is parked, for each destination. It reads the whole table once.
func Summaries(ctx context.Context, conn *pgx.Conn, schema, slot string) ([]Summary, error) {
	// No record has a maximum before PostgreSQL 18, but an array of numbers has, and it is compared from left to right.
	position := func(function, epoch, lsn, ordinal, filter string) string {
		return function + `(ARRAY[` + epoch + `::numeric, ` + lsn + ` - '0/0'::pg_lsn, ` + ordinal + `::numeric]) FILTER (WHERE ` + filter + `)`
	}
	sql := `SELECT sink, destination, target, waiting, dead, highest[1]::bigint, highest[2]::text, highest[3]::bigint,
			landed[1]::bigint, landed[2]::text, landed[3]::bigint
		FROM (
			SELECT sink, destination, min(p.target) AS target,
				count(*) FILTER (WHERE p.state = 'waiting') AS waiting, count(*) FILTER (WHERE p.state = 'dead') AS dead,
				` + position("max", "p.epoch", "p.commit_lsn", "p.ordinal", "p.replay = 0") + ` AS highest,
				` + position("min", "p.landed_epoch", "p.landed_lsn", "p.landed_ordinal", `p.landed_epoch IS NOT NULL AND p.state = 'waiting'
					AND ((p.epoch, p.commit_lsn, p.ordinal) > (t.epoch, t.commit_lsn, t.ordinal)) IS NOT FALSE`) + ` AS landed
			FROM ` + lease.Table(schema, "parked") + ` p LEFT JOIN ` + lease.Table(schema, "tail_read") + ` t USING (slot, sink, destination)
			WHERE slot = $1 GROUP BY sink, destination
		) s`
	var all []Summary
	var wrong error
	err := query(ctx, conn, sql, func(c *cells) {
		s, err := c.summary()
		if err != nil {
			wrong = err
		}
		all = append(all, s)
	}, []byte(slot))
	if err == nil {
		err = wrong
	}
	if err != nil {
		return nil, fmt.Errorf("read what is parked: %w", err)
	}
	return all, nil
}

func (c *cells) summary() (s Summary, err error) {
	s.Destination = Destination{Sink: c.text(""), Name: c.text("")}
	s.Target = c.text("")
	s.Waiting, s.Dead = int(c.int64()), int(c.int64())
	if s.Highest, err = c.decimalPosition(); err != nil {
		return s, err
	}
	s.LandedAfter, err = c.decimalPosition()
	s.MayHaveLanded = !s.LandedAfter.IsZero()
	return s, err
}

// decimalPosition reads a position whose LSN is a decimal number in text; NULLs are the zero one.
func (c *cells) decimalPosition() (p event.Position, err error) {
	p.Epoch = uint32(c.int64())
	if lsn := c.bytes(); lsn != nil {
		var n uint64
		n, err = strconv.ParseUint(string(lsn), 10, 64)
		p.Commit = event.LSN(n)
	}
	p.Ordinal = uint32(c.int64())
	return p, err
}

// Totals is how much is parked.
type Totals struct {
	Waiting int // rows: an event counts once for each destination
	Dead    int
	Oldest  time.Time // when the row was parked that is the first in order at its destination, the earliest of these; zero when none waits
}

// Any tells whether a row of the slot is there, in whatever state.
func Any(ctx context.Context, db lease.Querier, schema, slot string) (found bool, err error) {
	err = db.QueryRow(ctx, `SELECT EXISTS (SELECT FROM `+lease.Table(schema, "parked")+` WHERE slot = $1)`, slot).Scan(&found)
	if err != nil {
		return false, fmt.Errorf("look for parked events of slot %q: %w", slot, lease.Classify(err))
	}
	return found, nil
}

// Count counts what is parked, from the indexes.
func Count(ctx context.Context, conn *pgx.Conn, schema, slot string) (t Totals, err error) {
	parked := lease.Table(schema, "parked")
	first := `SELECT p.sink, p.destination, p.parked_at FROM ` + parked + ` p WHERE p.slot = $1 AND p.state = 'waiting'`
	const order = ` ORDER BY p.sink, p.destination, ` + inOrder + ` LIMIT 1`
	sql := `WITH RECURSIVE d AS (
			(` + first + order + `)
			UNION ALL
			SELECT n.* FROM d, LATERAL (` + first + ` AND (p.sink, p.destination) > (d.sink, d.destination)` + order + `) n
		)
		SELECT (SELECT count(*) FROM ` + parked + ` WHERE slot = $1 AND state = 'waiting'),
			(SELECT count(*) FROM ` + parked + ` WHERE slot = $1 AND state = 'dead'), (SELECT min(parked_at) FROM d)`
	err = query(ctx, conn, sql, func(c *cells) {
		t = Totals{Waiting: int(c.int64()), Dead: int(c.int64()), Oldest: c.time()}
	}, []byte(slot))
	if err != nil {
		return t, fmt.Errorf("count what is parked: %w", err)
	}
	return t, nil
}
