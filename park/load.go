package park

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/event"
)

// Cursor stands behind a row in position order. The zero Cursor stands before all rows.
type Cursor struct {
	Position event.Position
	ID       string
	Replay   int
}

// rowColumns are what a loaded row consists of; see scanRow.
const rowColumns = `p.id, p.replay, p.sink, p.destination, p.target, p.state, p.epoch, p.commit_lsn::text, p.ordinal, p.key_hash, p.attempts, p.due_at,
	coalesce(p.reason, ''), p.blocks, p.landed_epoch, p.landed_lsn::text, p.landed_ordinal, p.committed_at, p.parked_at, p.tenant_id, p.topic,
	p.aggregate_type, p.aggregate_id, p.occurred_at, p.schema_id, p.schema_version, p.payload, p.metadata`

// position is the order of rows.
const position = `epoch, commit_lsn, ordinal, id, replay`

func scanRow(row pgx.CollectableRow) (Row, error) {
	var r Row
	var commit string
	var landedEpoch, landedOrdinal *int64
	var landed *string
	var epoch, ordinal, key int64
	var committed *time.Time
	var state string
	e := &r.Event
	err := row.Scan(&e.ID, &r.Replay, &r.Destination.Sink, &r.Destination.Name, &r.Target, &state, &epoch, &commit, &ordinal, &key,
		&r.Attempts, &r.Due, &r.Reason, &r.Blocks, &landedEpoch, &landed, &landedOrdinal, &committed, &r.ParkedAt, &e.TenantID, &e.Topic,
		&e.AggregateType, &e.AggregateID, &e.OccurredAt, &e.SchemaID, &e.SchemaVersion, &e.Payload, &e.Metadata)
	if err != nil {
		return r, err
	}
	r.State, r.Key = State(state), uint64(key)
	if committed != nil {
		r.Committed = *committed
	}
	if e.Position, err = positionOf(epoch, commit, ordinal); err != nil {
		return r, err
	}
	if landed != nil {
		r.LandedAfter, err = positionOf(*landedEpoch, *landed, *landedOrdinal)
	}
	return r, err
}

func positionOf(epoch int64, commit string, ordinal int64) (event.Position, error) {
	lsn, err := event.ParseLSN(commit)
	return event.Position{Epoch: uint32(epoch), Commit: lsn, Ordinal: uint32(ordinal)}, err
}

// LoadAfter returns the destination's waiting rows behind the cursor in position order, due or not: at most limit rows and, but for the
// first, maxBytes of events. end says that nothing waits behind them.
func LoadAfter(ctx context.Context, conn *pgx.Conn, schema, slot string, d Destination, after Cursor, limit int, maxBytes int64) (rows []Row, end bool, err error) {
	p := after.Position
	query := `SELECT ` + rowColumns + `, p.found FROM (
			SELECT p.*, sum(p.bytes) OVER (ORDER BY p.epoch, p.commit_lsn, p.ordinal, p.id, p.replay ROWS UNBOUNDED PRECEDING) AS total,
				count(*) OVER () AS found
			FROM (
				SELECT * FROM ` + table(schema, "parked") + `
				WHERE slot = $1 AND sink = $2 AND destination = $3 AND state = 'waiting'
					AND (epoch, commit_lsn, ordinal, id) >= ($4, $5::text::pg_lsn, $6, $7)
					AND (epoch, commit_lsn, ordinal, id, replay) > ($4, $5::text::pg_lsn, $6, $7, $8)
				ORDER BY epoch, commit_lsn, ordinal, id LIMIT $9
			) p
		) p
		WHERE p.total - p.bytes < $10 OR p.total = p.bytes ORDER BY p.epoch, p.commit_lsn, p.ordinal, p.id, p.replay`
	result, err := conn.Query(ctx, query, slot, d.Sink, d.Name, int64(p.Epoch), p.Commit.String(), int64(p.Ordinal), after.ID, after.Replay, limit, maxBytes)
	if err != nil {
		return nil, false, fmt.Errorf("load parked events of %s: %w", d, classify(err))
	}
	found := 0
	rows, err = pgx.CollectRows(result, func(row pgx.CollectableRow) (Row, error) { return scanCounted(row, &found) })
	if err != nil {
		return nil, false, fmt.Errorf("load parked events of %s: %w", d, classify(err))
	}
	return rows, len(rows) == found && found < limit, nil
}

