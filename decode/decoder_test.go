package decode_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/outboxd/outboxd/decode"
	"github.com/outboxd/outboxd/event"
)

var seedColumns = []string{
	"id", "tenant_id", "aggregate_id", "aggregate_type", "topic", "occurred_at", "schema_id", "schema_version",
	"payload", "event_metadata", "status", "retry_count", "retry_after", "error_message", "created_at",
}

func seedRow(id string) []any {
	return []any{
		id, "acme", "42", "order", "orders", "2026-11-24 09:30:00.123456+00", "order-v1", "1",
		`{"a": 1}`, `{}`, "NEW", "0",
		null{},
		null{},
		"2026-11-24 09:30:00.123456+00",
	}
}

func newDecoder() *decode.Decoder { return decode.New("public", "outbox", decode.DefaultColumns()) }

// decoded decodes all messages and returns what became of the last one.
func decoded(t *testing.T, d *decode.Decoder, messages ...[]byte) decode.Message {
	t.Helper()
	var m decode.Message
	for _, data := range messages {
		if err := d.Decode(data, &m); err != nil {
			t.Fatalf("%q: %v", data, err)
		}
	}
	return m
}

// begun is a decoder that knows the seed's outbox table, inside a transaction.
func begun(t *testing.T) *decode.Decoder {
	t.Helper()
	d := newDecoder()
	decoded(t, d, beginMessage(0x100, 7), relationMessage(outboxID, "public", "outbox", seedColumns...))
	return d
}

func TestInsertBecomesAnEvent(t *testing.T) {
	m := decoded(t, begun(t), insertMessage(outboxID, seedRow("e1")...))
	if m.Kind != decode.Insert || !m.Outbox {
		t.Fatalf("kind %s, outbox %v", m.Kind, m.Outbox)
	}
	want := map[string]string{
		"ID": "e1", "TenantID": "acme", "AggregateID": "42", "AggregateType": "order", "Topic": "orders",
		"OccurredAt": "2026-11-24 09:30:00.123456+00", "SchemaID": "order-v1", "SchemaVersion": "1",
		"Payload": `{"a": 1}`, "Metadata": `{}`, "Status": "NEW",
	}
	for name, value := range eventFields(&m.Event) {
		if string(*value) != want[name] {
			t.Errorf("%s is %q, want %q", name, *value, want[name])
		}
	}
	if m.Event.Xid != 7 || m.Event.Position != (event.Position{Commit: 0x100, Ordinal: 1}) {
		t.Errorf("xid %d at %s", m.Event.Xid, m.Event.Position)
	}
}

func eventFields(e *event.Event) map[string]*[]byte {
	return map[string]*[]byte{
		"ID": &e.ID, "TenantID": &e.TenantID, "AggregateID": &e.AggregateID, "AggregateType": &e.AggregateType, "Topic": &e.Topic,
		"OccurredAt": &e.OccurredAt, "SchemaID": &e.SchemaID, "SchemaVersion": &e.SchemaVersion,
		"Payload": &e.Payload, "Metadata": &e.Metadata, "Status": &e.Status,
	}
}

// The ordinal is a function of the log: what the row's status says and which other tables change in between does not matter.
func TestOrdinalCountsEveryInsertOfTheOutbox(t *testing.T) {
	d := begun(t)
	sent := seedRow("e1")
	sent[10] = "SENT"
	decoded(t, d, relationMessage(1, "public", "other", "a"), insertMessage(1, "x"),
		insertMessage(outboxID, sent...), updateMessage(outboxID, seedRow("e1")...), insertMessage(1, "x"))
	if m := decoded(t, d, insertMessage(outboxID, seedRow("e2")...)); m.Event.Position.Ordinal != 2 {
		t.Errorf("the second insert has ordinal %d", m.Event.Position.Ordinal)
	}
	m := decoded(t, d, commitMessage(0x100, 0x130), beginMessage(0x130, 8), insertMessage(outboxID, seedRow("e3")...))
	if want := (event.Position{Commit: 0x130, Ordinal: 1}); m.Event.Position != want || m.Event.Xid != 8 {
		t.Errorf("the next transaction's first is at %s with xid %d, want %s", m.Event.Position, m.Event.Xid, want)
	}
}

