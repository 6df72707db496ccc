package bench

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/workload"
)

// Backlog is rows of known ids, to be written into an outbox table of the usual shape.
type Backlog struct {
	Table       pgx.Identifier
	Status      string // of a new row
	Rows        int
	Transaction int // rows in each
	Payload     int // bytes of each, roughly
	Tenants     int
	Topics      int
	Keys        int
	Shards      int // of the table, by key; 0 and 1: it is not split

	Failing int  // tenants, the last ones, of whose events no latency is measured
	Refused bool // their destinations refuse everything, so their events are not to arrive

	run string // the beginning of all ids
}

// chunk is how many rows are asked for at once: between two chunks progress is told.
const chunk = 20_000

// NewRun chooses the ids' beginning, so that the rows differ from those of every other backlog.
func (b *Backlog) NewRun() {
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	b.run = hex.EncodeToString(random[:]) + "-0000-7000-8000-"
}

// TopicName is the name of topic i.
func TopicName(i int) string { return "topic-" + strconv.Itoa(i+1) }

// Destinations are all that a template with {tenant} and {topic}, and {shard} where the table is split, makes of the tenants and topics.
func (b *Backlog) Destinations(template string) []string {
	var all []string
	for _, tenant := range workload.Tenants(b.Tenants) {
		for i := range b.Topics {
			for shard := range max(1, b.Shards) {
				all = append(all, strings.NewReplacer("{tenant}", tenant, "{topic}", TopicName(i), "{shard}", strconv.Itoa(shard)).Replace(template))
			}
		}
	}
	return all
}

// ofFailing tells whether row n is of a failing tenant.
func (b *Backlog) ofFailing(n int) bool { return n%b.Keys%b.Tenants >= b.Tenants-b.Failing }

// toArrive is how many of the rows from the first one on are to arrive.
func (b *Backlog) toArrive(first int) int {
	if !b.Refused {
		return b.Rows - first
	}
	n := 0
	for i := first; i < b.Rows; i++ {
		if !b.ofFailing(i) {
			n++
		}
	}
	return n
}

// ToRefuse is how many of the rows are not to arrive.
func (b *Backlog) ToRefuse() int { return b.Rows - b.toArrive(0) }

// Write inserts all rows. The server makes them, so that a million takes seconds; commits do not wait for the disk. Rows get rising
// numbers in the order of their commits.
func (b *Backlog) Write(ctx context.Context, conn *pgx.Conn, wrote func(rows int)) error {
	b.NewRun()
	if _, err := conn.Exec(ctx, `SET synchronous_commit = off`); err != nil {
		return fmt.Errorf("write the backlog: %w", err)
	}
	step := (chunk + b.Transaction - 1) / b.Transaction * b.Transaction
	for first := 0; first < b.Rows; first += step {
		last := min(first+step, b.Rows)
		if _, err := conn.Exec(ctx, b.statement(first, last)); err != nil {
			return fmt.Errorf("write rows %d to %d of the backlog: %w", first, last, err)
		}
		wrote(last)
	}
	return nil
}

// statement inserts the rows first to last-1. A DO block may commit within.
func (b *Backlog) statement(first, last int) string {
	return fmt.Sprintf(`DO $bench$
DECLARE
	tenants text[] := %s; topics text[] := %s; filler text := %s; i bigint := %d;
BEGIN
	WHILE i < %d LOOP
		%s FROM generate_series(i, least(i + %d, %d) - 1) n;
		COMMIT;
		i := i + %d;
	END LOOP;
END $bench$`, array(workload.Tenants(b.Tenants)), array(b.topicNames()), quote(b.filler()), first, last, b.insert(), b.Transaction, last, b.Transaction)
}

// insert is an INSERT of the rows n of a FROM that follows it.
func (b *Backlog) insert() string {
	return fmt.Sprintf(`INSERT INTO %s (id, tenant_id, aggregate_type, aggregate_id, topic, occurred_at, schema_id, payload, event_metadata, status)
		SELECT (%s || lpad(to_hex(n), 12, '0'))::uuid, tenants[1 + n %% %d %% %d], 'order', (n %% %d)::text, topics[1 + n / %d %% %d], clock_timestamp(), 'order-v1',
			('{"number": ' || n || ', "filler": "' || filler || '"}')::jsonb, '{"correlation_id": "bench"}', %s`,
		b.Table.Sanitize(), quote(b.run), b.Keys, b.Tenants, b.Keys, b.Tenants, b.Topics, quote(b.Status))
}

func (b *Backlog) topicNames() []string {
	names := make([]string, b.Topics)
	for i := range names {
		names[i] = TopicName(i)
	}
	return names
}

// filler is text that no compression shortens much.
func (b *Backlog) filler() string {
	const other = len(`{"number": 1234567, "filler": ""}`)
	random := make([]byte, max(0, b.Payload-other+1)/2)
	_, _ = rand.Read(random) // never fails
	return hex.EncodeToString(random)
}

func array(texts []string) string {
	quoted := make([]string, len(texts))
	for i, t := range texts {
		quoted[i] = quote(t)
	}
	return "ARRAY[" + strings.Join(quoted, ", ") + "]"
}

// quote is a literal of SQL.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// id is that of row n.
func (b *Backlog) id(n int64) string { return fmt.Sprintf("%s%012x", b.run, n) }

// number is the row's number by its id.
func (b *Backlog) number(id string) (int, error) {
	digits, ok := strings.CutPrefix(id, b.run)
	n, err := strconv.ParseInt(digits, 16, 64)
	if !ok || err != nil || n < 0 || int(n) >= b.Rows {
		return 0, fmt.Errorf("entry %q is of none of the rows", id)
	}
	return int(n), nil
}

// inBody is the number that each payload has, also in a string of JSON.
var inBody = regexp.MustCompile(`"number\\?": ?([0-9]+)`)

// identify gives an entry without an id the one that its payload stands for: some tools deliver the payload alone. Others write the id as JSON.
func (b *Backlog) identify(r *workload.Received) {
	r.ID = strings.Trim(r.ID, `"`)
	if r.ID != "" {
		return
	}
	if found := inBody.FindSubmatch(r.Body); found != nil {
		if n, err := strconv.ParseInt(string(found[1]), 10, 48); err == nil {
			r.ID = b.id(n)
		}
	}
}