// counted lets scanRow read a row that ends in one more column.
type counted struct {
	pgx.CollectableRow
	last any
}

func (c counted) Scan(to ...any) error { return c.CollectableRow.Scan(append(to, c.last)...) }

func scanCounted(row pgx.CollectableRow, found *int) (Row, error) {
	return scanRow(counted{row, found})
}

// LoadKeys returns for each of the keys its first waiting rows at the destination, in position order: at most perKey each and, all
// together, no more than maxBytes of events beyond the first row. exhausted are the keys whose last waiting row is returned, or that have none.
// Rows behind a dead one that blocks are not returned, and their key is not exhausted.
func LoadKeys(ctx context.Context, conn *pgx.Conn, schema, slot string, d Destination, keys []uint64, perKey int, maxBytes int64) (rows []Row, exhausted []uint64, err error) {
	numbers := make([]int64, len(keys))
	for i, key := range keys {
		numbers[i] = int64(key)
	}
	parked := table(schema, "parked")
	query := `SELECT ` + rowColumns + `, p.found FROM (
			SELECT p.*, sum(p.bytes) OVER (ORDER BY k.n, p.epoch, p.commit_lsn, p.ordinal, p.id, p.replay ROWS UNBOUNDED PRECEDING) AS total,
				count(*) OVER (PARTITION BY p.key_hash) AS found, k.n
			FROM unnest($4::bigint[]) WITH ORDINALITY AS k(key_hash, n), LATERAL (
				SELECT p.* FROM ` + parked + ` p
				WHERE p.slot = $1 AND p.sink = $2 AND p.destination = $3 AND p.state = 'waiting' AND p.key_hash = k.key_hash
				ORDER BY p.epoch, p.commit_lsn, p.ordinal, p.id LIMIT $5
			) p
		) p
		WHERE (p.total - p.bytes < $6 OR p.total = p.bytes) AND NOT EXISTS (SELECT FROM ` + parked + ` b
			WHERE b.slot = $1 AND b.state = 'dead' AND b.blocks AND b.sink = $2 AND b.destination = $3 AND b.key_hash = p.key_hash
				AND (b.epoch, b.commit_lsn, b.ordinal, b.id) <= (p.epoch, p.commit_lsn, p.ordinal, p.id))
		ORDER BY p.n, p.epoch, p.commit_lsn, p.ordinal, p.id, p.replay`
	fail := func(err error) ([]Row, []uint64, error) {
		return nil, nil, fmt.Errorf("load parked events of %d keys of %s: %w", len(keys), d, classify(err))
	}
	result, err := conn.Query(ctx, query, slot, d.Sink, d.Name, numbers, perKey, maxBytes)
	if err != nil {
		return fail(err)
	}
	of := map[uint64]int{}
	got := map[uint64]int{}
	rows, err = pgx.CollectRows(result, func(row pgx.CollectableRow) (Row, error) {
		found := 0
		r, err := scanCounted(row, &found)
		of[r.Key] = found
		got[r.Key]++
		return r, err
	})
	if err != nil {
		return fail(err)
	}
	blocked, err := blockedKeys(ctx, conn, schema, slot, d, numbers)
	if err != nil {
		return fail(err)
	}
	for _, key := range keys {
		// A key of which nothing was returned for want of bytes is looked at again, like one with more rows.
		none := got[key] == 0 && len(rows) == 0
		if !blocked[key] && (none || got[key] > 0 && got[key] == of[key] && of[key] < perKey) {
			exhausted = append(exhausted, key)
		}
	}
	return rows, exhausted, nil
}