func TestNullIsNilAndEmptyIsNot(t *testing.T) {
	row := seedRow("e1")
	row[2], row[3], row[9] = null{}, "", ""
	e := decoded(t, begun(t), insertMessage(outboxID, row...)).Event
	if e.AggregateID != nil {
		t.Errorf("NULL is %q", e.AggregateID)
	}
	for _, value := range [][]byte{e.AggregateType, e.Metadata} {
		if value == nil || len(value) != 0 {
			t.Errorf("the empty string is %#v", value)
		}
	}
}

func TestEventIsMadeOfSlicesOfTheMessage(t *testing.T) {
	d := begun(t)
	data := insertMessage(outboxID, seedRow("e1")...)
	m := decoded(t, d, data)
	clear(data)
	for name, value := range eventFields(&m.Event) {
		if strings.Trim(string(*value), "\x00") != "" {
			t.Errorf("%s is a copy", name)
		}
		if cap(*value) != len(*value) {
			t.Errorf("appending to %s would write into the message", name)
		}
	}
}

func TestColumnsAreFoundByNameInAnyOrderAndAfterEachChange(t *testing.T) {
	d := decode.New("app", "box", decode.Columns{
		ID: "id", TenantID: "tenant", Topic: "kind", AggregateType: "kind", Payload: "body",
	})
	decoded(t, d, beginMessage(1, 1), relationMessage(5, "app", "box", "body", "x", "id", "kind", "tenant"))
	e := decoded(t, d, insertMessage(5, "B", "X", "I", "K", "T")).Event
	if got := string(e.ID) + string(e.TenantID) + string(e.Topic) + string(e.AggregateType) + string(e.Payload); got != "ITKKB" {
		t.Errorf("id, tenant, topic, type, body are %q", got)
	}
	if e.Status != nil || e.Metadata != nil {
		t.Error("a column that is not mapped has a value")
	}
	decoded(t, d, relationMessage(5, "app", "box", "id", "tenant", "kind", "body", "y", "z"))
	e = decoded(t, d, insertMessage(5, "i", "t", "k", "b", null{}, "Z")).Event
	if got := string(e.ID) + string(e.TenantID) + string(e.Topic) + string(e.Payload); got != "itkb" {
		t.Errorf("after the change id, tenant, topic, body are %q", got)
	}
}

func TestRecreatedTableIsTheOutboxAgain(t *testing.T) {
	d := begun(t)
	decoded(t, d, relationMessage(outboxID+1, "public", "outbox", seedColumns...))
	if m := decoded(t, d, insertMessage(outboxID+1, seedRow("e1")...)); !m.Outbox {
		t.Error("the table that was made anew is not the outbox")
	}
}

func TestEmptyNamespaceIsPgCatalog(t *testing.T) {
	d := decode.New("pg_catalog", "box", decode.Columns{ID: "a", TenantID: "a", Topic: "a", Payload: "a"})
	if m := decoded(t, d, relationMessage(5, "", "box", "a")); !m.Outbox {
		t.Error("the short form of pg_catalog is not read")
	}
}

func TestChangesOfOtherTablesAreNotOfTheOutbox(t *testing.T) {
	d := begun(t)
	decoded(t, d, relationMessage(1, "public", "other", "a", "b"), relationMessage(2, "audit", "outbox", "a"))
	for _, data := range [][]byte{
		insertMessage(1, "x", unchanged{}), insertMessage(1, "x", binaries("\x01")), insertMessage(2, "x"),
		updateMessage(1, "x", null{}), deleteMessage(1, 'K', "x", null{}), truncateMessage(3, 1, 2),
	} {
		if m := decoded(t, d, data); m.Outbox {
			t.Errorf("%s counts for the outbox", m.Kind)
		}
	}
}

