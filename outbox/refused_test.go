package outbox_test

import (
	"strings"
	"testing"

	"github.com/outboxd/outboxd/outbox"
)

// refusals are what an application can have on its table that refuses a mirror.
var refusals = map[string]string{
	"a list of statuses":    `ALTER TABLE t ADD CHECK (status IN ('NEW', 'SENT'))`,
	"a key of statuses":     `CREATE TABLE statuses AS SELECT 'NEW' AS name UNION ALL SELECT 'SENT'; ALTER TABLE statuses ADD PRIMARY KEY (name); ALTER TABLE t ADD FOREIGN KEY (status) REFERENCES statuses`,
	"a domain":              `CREATE DOMAIN short AS text CHECK (length(VALUE) < 5); ALTER TABLE t ALTER error_message TYPE short`,
	"a range of attempts":   `CREATE DOMAIN few AS int CHECK (VALUE < 3); ALTER TABLE t ALTER retry_count TYPE few`,
	"a trigger that raises": `CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.status = 'FAILED' THEN RAISE 'no'; END IF; RETURN NEW; END $$; CREATE TRIGGER no BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION no()`,
}

func TestTableThatRefusesMirrorsTakesNoMoreOfThem(t *testing.T) {
	for name, ddl := range refusals {
		for _, repairs := range []bool{false, true} {
			l := setupLane(t, outbox.Config{})
			l.row(1, "NEW")
			l.park(1, at{destination: "d", state: "waiting", attempts: 5, reason: "refused by the broker"})
			l.exec(ddl)
			l.table = l.describe(outbox.Config{Table: "t"})
			mirror := func() error {
				_, err := l.table.Mirror(t.Context(), l.conn, l.lease, []outbox.Mirror{{ID: "1", Status: "FAILED", RetryCount: 5, RetryAfter: due, Message: "refused by the broker"}})
				return err
			}
			repair := func() error {
				_, _, err := l.table.RepairMirrors(t.Context(), l.conn, l.lease, "", 10)
				return err
			}
			first := mirror
			if repairs {
				first = repair
			}
			if err := first(); !outbox.Refused(err) {
				t.Errorf("%s: %v, want a refusal", name, err)
			}
			if err := mirror(); err != nil {
				t.Errorf("%s: mirrored again: %v", name, err)
			}
			if err := repair(); err != nil {
				t.Errorf("%s: repaired again: %v", name, err)
			}
			l.deliver("d", l.refs(1)...)
			l.want("1=SENT", "")
		}
	}
}

func TestColumnsThatMustNotBeNullAreMirroredAndLeft(t *testing.T) {
	l := setupLane(t, outbox.Config{})
	l.exec(`CREATE DOMAIN inner_message AS text NOT NULL; CREATE DOMAIN message AS inner_message`)
	l.exec(`ALTER TABLE t ALTER retry_after SET DEFAULT '2000-01-01 12:00:00Z', ALTER retry_after SET NOT NULL,
		ALTER error_message SET DEFAULT '', ALTER error_message TYPE message`)
	l.table = l.describe(outbox.Config{Table: "t"})
	for n := 1; n <= 2; n++ {
		l.row(n, "NEW")
		l.park(n, at{destination: "d", state: "waiting"})
	}
	l.mirror(outbox.Mirror{ID: "1", Status: "DEAD", RetryCount: 5, Message: "refused"}, outbox.Mirror{ID: "2", Status: "FAILED", RetryCount: 1, RetryAfter: due, Message: "refused"})
	if got, want := l.shown(), "1|DEAD|5|2000|refused 2|FAILED|1|2030|refused"; got != want {
		t.Errorf("the rows show %q, want %q", got, want)
	}
	l.deliver("d", l.refs(1)...)
	l.exec(`UPDATE outboxd.parked SET state = 'skipped'`)
	if finished, _ := l.finish(10); finished != 1 {
		t.Errorf("%d events finished, want 1", finished)
	}
	if got, want := l.shown(), "1|SENT|5|2000|refused 2|SENT|1|2030|refused"; got != want {
		t.Errorf("the rows show %q, want %q", got, want)
	}
}

func TestGeneratedColumnsAreNotMirrored(t *testing.T) {
	l := setupLane(t, outbox.Config{})
	l.exec(`ALTER TABLE t DROP error_message, DROP retry_count, ADD error_message text GENERATED ALWAYS AS ('see ' || status::text) STORED, ADD retry_count int GENERATED ALWAYS AS (7) STORED`)
	l.table = l.describe(outbox.Config{Table: "t"})
	l.row(1, "NEW")
	l.park(1, at{destination: "d", state: "waiting"})
	l.mirror(outbox.Mirror{ID: "1", Status: "FAILED", RetryCount: 1, RetryAfter: due, Message: "refused"})
	if got, want := l.shown(), "1|FAILED|7|2030|see FAILED"; got != want {
		t.Errorf("the rows show %q, want %q", got, want)
	}
	l.deliver("d", l.refs(1)...)
	if got, want := l.shown(), "1|SENT|7|see SENT"; got != want {
		t.Errorf("the rows show %q, want %q", got, want)
	}
}

