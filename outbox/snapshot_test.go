package outbox

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/testenv"
)

func TestSnapshotSeesWhatWasFinished(t *testing.T) {
	const epoch = uint64(1) << 32
	for _, c := range []struct {
		name, snapshot string
		xid            uint32
		want           bool
	}{
		{"before xmin", "10:20:10,14", 9, true},
		{"xmin is running", "10:20:10,14", 10, false},
		{"between, not running: beside an older transaction that is open for long", "10:20:10,14", 12, true},
		{"between, running", "10:20:10,14", 14, false},
		{"xmax is in the future", "10:20:10,14", 20, false},
		{"after xmax", "10:20:10,14", 25, false},
		{"nothing runs", "20:20:", 19, true},
		{"nothing runs, the next", "20:20:", 20, false},
		{"later epoch", "4294967306:4294967316:4294967310", 12, true},
		{"later epoch, running", "4294967306:4294967316:4294967310", 14, false},
		{"later epoch, xid from before it", "4294967306:4294967316:4294967310", 4294967290, true},
		{"snapshot across an epoch, old half visible", "4294967290:4294967306:4294967290", 4294967291, true},
		{"snapshot across an epoch, old half running", "4294967290:4294967306:4294967290", 4294967290, false},
		{"snapshot across an epoch, new half visible", "4294967290:4294967306:4294967290", 5, true},
		{"snapshot just before an epoch, xid of the next", "4294967290:4294967295:", 3, false},
		{"first epoch, xid far ahead", "10:20:", 1 << 31, false},
		{"first epoch never goes below zero", "10:20:", 4294967000, false},
	} {
		s, err := ParseSnapshot(c.snapshot)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Visible(c.xid); got != c.want {
			t.Errorf("%s: %d in %s is visible: %v, want %v (epoch is %d)", c.name, c.xid, c.snapshot, got, c.want, epoch)
		}
	}
}

// TestSnapshotAgreesWithSixtyFourBits compares with the plain rule on ids that kept their epoch.
func TestSnapshotAgreesWithSixtyFourBits(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		xmin := random.Uint64N(1 << 34)
		s := Snapshot{xmin: xmin, xmax: xmin + random.Uint64N(20)}
		for id := xmin; id < s.xmax; id++ {
			if random.IntN(2) == 0 {
				s.active = append(s.active, id)
			}
		}
		full := s.xmax - min(s.xmax, random.Uint64N(1<<31)) // PostgreSQL keeps 2^31 of them at most
		if random.IntN(2) == 0 {
			full = xmin + random.Uint64N(40)
		}
		want := full < s.xmax && !slices.Contains(s.active, full)
		if got := s.Visible(uint32(full)); got != want {
			t.Fatalf("%d in %+v is visible: %v, want %v", full, s, got, want)
		}
	}
}

// TestStoredSnapshotAgreesWithSixtyFourBits does the same for rows that are read long after the snapshot was stored.
func TestStoredSnapshotAgreesWithSixtyFourBits(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		xmin := 1<<32 + random.Uint64N(1<<34)
		s := Snapshot{xmin: xmin, xmax: xmin + 20, active: []uint64{xmin, xmin + 7}}
		end := s.xmax + random.Uint64N(1<<33) // of the statement that reads the row
		full := end - 1 - random.Uint64N(1<<31)
		if end-xmin < 1<<31 && random.IntN(2) == 0 {
			full = xmin - 10 + random.Uint64N(min(40, end-xmin+10))
		}
		if uint32(full) < firstNormalXid {
			continue // PostgreSQL leaves them out
		}
		want := full < s.xmax && !slices.Contains(s.active, full)
		if got := SeenBy(&s, widened(uint32(full), end)); got != want {
			t.Fatalf("%d, read before %d, is seen by %+v: %v, want %v", full, end, s, got, want)
		}
	}
}

func TestZeroSnapshotSeesNothing(t *testing.T) {
	for _, xid := range []uint32{0, 1, 3, 1 << 31, 1<<32 - 1} {
		if (Snapshot{}).Visible(xid) {
			t.Errorf("the zero snapshot sees %d", xid)
		}
	}
}

func TestBrokenSnapshotIsRefused(t *testing.T) {
	for _, text := range []string{"", "10", "10:20", "a:20:", "10:b:", "10:20:x", "10:20:1,", "-1:20:"} {
		if s, err := ParseSnapshot(text); err == nil {
			t.Errorf("%q was read as %+v", text, s)
		}
	}
}

func FuzzParseSnapshot(f *testing.F) {
	f.Add("10:20:10,14", uint32(12))
	f.Add("4294967290:4294967306:", uint32(1))
	f.Fuzz(func(t *testing.T, text string, xid uint32) {
		if s, err := ParseSnapshot(text); err == nil {
			s.Visible(xid)
		}
	})
}