func TestUpdateDeleteAndTruncateOfTheOutboxAreReported(t *testing.T) {
	d := begun(t)
	decoded(t, d, relationMessage(1, "public", "other", "a"))
	row := seedRow("e1")
	for _, data := range [][]byte{
		updateMessage(outboxID, row...), updateWithOldMessage(outboxID, 'K', row, row), updateWithOldMessage(outboxID, 'O', row, row),
		deleteMessage(outboxID, 'K', row...), deleteMessage(outboxID, 'O', row...), truncateMessage(0, 1, outboxID),
	} {
		if m := decoded(t, d, data); !m.Outbox || m.Event.ID != nil {
			t.Errorf("%s: outbox %v, event %q", m.Kind, m.Outbox, m.Event.ID)
		}
	}
}

func TestMessageOutsideTransactionIsFine(t *testing.T) {
	d := newDecoder()
	decoded(t, d, logicalMessage(0, "prefix", "content"), beginMessage(1, 1), logicalMessage(1, "", ""), commitMessage(1, 2),
		logicalMessage(0, "", strings.Repeat("x", 100)))
}

func TestBeginAndCommitCarryTheirPositions(t *testing.T) {
	d := newDecoder()
	m := decoded(t, d, beginMessage(0x10, 9))
	if m.Kind != decode.Begin || m.CommitLSN != 0x10 || m.Xid != 9 || m.CommitTime != 946_684_801_000_000 {
		t.Errorf("begin: %+v", m)
	}
	m = decoded(t, d, commitMessage(0x10, 0x20))
	if m.Kind != decode.Commit || m.CommitLSN != 0x10 || m.EndLSN != 0x20 || m.CommitTime != 946_684_801_000_000 {
		t.Errorf("commit: %+v", m)
	}
}

func TestNullWhereNoEventMayHaveItIsARowError(t *testing.T) {
	for i, column := range map[int]string{0: "id", 1: "tenant_id", 4: "topic", 8: "payload"} {
		d := begun(t)
		decoded(t, d, insertMessage(outboxID, seedRow("e1")...))
		row := seedRow("e2")
		row[i] = null{}
		var m decode.Message
		err := d.Decode(insertMessage(outboxID, row...), &m)
		bad, ok := errors.AsType[*decode.RowError](err)
		if !ok {
			t.Errorf("%s is NULL: %v", column, err)
			continue
		}
		wantID := "e2"
		if i == 0 {
			wantID = ""
		}
		want := decode.RowError{
			Table: "public.outbox", Column: column, ID: wantID, Position: event.Position{Commit: 0x100, Ordinal: 2},
		}
		if *bad != want {
			t.Errorf("got %+v, want %+v", *bad, want)
		}
		if string(m.Event.Status) != "NEW" {
			t.Error("the rest of the row is not filled in")
		}
	}
}

func TestMissingColumnIsAnErrorThatNamesIt(t *testing.T) {
	for _, column := range seedColumns[:11] {
		var rest []string
		for _, other := range seedColumns {
			if other != column {
				rest = append(rest, other)
			}
		}
		err := newDecoder().Decode(relationMessage(outboxID, "public", "outbox", rest...), new(decode.Message))
		if err == nil || !strings.Contains(err.Error(), `table public.outbox has no column "`+column+`"`) {
			t.Errorf("without %s: %v", column, err)
		}
	}
}

// A partition that is published under its own name, or the outbox table renamed, holds events: its rows are not passed over.
func TestRowOfATableLikeTheOutboxIsAnError(t *testing.T) {
	for _, name := range []string{"outbox_2026", "outbox_old"} {
		d := begun(t)
		decoded(t, d, relationMessage(outboxID, "public", name, seedColumns...))
		err := d.Decode(insertMessage(outboxID, seedRow("e1")...), new(decode.Message))
		if err == nil || !strings.Contains(err.Error(), "public."+name) || !strings.Contains(err.Error(), "publish_via_partition_root") {
			t.Errorf("insert into %s: %v", name, err)
		}
	}
}

