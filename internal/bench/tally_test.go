package bench

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/internal/workload"
)

// written makes a backlog in a table that has what its statement needs, and returns what a broker would hold of it.
func written(t *testing.T, b *Backlog) []workload.Received {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), testenv.Postgres(t).Database(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context()) //nolint:errcheck // the test is over
	_, err = conn.Exec(t.Context(), `CREATE TABLE "Out box" (id uuid PRIMARY KEY, tenant_id text, aggregate_type text, aggregate_id text, topic text,
		occurred_at timestamptz, schema_id text, payload jsonb, event_metadata jsonb, status text)`)
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	if err := b.Write(t.Context(), conn, func(rows int) { told = rows }); err != nil || told != b.Rows {
		t.Fatalf("%d rows: %v", told, err)
	}
	rows, err := conn.Query(t.Context(), `SELECT id::text, tenant_id, topic, aggregate_id, tenant_id || ':' || topic, octet_length(payload::text), xmin::text FROM "Out box" ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	var all []workload.Received
	var r workload.Received
	var size int
	var transaction string
	transactions := map[string]int{}
	_, err = pgx.ForEachRow(rows, []any{&r.ID, &r.Tenant, &r.Topic, &r.Key, &r.Destination, &size, &transaction}, func() error {
		all = append(all, r)
		transactions[transaction]++
		if size < b.Payload-10 || size > b.Payload+10 {
			t.Errorf("a payload has %d bytes", size)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := (b.Rows + b.Transaction - 1) / b.Transaction; len(transactions) != want {
		t.Errorf("%d transactions, want %d", len(transactions), want)
	}
	return all
}

func TestTallyFindsWhatIsWrong(t *testing.T) {
	b := &Backlog{Table: pgx.Identifier{"Out box"}, Status: "NEW", Rows: 1000, Transaction: 7, Payload: 300, Tenants: 3, Topics: 4, Keys: 10}
	all := written(t, b)
	destinations := map[string]bool{}
	for _, d := range b.Destinations("{tenant}:{topic}") {
		destinations[d] = true
	}
	for _, r := range all {
		if !destinations[r.Destination] {
			t.Errorf("%s is none of the destinations", r.Destination)
		}
	}
	judge := func(all ...workload.Received) string {
		tally := NewTally(b)
		for _, r := range all {
			tally.Add(r)
		}
		if err := tally.Err(); err != nil {
			return err.Error()
		}
		return ""
	}
	if got := judge(all...); got != "" {
		t.Errorf("all is well: %s", got)
	}
	b.Failing, b.Refused = 1, true
	var others []workload.Received
	for _, r := range all {
		if r.Tenant != workload.Tenants(3)[2] {
			others = append(others, r)
		}
	}
	if got := judge(others...); got != "" || b.ToRefuse() != len(all)-len(others) {
		t.Errorf("all but what is refused: %s; %d of them", got, b.ToRefuse())
	}
	if got := judge(all...); !strings.Contains(got, fmt.Sprint(b.ToRefuse(), " are not of them")) {
		t.Errorf("what was refused, too: %s", got)
	}
	b.Failing, b.Refused = 0, false
	foreign := all[0]
	foreign.ID = "01234567" + foreign.ID[8:]
	for want, entries := range map[string][]workload.Received{
		"1 are missing":        all[1:],
		"1 entries are double": append(all[:1:1], all...),
		"1 are not of them":    append(all[:len(all):len(all)], foreign),
	} {
		if got := judge(entries...); !strings.Contains(got, want) {
			t.Errorf("want %s: %s", want, got)
		}
	}
	swapped := append([]workload.Received{}, all...)
	later := -1
	for i := 1; later < 0; i++ {
		if swapped[i].Key == swapped[0].Key && swapped[i].Destination == swapped[0].Destination {
			later = i
		}
	}
	swapped[0], swapped[later] = swapped[later], swapped[0]
	if got := judge(swapped...); !strings.Contains(got, "0 are missing") || strings.Contains(got, " 0 out of order") {
		t.Errorf("swapped: %s", got)
	}
}

// Debezium Server sends the payload alone to Redis, and to Pulsar the id as JSON.
func TestEntriesOfOtherToolsAreIdentified(t *testing.T) {
	b := &Backlog{Rows: 10}
	b.NewRun()
	for name, r := range map[string]workload.Received{
		"own":     {ID: b.id(7)},
		"JSON":    {ID: `"` + b.id(7) + `"`, Body: []byte(`"{\"number\": 8}"`)},
		"payload": {Body: []byte(`"{\"filler\": \"x\", \"number\": 7}"`)},
	} {
		b.identify(&r)
		if n, err := b.number(r.ID); err != nil || n != 7 {
			t.Errorf("%s: row %d: %v", name, n, err)
		}
	}
	other := workload.Received{ID: "another", Body: []byte(`{"number": 7}`)}
	if b.identify(&other); other.ID != "another" {
		t.Errorf("an entry with an id of its own became %s", other.ID)
	}
}
