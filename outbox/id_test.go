package outbox_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/outbox"
)

// The column of the ids has got another type since some of the events were committed, or parked. What is named by an id of before has no row, and what is named with it is
// settled as ever.
func TestIdThatIsNoValueOfItsTypeStopsNothing(t *testing.T) {
	texts := []string{
		"", "7", "007", "-7", "+7", " 7", "7 ", "1e3", "7.5", "7.", ".5", "7.0", "32767", "32768", "-32768", "-32769", "2147483647", "2147483648", "-2147483649",
		"9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "99999999999999999999999999", "order-7", "7\n",
		"0a0eebc9-9c0b-4ef8-bb6d-6bb9bd380a11", "0A0EEBC9-9C0B-4EF8-BB6D-6BB9BD380A12", "0a0eebc99c0b4ef8bb6d6bb9bd380a13", "0a0eebc9-9c0b-4ef8-bb6d-6bb9bd380a1",
		"0a0eebc9-9c0b-4ef8-bb6d-6bb9bd380a14-", "0a0eebc9--9c0b-4ef8-bb6d-6bb9bd380a15", "g00eebc9-9c0b-4ef8-bb6d-6bb9bd380a16", "0a0eebc9-9c0b-4ef8-bb6d-6bb9bd380a177",
	}
	for _, kind := range []string{"uuid", "smallint", "integer", "bigint", "numeric(30,1)"} {
		t.Run(kind, func(t *testing.T) {
			l := setupLaneOf(t, kind, outbox.Config{})
			value := "7"
			if kind == "uuid" {
				value = "0a0eebc9-9c0b-4ef8-bb6d-6bb9bd380a11"
			}
			l.exec(`INSERT INTO t (id) VALUES ($1::text::`+kind+`)`, value)
			l.settle(l.table, ids(texts...)...)
			if n := l.count(`SELECT count(*) FROM t WHERE status = 'SENT'`); n != 1 {
				t.Errorf("%d rows are settled, want the one", n)
			}
			l.taken(texts)

			var refs []event.Ref
			var mirrors []outbox.Mirror
			for _, text := range texts {
				l.exec(`INSERT INTO outboxd.parked (slot, id, sink, destination, target, state, epoch, commit_lsn, ordinal, key_hash, attempts, bytes, tenant_id, topic)
					VALUES ('slot', $1, 'sink', 'd', 'd', 'dead', 5, '0/10', 1, 1, 1, 1, 'acme', 'orders')`, text)
				refs = append(refs, event.Ref{ID: text})
				mirrors = append(mirrors, outbox.Mirror{ID: text, Status: "FAILED", RetryCount: 3})
			}
			l.exec(`UPDATE t SET status = 'NEW'`)
			l.repair()
			l.mirror(mirrors...)
			if n := l.count(`SELECT count(*) FROM t WHERE status = 'DEAD'`); n != 1 {
				t.Errorf("%d rows show what became of them, want the one", n)
			}
			l.exec(`UPDATE t SET status = 'SENT'`)
			if _, skipped, err := l.table.SkipSent(t.Context(), l.conn, l.lease, "", 1000); err != nil || skipped != 1 {
				t.Errorf("%d events are skipped, %v; want the one", skipped, err)
			}
			l.exec(`UPDATE outboxd.parked SET state = 'waiting' WHERE length(id) % 2 = 0`)
			l.deliver("d", refs...)
			l.exec(`UPDATE outboxd.parked SET state = 'done'`)
			l.finish(1000)
			if n := l.count(`SELECT count(*) FROM outboxd.parked`); n != 0 {
				t.Errorf("%d rows stay parked", n)
			}
			if _, _, err := l.table.Adoptable(t.Context(), l.conn, 0, "order-7", 10); err != nil {
				t.Errorf("go on with the adoption behind an id of before: %v", err)
			}
		})
	}
}

// taken checks that each of the texts that the log would carry as an id of the table finds its row.
func (l *lane) taken(texts []string) {
	l.Helper()
	for _, text := range texts {
		var spelled string
		err := l.conn.QueryRow(l.Context(), `SELECT $1::text::`+l.kind+`::text`, text).Scan(&spelled)
		if _, refused := errors.AsType[*pgconn.PgError](err); err != nil && !refused {
			l.Fatal(err)
		}
		if err != nil || spelled != text {
			continue // not as the log spells it
		}
		l.exec(`INSERT INTO t (id) VALUES ($1::text::`+l.kind+`) ON CONFLICT DO NOTHING`, text)
		rows, err := l.table.Read(l.Context(), l.conn, []string{text})
		if err != nil || len(rows) != 1 {
			l.Errorf("%d rows have the id %q, %v", len(rows), text, err)
		}
		l.exec(`UPDATE t SET status = 'NEW'`)
		l.settle(l.table, []byte(text))
		if n := l.count(`SELECT count(*) FROM t WHERE status = 'SENT'`); n != 1 {
			l.Errorf("%d rows are settled by the id %q", n, text)
		}
		l.exec(`DELETE FROM t WHERE id::text <> ALL($1)`, []string{"7", "7.0", "0a0eebc9-9c0b-4ef8-bb6d-6bb9bd380a11"})
	}
}