func TestWhatCannotBeIsAnError(t *testing.T) {
	row := seedRow("e1")
	changed := func(i int, v any) []any {
		r := seedRow("e1")
		r[i] = v
		return r
	}
	outside := func() *decode.Decoder {
		d := begun(t)
		decoded(t, d, commitMessage(0x100, 0x130))
		return d
	}
	inside := func() *decode.Decoder { return begun(t) }
	for name, c := range map[string]struct {
		decoder func() *decode.Decoder
		data    []byte
		want    string
	}{
		"empty message":                  {inside, nil, "empty message"},
		"unknown message":                {inside, []byte{'S', 0}, "no such message"},
		"begin inside":                   {inside, beginMessage(0x200, 8), "transaction 7 is still open"},
		"position that stands still":     {outside, beginMessage(0x100, 8), "positions would go back"},
		"position that goes back":        {outside, beginMessage(0x90, 8), "positions would go back"},
		"commit outside":                 {outside, commitMessage(0x100, 0x130), "no transaction is open"},
		"commit of another":              {inside, commitMessage(0x101, 0x130), "began for 0/100"},
		"commit that ends before":        {inside, commitMessage(0x100, 0xFF), "before it begins"},
		"commit with flags":              {inside, append([]byte{'C', 1}, commitMessage(0x100, 0x130)[2:]...), "unknown flags 1"},
		"insert outside":                 {outside, insertMessage(outboxID, row...), "no transaction is open"},
		"update outside":                 {outside, updateMessage(outboxID, row...), "no transaction is open"},
		"delete outside":                 {outside, deleteMessage(outboxID, 'K', row...), "no transaction is open"},
		"truncate outside":               {outside, truncateMessage(0, outboxID), "no transaction is open"},
		"origin outside":                 {outside, originMessage("o"), "no transaction is open"},
		"transactional message outside":  {outside, logicalMessage(1, "p", "c"), "no transaction is open"},
		"insert of an unknown table":     {inside, insertMessage(5, row...), "no Relation came for table 5"},
		"update of an unknown table":     {inside, updateMessage(5, row...), "no Relation came for table 5"},
		"delete of an unknown table":     {inside, deleteMessage(5, 'O', row...), "no Relation came for table 5"},
		"truncate of an unknown table":   {inside, truncateMessage(0, outboxID, 5), "no Relation came for table 5"},
		"too few columns":                {inside, insertMessage(outboxID, row[1:]...), "14 columns in a row of public.outbox, which has 15"},
		"too many columns":               {inside, updateMessage(outboxID, append(row[:15:15], "x")...), "16 columns"},
		"binary column":                  {inside, insertMessage(outboxID, changed(8, binaries("\x01"))...), `column "payload" of an insert into public.outbox is in format 'b'`},
		"binary column that is not ours": {inside, insertMessage(outboxID, changed(11, binaries("\x01"))...), `column "retry_count"`},
		"unchanged value in an insert":   {inside, insertMessage(outboxID, changed(8, unchanged{})...), `column "payload" of an insert into public.outbox is in format 'u'`},
		"insert of an old row":           {inside, tuple(append(u32(tag('I'), outboxID), 'O'), row...), "unknown tuple 'O'"},
		"update without a new row":       {inside, deleteMessage(outboxID, 'X', row...), "unknown tuple 'X'"},
		"update of unknown parts":        {inside, updateWithOldMessage(outboxID, 'X', row, row), "unknown tuple 'X'"},
		"truncate with unknown flags":    {inside, truncateMessage(4, outboxID), "unknown flags 4"},
		"message with unknown flags":     {inside, logicalMessage(2, "p", "c"), "unknown flags 2"},
		"length below zero":              {inside, append(u32(tag('I'), outboxID), 'N', 0, 15, 't', 0xFF, 0xFF, 0xFF, 0xFF), "cut off"},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.decoder().Decode(c.data, new(decode.Message))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestEveryCutAndEveryByteTooManyIsAnError(t *testing.T) {
	row := seedRow("e1")
	for _, whole := range [][]byte{
		relationMessage(outboxID, "public", "outbox", seedColumns...), insertMessage(outboxID, row...), updateMessage(outboxID, row...),
		updateWithOldMessage(outboxID, 'O', row, row), deleteMessage(outboxID, 'K', row...), truncateMessage(1, outboxID, outboxID),
		typeMessage("public", "mood"), originMessage("elsewhere"), logicalMessage(1, "prefix", "content"), commitMessage(0x100, 0x130),
	} {
		for n := range len(whole) {
			if err := begun(t).Decode(whole[:n:n], new(decode.Message)); err == nil {
				t.Errorf("%s is accepted after %d of %d bytes", decode.Kind(whole[0]), n, len(whole))
			}
		}
		if err := begun(t).Decode(append(whole, 0), new(decode.Message)); err == nil || !strings.Contains(err.Error(), "1 bytes too many") {
			t.Errorf("%s with a byte too many: %v", decode.Kind(whole[0]), err)
		}
		decoded(t, begun(t), whole)
	}
	whole := beginMessage(0x100, 7)
	for n := range len(whole) {
		if err := newDecoder().Decode(whole[:n:n], new(decode.Message)); err == nil {
			t.Errorf("Begin is accepted after %d bytes", n)
		}
	}
}

func TestNamesAreTheColumnsThatTheTableMustHaveEachOnce(t *testing.T) {
	names := decode.Columns{ID: "id", TenantID: "t", Topic: "k", AggregateType: "k", Payload: "p"}.Names()
	if got := strings.Join(names, " "); got != "id t k p" {
		t.Errorf("names are %q", got)
	}
	if got := len(decode.DefaultColumns().Names()); got != 11 {
		t.Errorf("%d default columns, want 11", got)
	}
}

func TestRequiredColumnWithoutANameIsAnError(t *testing.T) {
	d := decode.New("public", "outbox", decode.Columns{ID: "id", TenantID: "tenant_id", Topic: "topic"})
	if err := d.Decode(relationMessage(outboxID, "public", "outbox", seedColumns...), new(decode.Message)); err == nil {
		t.Error("an outbox without a payload is accepted")
	}
}

func TestInsertAllocatesNothing(t *testing.T) {
	d := begun(t)
	data := insertMessage(outboxID, seedRow("e1")...)
	var m decode.Message
	allocs := testing.AllocsPerRun(1000, func() {
		if err := d.Decode(data, &m); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations for an insert, want none", allocs)
	}
}

func BenchmarkInsert(b *testing.B) {
	d := newDecoder()
	row := seedRow("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
	row[8] = strings.Repeat("x", 480)
	data := insertMessage(outboxID, row...)
	var m decode.Message
	for _, before := range [][]byte{beginMessage(1, 1), relationMessage(outboxID, "public", "outbox", seedColumns...)} {
		if err := d.Decode(before, &m); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := d.Decode(data, &m); err != nil {
			b.Fatal(err)
		}
	}
}

func TestARowWithoutATenantHasTheDefaultOne(t *testing.T) {
	withDefault := func(tenantColumn string, relation []string) *decode.Decoder {
		columns := decode.DefaultColumns()
		columns.TenantID, columns.DefaultTenant = tenantColumn, "none"
		d := decode.New("public", "outbox", columns)
		decoded(t, d, relationMessage(outboxID, "public", "outbox", relation...))
		decoded(t, d, beginMessage(0x100, 7))
		return d
	}
	d := withDefault("tenant_id", seedColumns)
	row := seedRow("e1")
	if m := decoded(t, d, insertMessage(outboxID, row...)); string(m.Event.TenantID) != "acme" {
		t.Errorf("the row's own tenant became %q", m.Event.TenantID)
	}
	row[1] = null{}
	if m := decoded(t, d, insertMessage(outboxID, row...)); string(m.Event.TenantID) != "none" {
		t.Errorf("NULL became %q", m.Event.TenantID)
	}
	row[1] = ""
	if m := decoded(t, d, insertMessage(outboxID, row...)); m.Event.TenantID == nil || string(m.Event.TenantID) != "" {
		t.Errorf("the empty text became %q", m.Event.TenantID)
	}
	d = withDefault("", append([]string{"id"}, seedColumns[2:]...))
	if m := decoded(t, d, insertMessage(outboxID, append(seedRow("e2")[:1], seedRow("e2")[2:]...)...)); string(m.Event.TenantID) != "none" {
		t.Errorf("without a column it is %q", m.Event.TenantID)
	}
}
