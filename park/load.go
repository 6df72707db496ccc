package park

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lease"
)

// Cursor stands behind a row in position order. The zero Cursor stands before all rows.
type Cursor struct {
	Position    event.Position
	ID          string
	Replay      int
	Destination Destination // for List, which goes over all destinations; elsewhere it is not looked at
}

// Cursor stands behind the row.
func (r *Row) Cursor() Cursor {
	return Cursor{Position: r.Event.Position, ID: string(r.Event.ID), Replay: r.Replay, Destination: r.Destination}
}

// values are the parameters of a comparison with (epoch, commit_lsn, ordinal, id, replay).
func (c *Cursor) values() [][]byte {
	p := c.Position
	return [][]byte{number(p.Epoch), []byte(p.Commit.String()), number(p.Ordinal), []byte(c.ID), number(c.Replay)}
}

// LoadAfter returns the destination's waiting rows behind the cursor in position order, due or not: at most limit rows, and no more than
// maxBytes of events unless the first is larger. end says that nothing waits behind them; with limit rows it does not, although that may be so.
func LoadAfter(ctx context.Context, conn *pgx.Conn, schema, slot string, d Destination, after Cursor, limit int, maxBytes int64) (rows []Row, end bool, err error) {
	var r rowReader
	more := false
	values := append([][]byte{[]byte(slot), []byte(d.Sink), []byte(d.Name), number(limit), number(maxBytes)}, after.values()...)
	err = query(ctx, conn, loadAfterSQL(schema), func(c *cells) {
		r.read(c)
		more = c.bool()
	}, values...)
	if err != nil {
		return nil, false, fmt.Errorf("load parked events of %s: %w", d, err)
	}
	return r.rows, !more && len(r.rows) < limit, nil
}

// loadAfterSQL reads limit rows from parked_order, which is in the right order, and only carries the payloads of those within the bytes over to
// us: where they are stored out of line, the others are not even read.
func loadAfterSQL(schema string) string {
	return `SELECT ` + rowColumns + `, p.more FROM (
			SELECT p.*, sum(p.bytes) OVER w AS total, lead(true, 1, false) OVER w AS more
			FROM (
				SELECT * FROM ` + lease.Table(schema, "parked") + ` p
				WHERE p.slot = $1 AND p.sink = $2 AND p.destination = $3 AND p.state = 'waiting'
					AND (` + inOrder + `) > ($6::bigint, $7::pg_lsn, $8::bigint, $9::text, $10::integer)
				ORDER BY ` + inOrder + ` LIMIT $4
			) p
			WINDOW w AS (ORDER BY ` + inOrder + ` ROWS UNBOUNDED PRECEDING)
		) p
		WHERE p.total <= $5::bigint OR p.total = p.bytes
		ORDER BY ` + inOrder
}

// Blocking returns the destination's dead rows that hold back later events of their keys: the first limit in the order of ids, of which it
// returns no more than maxBytes of events unless the first is larger.
func Blocking(ctx context.Context, conn *pgx.Conn, schema, slot string, d Destination, limit int, maxBytes int64) ([]Row, error) {
	var r rowReader
	sql := `SELECT ` + rowColumns + ` FROM (
			SELECT p.*, sum(p.bytes) OVER (ORDER BY p.id, p.replay ROWS UNBOUNDED PRECEDING) AS total FROM (
				SELECT * FROM ` + lease.Table(schema, "parked") + ` p
				WHERE p.slot = $1 AND p.sink = $2 AND p.destination = $3 AND p.state = 'dead' AND p.blocks ORDER BY p.id, p.replay LIMIT $4
			) p
		) p WHERE p.total <= $5::bigint OR p.total = p.bytes ORDER BY p.id, p.replay`
	err := query(ctx, conn, sql, func(c *cells) { r.read(c) }, []byte(slot), []byte(d.Sink), []byte(d.Name), number(limit), number(maxBytes))
	if err != nil {
		return nil, fmt.Errorf("load dead events of %s: %w", d, err)
	}
	return r.rows, nil
}

// Above returns rows of events, replays left out, behind the cursor's position and id and of epochs before the one given, in position order, in
// whatever state: one row of each event and at most limit. It reads all that is parked, and sorts what it finds, once for each call.
func Above(ctx context.Context, conn *pgx.Conn, schema, slot string, after Cursor, epoch uint32, limit int) ([]Row, error) {
	var r rowReader
	sql := `SELECT ` + rowColumns + ` FROM (
			SELECT DISTINCT ON (p.epoch, p.commit_lsn, p.ordinal, p.id) p.* FROM ` + lease.Table(schema, "parked") + ` p
			WHERE p.slot = $1 AND p.replay = 0 AND (p.epoch, p.commit_lsn, p.ordinal, p.id) > ($3::bigint, $4::pg_lsn, $5::bigint, $6::text)
				AND p.epoch < $7::bigint
			ORDER BY p.epoch, p.commit_lsn, p.ordinal, p.id LIMIT $2) p
		ORDER BY ` + inOrder
	values := append([][]byte{[]byte(slot), number(limit)}, after.values()[:4]...)
	values = append(values, number(epoch))
	if err := query(ctx, conn, sql, func(c *cells) { r.read(c) }, values...); err != nil {
		return nil, fmt.Errorf("load parked events behind %s: %w", after.Position, err)
	}
	return r.rows, nil
}
