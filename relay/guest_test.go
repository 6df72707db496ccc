package relay_test

import "testing"

// catalog is all that the server's catalogs say of the outbox table, but for statistics.
func (r *rig) catalog() (text string) {
	r.t.Helper()
	err := r.conn.QueryRow(r.t.Context(), `SELECT string_agg(line, E'\n' ORDER BY line) FROM (
		SELECT concat_ws(' ', 'class', relname, relkind, relowner, relacl, reloptions, relreplident, relrowsecurity, relforcerowsecurity) AS line
			FROM pg_class WHERE oid = 'outbox'::regclass OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = 'outbox'::regclass)
		UNION ALL SELECT 'column ' || a::text FROM pg_attribute a WHERE attrelid = 'outbox'::regclass
		UNION ALL SELECT 'index ' || i::text FROM pg_index i WHERE indrelid = 'outbox'::regclass
		UNION ALL SELECT 'constraint ' || c::text FROM pg_constraint c WHERE conrelid = 'outbox'::regclass
		UNION ALL SELECT 'trigger ' || t::text FROM pg_trigger t WHERE tgrelid = 'outbox'::regclass
		UNION ALL SELECT 'rule ' || w::text FROM pg_rewrite w WHERE ev_class = 'outbox'::regclass
		UNION ALL SELECT 'policy ' || p::text FROM pg_policy p WHERE polrelid = 'outbox'::regclass) lines`).Scan(&text)
	if err != nil {
		r.t.Fatal(err)
	}
	return text
}

// Rows are adopted, refused, shown as FAILED, delivered again and marked.
func TestRunLeavesTheTableAsItWas(t *testing.T) {
	r := newRig(t, "", "")
	r.unrecord()
	before := r.catalog()
	r.insert("acme", 0, 10, 3)
	run := r.start(r.limit(smallLimit))
	r.insertLarge("acme", "0", 10)
	r.insert("acme", 11, 10, 3)
	r.eventually("a row shows that it was refused", func() bool {
		return r.count(`SELECT count(*) FROM outbox WHERE status = 'FAILED' AND retry_count > 0`) == 1
	})
	run.crash()
	r.start(nil)
	r.settled()
	r.exec(`UPDATE outbox SET status = 'NEW' WHERE payload->>'seq' = '3'`)
	r.eventually("it is delivered again", func() bool { return r.length("acme:orders") == 22 })
	r.settled()
	if after := r.catalog(); after != before {
		t.Errorf("the table was\n%s\nand is\n%s", before, after)
	}
}