// What was read as a name, written as PostgreSQL quotes it, is read as the same name.
func FuzzParseName(f *testing.F) {
	for _, name := range []string{"outbox", "App.Outbox", `"App"."Out.box"`, `app."a""b"`, `"a`, `a."b".c`, `"a"b`, `""."x"`} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		schema, table, err := ParseName(name)
		if err != nil {
			return
		}
		again, same, err := ParseName(`"` + strings.ReplaceAll(schema, `"`, `""`) + `"."` + strings.ReplaceAll(table, `"`, `""`) + `"`)
		if schema == "" || table == "" || err != nil || again != schema || same != table {
			t.Errorf("%q is %q.%q, and quoted %q.%q, %v", name, schema, table, again, same, err)
		}
	})
}

func TestArrayIsBuiltWithoutAllocation(t *testing.T) {
	ids := slices.Repeat([][]byte{[]byte(`a"b\c`)}, 1000)
	buffer := make([]byte, 0, 1<<16)
	if n := testing.AllocsPerRun(10, func() { buffer = appendArray(buffer[:0], ids) }); n != 0 {
		t.Errorf("1000 ids take %v allocations", n)
	}
}

func TestTableNameIsReadAsPostgresDoes(t *testing.T) {
	for _, c := range []struct{ name, schema, table string }{
		{"outbox", "public", "outbox"},
		{"app.outbox", "app", "outbox"},
		{"App.Outbox", "app", "outbox"},
		{`"App"."Out.box"`, "App", "Out.box"},
		{`app."a""b"`, "app", `a"b`},
	} {
		schema, table, err := ParseName(c.name)
		if err != nil || schema != c.schema || table != c.table {
			t.Errorf("%s: %q.%q, %v; want %q.%q", c.name, schema, table, err, c.schema, c.table)
		}
	}
	for _, name := range []string{"", ".", "a.", ".a", "a.b.c", `"a`, `""`, `"a"b`, `a"b`, "a b", `a."b".c`} {
		if schema, table, err := ParseName(name); err == nil {
			t.Errorf("%s was read as %q.%q", name, schema, table)
		}
	}
}

// A row that a statement sees cannot be from its future: such an xmin is left from an earlier round of the ids.
func TestXminFromTheFutureIsThatOfAFrozenRow(t *testing.T) {
	const round = uint64(1) << 32
	for _, c := range []struct {
		xmin uint32
		xmax uint64
		want uint64
	}{
		{100, 101, 100},
		{100, 1 << 30, 100},
		{100, 1<<31 + 200, 2},           // 2^31 transactions ago
		{100, round + 50, 2},            // almost a round ago
		{100, round + 150, round + 100}, // 50 ago
		{4294967290, round + 5, 4294967290},
		{2, round, 2},
		{1, 50, 1},
	} {
		if got := widened(c.xmin, c.xmax); got != c.want {
			t.Errorf("xmin %d, seen by a snapshot that ends at %d, is %d, want %d", c.xmin, c.xmax, got, c.want)
		}
	}
}

func TestServerTellsWhatIsOlderThanASnapshotAsWeDo(t *testing.T) {
	conn, err := pgx.Connect(t.Context(), testenv.Postgres(t).Database(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	random := rand.New(rand.NewPCG(1, 2))
	var xmins, ends, sinces []int64
	var want []bool
	for i := range 20_000 {
		end := uint64(100) + random.Uint64N([]uint64{1 << 12, 1 << 34}[i%2])
		since := end - random.Uint64N(min(end, []uint64{50, 1 << 31, 1 << 33}[i%3]))
		xmin := random.Uint32()
		switch i % 4 {
		case 0:
			xmin = uint32(since - 2 + random.Uint64N(5))
		case 1:
			xmin = uint32(end-1<<31) - 2 + random.Uint32N(5)
		case 2:
			xmin = random.Uint32N(5)
		}
		if xmin == uint32(end) {
			continue // nothing of the next transaction can be seen
		}
		xmins, ends, sinces = append(xmins, int64(xmin)), append(ends, int64(end)), append(sinces, int64(since))
		want = append(want, !SeenBy(&Snapshot{xmin: since, xmax: since}, widened(xmin, end)))
	}
	rows, err := conn.Query(t.Context(), `SELECT `+writtenSince(`xmin::text::xid`, `xmax`, `since`)+`
		FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) WITH ORDINALITY o(xmin, xmax, since, n) ORDER BY n`, xmins, ends, sinces)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[bool])
	if err != nil || len(got) != len(want) {
		t.Fatalf("%d answers, %v", len(got), err)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("xmin %d, seen by a snapshot that ends at %d, was written since %d: %v, want %v", xmins[i], ends[i], sinces[i], got[i], want[i])
		}
	}
}

func TestLatestSnapshotSeesWhatAllDo(t *testing.T) {
	for want, texts := range map[string][]string{
		"":         {"", ""},
		"5:9:6":    {"5:9:6", "", "3:4:"},
		"10:10:":   {"5:9:6", "10:10:"},
		"7:9:":     {"5:9:6,7", "7:9:"},
		"20:25:21": {"20:25:21", "18:25:18,21"},
	} {
		if got, err := Latest(texts...); err != nil || got != want {
			t.Errorf("of %q it is %q, %v, want %q", texts, got, err, want)
		}
	}
	if _, err := Latest("1:2:", "nonsense"); err == nil {
		t.Error("nonsense is taken for a snapshot")
	}
}