func blockedKeys(ctx context.Context, conn *pgx.Conn, schema, slot string, d Destination, keys []int64) (map[uint64]bool, error) {
	result, err := conn.Query(ctx, `SELECT key_hash FROM `+table(schema, "parked")+` WHERE slot = $1 AND sink = $2 AND destination = $3
		AND state = 'dead' AND blocks AND key_hash = ANY($4)`, slot, d.Sink, d.Name, keys)
	if err != nil {
		return nil, err
	}
	blocked := map[uint64]bool{}
	var key int64
	_, err = pgx.ForEachRow(result, []any{&key}, func() error {
		blocked[uint64(key)] = true
		return nil
	})
	return blocked, err
}

// Summary is what is parked for one destination.
type Summary struct {
	Destination   Destination
	Target        string
	Highest       event.Position // of the rows that are no replays, in any state
	Waiting, Dead int
	MayHaveLanded bool           // some that wait may have landed
	LandedAfter   event.Position // ... behind this position
}

// Summaries returns what is parked, for each destination.
func Summaries(ctx context.Context, conn *pgx.Conn, schema, slot string) ([]Summary, error) {
	parked := table(schema, "parked")
	result, err := conn.Query(ctx, `SELECT s.sink, s.destination, s.target, s.waiting, s.dead, coalesce(h.epoch, 0), coalesce(h.commit_lsn, '0/0')::text, coalesce(h.ordinal, 0),
			coalesce(l.landed_epoch, 0), coalesce(l.landed_lsn, '0/0')::text, coalesce(l.landed_ordinal, 0)
		FROM (
			SELECT sink, destination, min(target) AS target, count(*) FILTER (WHERE state = 'waiting') AS waiting, count(*) FILTER (WHERE state = 'dead') AS dead,
				max(epoch) FILTER (WHERE replay = 0) AS epoch, min(landed_epoch) FILTER (WHERE state = 'waiting') AS landed_epoch
			FROM `+parked+` WHERE slot = $1 GROUP BY sink, destination
		) s
		LEFT JOIN LATERAL (
			SELECT p.epoch, p.commit_lsn, max(p.ordinal) AS ordinal FROM `+parked+` p
			WHERE p.slot = $1 AND p.sink = s.sink AND p.destination = s.destination AND p.replay = 0 AND p.epoch = s.epoch
				AND p.commit_lsn = (SELECT max(q.commit_lsn) FROM `+parked+` q WHERE q.slot = $1 AND q.sink = s.sink AND q.destination = s.destination
					AND q.replay = 0 AND q.epoch = s.epoch)
			GROUP BY p.epoch, p.commit_lsn
		) h ON true
		LEFT JOIN LATERAL (
			SELECT p.landed_epoch, p.landed_lsn, p.landed_ordinal FROM `+parked+` p
			WHERE p.slot = $1 AND p.sink = s.sink AND p.destination = s.destination AND p.state = 'waiting' AND p.landed_epoch = s.landed_epoch
			ORDER BY p.landed_lsn, p.landed_ordinal LIMIT 1
		) l ON s.landed_epoch IS NOT NULL`, slot)
	if err != nil {
		return nil, fmt.Errorf("read what is parked: %w", classify(err))
	}
	all, err := pgx.CollectRows(result, scanSummary)
	if err != nil {
		return nil, fmt.Errorf("read what is parked: %w", classify(err))
	}
	return all, nil
}

func scanSummary(row pgx.CollectableRow) (s Summary, err error) {
	var epoch, ordinal, landedEpoch, landedOrdinal int64
	var commit, landed string
	err = row.Scan(&s.Destination.Sink, &s.Destination.Name, &s.Target, &s.Waiting, &s.Dead, &epoch, &commit, &ordinal, &landedEpoch, &landed, &landedOrdinal)
	if err != nil {
		return s, err
	}
	if s.Highest, err = positionOf(epoch, commit, ordinal); err != nil {
		return s, err
	}
	s.LandedAfter, err = positionOf(landedEpoch, landed, landedOrdinal)
	s.MayHaveLanded = !s.LandedAfter.IsZero()
	return s, err
}

// WaitingKey is a key that waits at a destination.
type WaitingKey struct {
	Destination Destination
	Key         uint64
	Due         time.Time // when its first row is due
	Blocked     bool      // a dead row holds it back
}

