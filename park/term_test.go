package park_test

import (
	"errors"
	"testing"

	"github.com/outboxd/outboxd/lease"
	"github.com/outboxd/outboxd/park"
)

// History 12 of the protocol: a session is cut while its park runs. Its successor begins behind the park, and sees it; or the park finds the new
// term, and parks nothing. It never becomes durable behind the successor's back.
func TestParkOfACutSessionIsSeenByItsSuccessorOrParksNothing(t *testing.T) {
	t.Run("the park has begun", func(t *testing.T) {
		url, conn := migrated(t)
		held := raise(t, conn, "a")
		holder, successor, watcher := connect(t, url), connect(t, url), connect(t, url)
		exec(t, conn, `CREATE FUNCTION stall() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END $$`)
		exec(t, conn, `CREATE TRIGGER stall BEFORE INSERT ON outboxd.parked FOR EACH ROW EXECUTE FUNCTION stall()`)
		exec(t, holder, `SELECT pg_advisory_lock(1)`)
		inserted, raised := make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := park.Insert(t.Context(), conn, held, rows(1, 1))
			inserted <- err
		}()
		waitUntilBlocked(t, watcher, conn.PgConn().PID())
		go func() {
			_, err := park.Raise(t.Context(), successor, "outboxd", "a", "successor")
			raised <- err
		}()
		waitUntilBlocked(t, watcher, successor.PgConn().PID())
		exec(t, holder, `SELECT pg_advisory_unlock(1)`)
		if err := errors.Join(<-inserted, <-raised); err != nil {
			t.Fatal(err)
		}
		if all, err := park.Summaries(t.Context(), successor, "outboxd", "a"); err != nil || len(all) != 1 || all[0].Waiting != 1 {
			t.Errorf("the successor sees %+v, %v; want one row", all, err)
		}
	})
	t.Run("the term was raised", func(t *testing.T) {
		url, conn := migrated(t)
		held := raise(t, conn, "a")
		successor, watcher := connect(t, url), connect(t, url)
		tx, err := successor.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := park.Raise(t.Context(), tx, "outboxd", "a", "successor"); err != nil {
			t.Fatal(err)
		}
		inserted := make(chan error, 1)
		go func() {
			_, err := park.Insert(t.Context(), conn, held, rows(1, 1))
			inserted <- err
		}()
		waitUntilBlocked(t, watcher, conn.PgConn().PID())
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := <-inserted; !errors.Is(err, lease.ErrTermLost) {
			t.Errorf("the park of the session before: %v, want ErrTermLost", err)
		}
		if all, err := park.Summaries(t.Context(), successor, "outboxd", "a"); err != nil || len(all) != 0 {
			t.Errorf("the successor sees %+v, %v; want nothing", all, err)
		}
	})
}