func TestStatusesThatAreNumbersAreSettledAndNotMirrored(t *testing.T) {
	config := outbox.Config{Table: "t", Statuses: outbox.Statuses{New: "0", Sent: "1"}}
	for _, kind := range []string{"smallint", "int", "bigint", "numeric"} {
		l := setupLane(t, outbox.Config{})
		l.exec(`ALTER TABLE t ALTER status DROP DEFAULT, ALTER status TYPE ` + kind + ` USING 0, ALTER status SET DEFAULT 0; CREATE INDEX ON t (status)`)
		l.table = l.describe(config)
		for n := 1; n <= 3; n++ {
			l.row(n, "0")
		}
		l.park(1, at{destination: "d", state: "waiting", attempts: 1})
		if changed := l.mirror(outbox.Mirror{ID: "1", Status: "FAILED", RetryCount: 1}); changed+l.repair() != 0 {
			t.Errorf("%s: something was mirrored", kind)
		}
		if rows, err := l.table.DueFailed(t.Context(), l.conn, l.lease, 0, 10); len(rows) != 0 || err != nil {
			t.Errorf("%s: %d rows are FAILED, %v", kind, len(rows), err)
		}
		if fresh, err := l.table.New(t.Context(), l.conn, l.lease, 0, 10); len(fresh) != 2 || err != nil {
			t.Errorf("%s: new are %q, %v; want two", kind, fresh, err)
		}
		l.deliver("d", l.refs(1)...)
		l.settle(l.table, ids("2")...)
		if got := l.statuses("t"); got != "1=1,2=1,3=0" {
			t.Errorf("%s: the rows are %s", kind, got)
		}
	}
}

// undoing are triggers of an application that undo what settles its rows.
var undoing = map[string]string{
	"leaves it out":              `TRIGGER undoes BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION skips()`,
	"keeps it":                   `TRIGGER undoes BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION skips()`,
	"keeps the old value":        `TRIGGER undoes BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION keeps()`,
	"refuses it":                 `TRIGGER undoes BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION raises()`,
	"sets it back":               `TRIGGER undoes AFTER UPDATE ON t FOR EACH ROW WHEN (NEW.status = 'SENT') EXECUTE FUNCTION sets_back()`,
	"puts it back":               `TRIGGER undoes AFTER DELETE ON t FOR EACH ROW EXECUTE FUNCTION puts_back()`,
	"refuses it by its own code": `TRIGGER undoes BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION raises_code()`,
	"touches it":                 `TRIGGER undoes BEFORE UPDATE ON t FOR EACH ROW WHEN (NEW.status = 'SENT') EXECUTE FUNCTION touches()`,
	"refuses it at the end":      `CONSTRAINT TRIGGER undoes AFTER UPDATE ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION raises()`,
	"sets it back at the end":    `CONSTRAINT TRIGGER undoes AFTER UPDATE ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.status = 'SENT') EXECUTE FUNCTION sets_back()`,
}

func TestRowsOfWhichATriggerUndoesTheSettlingAreFoundAndLeftAsTheyAre(t *testing.T) {
	for name, trigger := range undoing {
		onSent := outbox.Mark
		if strings.Contains(trigger, "DELETE") {
			onSent = outbox.Delete
		}
		l := setupLane(t, outbox.Config{OnSent: onSent})
		l.exec(`CREATE FUNCTION skips() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF OLD.id = 2 THEN RETURN NULL; END IF; RETURN coalesce(NEW, OLD); END $$;
			CREATE FUNCTION keeps() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF OLD.id = 2 THEN NEW.status := OLD.status; END IF; RETURN NEW; END $$;
			CREATE FUNCTION raises() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF OLD.id = 2 THEN RAISE 'not this one'; END IF; RETURN NEW; END $$;
			CREATE FUNCTION raises_code() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF OLD.id = 2 THEN RAISE 'not this one' USING ERRCODE = '45000'; END IF; RETURN NEW; END $$;
			CREATE FUNCTION touches() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE t SET retry_count = 1 WHERE id = NEW.id AND id = 2; RETURN NEW; END $$;
			CREATE FUNCTION sets_back() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE t SET status = 'NEW' WHERE id = NEW.id AND id = 2; RETURN NULL; END $$;
			CREATE FUNCTION puts_back() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF OLD.id = 2 THEN INSERT INTO t SELECT OLD.*; END IF; RETURN NULL; END $$`)
		l.exec(`CREATE ` + trigger)
		for n, status := range []string{"NEW", "NEW", "FAILED", "SENT"} {
			l.row(n+1, status)
		}
		undone, err := l.table.Undone(t.Context(), l.conn, []string{"1", "2", "3", "4", "9"})
		if err != nil || len(undone) != 1 || undone[0] != "2" {
			t.Errorf("%s: undone are %q, %v; want 2", name, undone, err)
		}
		l.want("1=NEW 2=NEW 3=FAILED 4=SENT", "")
		if undone, err = l.table.Undone(t.Context(), l.conn, []string{"4", "9"}); err != nil || len(undone) != 0 {
			t.Errorf("%s: undone are %q, %v; want none", name, undone, err)
		}
	}
}