// ErrTooMany says that more keys wait than were to be read.
var ErrTooMany = errors.New("too many keys wait")

// Keys hands over each key that waits. It returns ErrTooMany, after some of them, when there are more than limit.
func Keys(ctx context.Context, conn *pgx.Conn, schema, slot string, limit int, each func(WaitingKey)) error {
	result, err := conn.Query(ctx, `SELECT DISTINCT ON (sink, destination, key_hash) sink, destination, key_hash, due_at, state = 'dead'
		FROM `+table(schema, "parked")+` WHERE slot = $1 AND (state = 'waiting' OR state = 'dead' AND blocks)
		ORDER BY sink, destination, key_hash, epoch, commit_lsn, ordinal, id`, slot)
	if err != nil {
		return fmt.Errorf("read the keys that wait: %w", classify(err))
	}
	var k WaitingKey
	var key int64
	count := 0
	_, err = pgx.ForEachRow(result, []any{&k.Destination.Sink, &k.Destination.Name, &key, &k.Due, &k.Blocked}, func() error {
		if count++; count > limit {
			return ErrTooMany
		}
		k.Key = uint64(key)
		each(k)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the keys that wait: %w", classify(err))
	}
	return nil
}

// Above returns rows of events, replays left out, behind the cursor in position order, in whatever state: at most limit.
func Above(ctx context.Context, conn *pgx.Conn, schema, slot string, after Cursor, limit int) ([]Row, error) {
	p := after.Position
	result, err := conn.Query(ctx, `SELECT `+rowColumns+` FROM (
			SELECT DISTINCT ON (epoch, commit_lsn, ordinal, id) * FROM `+table(schema, "parked")+`
			WHERE slot = $1 AND replay = 0 AND (epoch, commit_lsn, ordinal, id) > ($2, $3::text::pg_lsn, $4, $5)
			ORDER BY epoch, commit_lsn, ordinal, id LIMIT $6) p
		ORDER BY p.epoch, p.commit_lsn, p.ordinal, p.id`, slot, int64(p.Epoch), p.Commit.String(), int64(p.Ordinal), after.ID, limit)
	if err != nil {
		return nil, fmt.Errorf("load parked events behind %s: %w", p, classify(err))
	}
	rows, err := pgx.CollectRows(result, scanRow)
	if err != nil {
		return nil, fmt.Errorf("load parked events behind %s: %w", p, classify(err))
	}
	return rows, nil
}

// NextReplays returns the first of n consecutive replay numbers that are higher than all that were given before. Commands that
// take theirs at the same moment may share some, which only matters to one event replayed by both: it is then replayed once.
func NextReplays(ctx context.Context, conn *pgx.Conn, schema string, n int) (first int, err error) {
	name := table(schema, "replay_number")
	err = conn.QueryRow(ctx, `SELECT min(nextval($1::text::regclass)) FROM generate_series(1, $2::int)`, name, n).Scan(&first)
	if err != nil {
		return 0, fmt.Errorf("take replay numbers: %w", classify(err))
	}
	return first, nil
}

// Totals is how much is parked.
type Totals struct {
	Waiting int // rows: an event counts once for each destination
	Dead    int
	Oldest  time.Time // when the oldest row that waits was parked; zero when none does
}

// Count counts what is parked.
func Count(ctx context.Context, conn *pgx.Conn, schema, slot string) (t Totals, err error) {
	var oldest *time.Time
	err = conn.QueryRow(ctx, `SELECT count(*) FILTER (WHERE state = 'waiting'), count(*) FILTER (WHERE state = 'dead'),
		min(parked_at) FILTER (WHERE state = 'waiting') FROM `+table(schema, "parked")+` WHERE slot = $1 AND state IN ('waiting', 'dead')`, slot).
		Scan(&t.Waiting, &t.Dead, &oldest)
	if err != nil {
		return t, fmt.Errorf("count what is parked: %w", classify(err))
	}
	if oldest != nil {
		t.Oldest = *oldest
	}
	return t, nil
}
