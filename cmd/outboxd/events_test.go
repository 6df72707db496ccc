package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/migrations"
	"github.com/outboxd/outboxd/park"
)

// operator is a person with the command line, a database with psql, and a Redis with redis-cli.
type operator struct {
	t       *testing.T
	conn    *pgx.Conn
	redis   *redis.Client
	path    string
	environ []string
	prefix  string // of the streams
	process *exec.Cmd
	log     journal
}

// migrated returns a connection to the database, where the tables were made.
func migrated(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	if _, err := migrations.Up(t.Context(), conn, migrations.Options{}); err != nil {
		t.Fatal(err)
	}
	return conn
}

// newOperator has an outbox whose events go to the stream PREFIX:TENANT, unless a setting says something else.
func newOperator(t *testing.T, settings ...string) *operator {
	t.Helper()
	o := &operator{t: t, path: program(t), prefix: fmt.Sprintf("%s:%d", t.Name(), time.Now().UnixNano())}
	url, broker := testenv.Postgres(t).Database(t), testenv.Redis(t).URL
	o.conn, o.redis = migrated(t, url), redisClient(t, broker)
	o.environ = append([]string{
		"DATABASE_URL=" + url, "REDIS_URL=" + broker, fmt.Sprintf("OUTBOXD_DATABASE_SLOT=events_%d", time.Now().UnixNano()),
		"OUTBOXD_ROUTES=[{to: [{sink: redis, destination: '" + o.prefix + ":{tenant}'}]}]",
		"OUTBOXD_HTTP_ADDR=", "OUTBOXD_CHECKPOINT_INTERVAL=100ms", "OUTBOXD_POLL_SWEEP=1s", "OUTBOXD_POLL_DEAD_AT_ONCE=true",
	}, settings...)
	t.Cleanup(func() {
		o.kill()
		o.log.wantNoRace(t)
		if t.Failed() {
			t.Logf("the log of outboxd run:\n%s", o.log.String())
		}
	})
	return o
}

// launch runs outboxd with more settings.
func (o *operator) launch(settings ...string) {
	o.t.Helper()
	o.process = exec.Command(o.path, "run")
	o.process.Env = append(slices.Clone(o.environ), settings...)
	o.process.Stderr = &o.log
	if err := o.process.Start(); err != nil {
		o.t.Fatal(err)
	}
}

// start is launch, and returns when outboxd streams.
func (o *operator) start(settings ...string) {
	o.t.Helper()
	o.launch(settings...)
	eventually(o.t, "outboxd streams", func() bool {
		return o.count(`SELECT count(*) FROM pg_replication_slots s JOIN outboxd.checkpoint c ON c.slot = s.slot_name
			WHERE s.active AND c.adopt_snapshot IS NULL`) == 1
	})
}

// stop ends outboxd as an operator does.
func (o *operator) stop() {
	o.t.Helper()
	if err := o.process.Process.Signal(os.Interrupt); err != nil {
		o.t.Fatal(err)
	}
	if err := o.process.Wait(); err != nil {
		o.t.Fatalf("outboxd did not stop cleanly: %v", err)
	}
}

func (o *operator) kill() {
	if o.process != nil && o.process.ProcessState == nil {
		_ = o.process.Process.Kill()
		_ = o.process.Wait()
	}
}

// run runs a command that must exit with the code, and returns what it prints.
func (o *operator) run(code int, args ...string) (stdout, stderr string) {
	o.t.Helper()
	var out, problems bytes.Buffer
	cmd := exec.Command(o.path, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = o.environ, &out, &problems
	got := 0
	if err := cmd.Run(); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			o.t.Fatal(err)
		}
		got = exit.ExitCode()
	}
	if got != code {
		o.t.Fatalf("outboxd %s exits %d, want %d:\n%s%s", strings.Join(args, " "), got, code, out.String(), problems.String())
	}
	return out.String(), problems.String()
}

// aligned are the spaces of a table.
var aligned = regexp.MustCompile(`  +`)

// want runs a command that must succeed and whose output must hold all the texts, with two spaces between the columns of a table.
func (o *operator) want(command string, texts ...string) {
	o.t.Helper()
	out, _ := o.run(0, strings.Fields(command)...)
	if !containsAll(aligned.ReplaceAllString(out, "  "), texts) {
		o.t.Errorf("outboxd %s prints\n%swant all of %q", command, out, texts)
	}
}

// list returns the page that events list prints.
func (o *operator) list(flags ...string) (p page) {
	o.t.Helper()
	out, _ := o.run(0, append([]string{"events", "list", "--output", "json"}, flags...)...)
	if err := json.Unmarshal([]byte(out), &p); err != nil {
		o.t.Fatalf("%v in %s", err, out)
	}
	return p
}

// insert adds an event of one key with a payload of so many bytes, and returns its id.
func (o *operator) insert(tenant, aggregate string, size int) (id string) {
	o.t.Helper()
	err := o.conn.QueryRow(o.t.Context(), `INSERT INTO outbox (tenant_id, aggregate_type, aggregate_id, topic, occurred_at, payload)
		VALUES ($1, 'order', $2, 'order.created', now(), jsonb_build_object('text', repeat('x', $3))) RETURNING id`, tenant, aggregate, size).Scan(&id)
	if err != nil {
		o.t.Fatal(err)
	}
	return id
}

func (o *operator) exec(sql string, args ...any) {
	o.t.Helper()
	if _, err := o.conn.Exec(o.t.Context(), sql, args...); err != nil {
		o.t.Fatalf("%v in %s", err, sql)
	}
}

func (o *operator) count(sql string, args ...any) (n int) {
	o.t.Helper()
	if err := o.conn.QueryRow(o.t.Context(), sql, args...).Scan(&n); err != nil {
		o.t.Fatalf("%v in %s", err, sql)
	}
	return n
}

func (o *operator) status(id string) (status string) {
	o.t.Helper()
	if err := o.conn.QueryRow(o.t.Context(), `SELECT status FROM outbox WHERE id = $1`, id).Scan(&status); err != nil {
		o.t.Fatal(err)
	}
	return status
}

// stream returns the ids of the events in a stream, with "+" for replays.
func (o *operator) stream(name string) (ids []string) {
	o.t.Helper()
	entries, err := o.redis.XRange(o.t.Context(), o.prefix+":"+name, "-", "+").Result()
	if err != nil {
		o.t.Fatal(err)
	}
	for _, e := range entries {
		id, _ := e.Values["id"].(string)
		if e.Values["replay"] != nil {
			id += "+"
		}
		ids = append(ids, id)
	}
	return ids
}

func (o *operator) eventuallyIn(name string, ids ...string) {
	o.t.Helper()
	eventually(o.t, fmt.Sprintf("stream %s holds %v", name, ids), func() bool { return slices.Equal(o.stream(name), ids) })
}

// eventuallyListed waits until so many deliveries are in one of the states, and sees that events list shows them.
func (o *operator) eventuallyListed(n int, states ...string) {
	o.t.Helper()
	eventually(o.t, fmt.Sprintf("%d deliveries are %v", n, states), func() bool {
		return o.count(`SELECT count(*) FROM outboxd.parked WHERE state = ANY ($1)`, states) == n
	})
	if p := o.list("--status", strings.Join(states, ",")); len(p.Events) != n {
		o.t.Errorf("events list shows %+v, want %d that are %v", p.Events, n, states)
	}
}

const smallMessages = "OUTBOXD_SINKS_REDIS_MAX_MESSAGE_BYTES=2KiB"

// A message that the broker's limit refuses dies, the events of other keys and later ones of its own flow on, and after the limit was raised a
// retry delivers it.
func TestRetryDeliversWhatWasTooLargeWhenTheLimitIsRaised(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.start(smallMessages)
	large := o.insert("acme", "1", 5000)
	o.eventuallyListed(1, "dead")
	small := o.insert("acme", "1", 10)
	o.eventuallyIn("acme", small)

	o.want("events list", "ID", large, "dead", "acme", "order.created", "order/1", "redis "+o.prefix+":acme")
	o.want("events list --reason MAX_message_bytes --tenant acme --aggregate order/1 --newer-than 1h --sink redis", large)
	for _, other := range []string{"--reason=nonsense", "--tenant=other", "--aggregate=order/2", "--older-than=1h", "--sink=pulsar", "--status=waiting", "--topic=x"} {
		if p := o.list(other); len(p.Events) != 0 {
			t.Errorf("events list %s shows %+v", other, p.Events)
		}
	}
	eventually(t, "the row says so too", func() bool { return o.status(large) == "DEAD" })
	o.want("events show "+large, "state  dead", "attempts  1", "payload  4.9 KiB", "outbox row  DEAD, created 20", "position  1")
	if out, _ := o.run(0, "events", "show", large, "--payload"); !strings.Contains(out, strings.Repeat("x", 5000)) {
		t.Errorf("events show --payload prints\n%s", out)
	}

	inCapitals := strings.ToUpper(large)
	o.want("events show "+inCapitals, "state  dead", "outbox row  DEAD")
	o.want("events skip "+inCapitals+" --dry-run", "would skip 1 delivery\n")
	o.want("events replay "+inCapitals+" "+large+" --dry-run", "would replay 1 event")
	o.want("events retry --status dead --all --dry-run", "would retry 1 delivery\n")
	o.stop()
	o.start()
	o.want("events retry "+large+" --note limit-raised", "retried 1 delivery\n")
	o.eventuallyIn("acme", small, large)
	eventually(t, "the row is settled", func() bool { return o.status(large) == "SENT" })
	o.eventuallyListed(0, "waiting", "dead")
	o.want("events show "+large, "outbox row  SENT", "parked  no", "retry  redis "+o.prefix+":acme", "limit-raised")
	_, stderr := o.run(1, "events", "retry", large)
	if !strings.Contains(stderr, "nothing of event "+large+" waits or is dead here") {
		t.Errorf("retry of a delivered event says %q", stderr)
	}
	o.stop()
}

// With on_dead: block a dead event holds its key until a person skips it.
func TestSkipLetsTheEventsBehindADeadOneGo(t *testing.T) {
	t.Parallel()
	o := newOperator(t, smallMessages)
	o.environ = append(o.environ, "OUTBOXD_ROUTES=[{on_dead: block, to: [{sink: redis, destination: '"+o.prefix+":{tenant}'}]}]")
	o.start()
	large := o.insert("acme", "1", 5000)
	o.eventuallyListed(1, "dead")
	behind, other := o.insert("acme", "1", 10), o.insert("acme", "2", 10)
	o.eventuallyIn("acme", other)
	o.eventuallyListed(1, "waiting")

	o.want("events show "+behind, "state  waiting", "blocked by  event "+large+" of its key, which is dead: ", "parked there  1 waiting, 1 dead")
	o.want("events show "+large, "dead, holds back the later events of its key")
	o.want("events skip "+large+" --note test-data", "skipped 1 delivery\n")
	o.eventuallyIn("acme", other, behind)
	eventually(t, "both rows are settled", func() bool { return o.status(large)+o.status(behind) == "SENTSENT" })
	o.want("events show "+large+" --output json", `"action": "skip"`, `"note": "test-data"`)
	o.stop()
}

// Where a session of outboxd and a person's command lock the same rows in different order, one of them has to give way.
func TestSkipThatMeetsADeadlockIsDoneAgain(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.start(smallMessages)
	first := o.insert("acme", "1", 5000)
	o.eventuallyListed(1, "dead")
	o.insert("acme", "2", 5000)
	o.eventuallyListed(2, "dead")
	o.stop()
	ctx := t.Context()
	other, err := pgx.ConnectConfig(ctx, o.conn.Config())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close(context.Background()) })
	tx, err := other.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	// Who looks for a deadlock does so once, and gives way if there is one: that has to be the command, when this one waits as well.
	o.exec(`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = ''5s''', current_database()); END $$`)
	if _, err := tx.Exec(ctx, `SET deadlock_timeout = '1min'`); err != nil {
		t.Fatal(err)
	}
	const lock = `SELECT 1 FROM outboxd.parked WHERE (id = $1) = $2 FOR UPDATE`
	if _, err := tx.Exec(ctx, lock, first, false); err != nil {
		t.Fatal(err)
	}
	skip := exec.Command(o.path, "events", "skip", "--status", "dead", "--all", "--yes")
	skip.Env = o.environ
	var said bytes.Buffer
	skip.Stdout, skip.Stderr = &said, &said
	if err := skip.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it waits for the second row", func() bool {
		return o.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) == 1
	})
	if _, err := tx.Exec(ctx, lock, first, true); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if err := skip.Wait(); err != nil || !strings.Contains(said.String(), "skipped 2 deliveries") {
		t.Errorf("%v: %s", err, said.String())
	}
}

// The replay of a row that is not delivered yet would make it SENT, and its own delivery could be taken for skipped.
func TestReplayElsewhereLeavesOutWhatIsNotDelivered(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.start()
	eventually(t, "the instance holds the lease", func() bool { return o.count(`SELECT count(*) FROM outboxd.lease`) == 1 })
	o.stop()
	for _, status := range []string{"NEW", "FAILED", "DEAD", "PUBLISHING", "SENT", "PUBLISHED"} {
		o.exec(`UPDATE outbox SET status = $2 WHERE id = $1`, o.insert("acme", status, 10), status)
	}
	first := o.insert("other", "1", 10)
	_, errs := o.run(1, "events", "replay", first, "--to", "redis:copy")
	if want := "1 event was not replayed to another destination, because not delivered yet: wait until they are, or retry those that wait or are dead by events retry; the first is " + first; !strings.Contains(errs, want) {
		t.Errorf("got %s, want %s", errs, want)
	}
	if out, errs := o.run(1, "events", "replay", "--status", "any", "--tenant", "acme", "--yes", "--to", "redis:copy"); !strings.Contains(out, "parked for replay: 2 events, 2 deliveries") {
		t.Errorf("got %s%s", out, errs)
	}
	if n := o.count(`SELECT count(*) FROM outboxd.parked`); n != 2 {
		t.Errorf("%d events are parked, want 2", n)
	}
	o.want("events replay --status any --tenant acme --dry-run", "would replay 6 events")
	o.want("events replay --status any --tenant acme --dry-run --set on_sent=keep --to redis:copy", "would replay 6 events")
}

// A replay goes to another stream, marked, while the live one stays as it is.
func TestReplayGoesToAnotherStream(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.start()
	var ids []string
	for i := range 5 {
		ids = append(ids, o.insert("acme", fmt.Sprint(i), 10))
		o.eventuallyIn("acme", ids...)
	}
	foreign := o.insert("other", "1", 10)
	eventually(t, "all rows are sent", func() bool { return o.count(`SELECT count(*) FROM outbox WHERE status = 'SENT'`) == 6 })

	to := "redis:" + o.prefix + ":copy:{tenant}"
	o.want("events replay --tenant acme --since 2020-01-01 --dry-run --to "+to, "would replay 5 events, 5 deliveries\n")
	o.want("events replay --tenant acme --until 2020-01-01 --dry-run", "would replay 0 events")
	o.want("events replay --status NEW --dry-run", "would replay 0 events")
	o.want("events replay --status any --dry-run", "would replay 6 events")
	o.want("events replay --tenant acme --since 2020-01-01 --note again --to "+to, "parked for replay: 5 events, 5 deliveries\n")
	eventually(t, "the copies have arrived", func() bool { return len(o.stream("copy:acme")) == 5 })
	for _, id := range o.stream("copy:acme") {
		if original, replayed := strings.CutSuffix(id, "+"); !replayed || !slices.Contains(ids, original) {
			t.Errorf("the copy holds %s", id)
		}
	}
	if got := o.stream("acme"); !slices.Equal(got, ids) {
		t.Errorf("the live stream holds %v, want %v", got, ids)
	}
	o.want("events replay "+foreign+" --output json", `"events": 1`)
	o.eventuallyIn("other", foreign, foreign+"+")
	o.eventuallyListed(0, "waiting", "dead")
	o.want("events show "+ids[0], "replay", "again")
	o.stop()
}

// Without a running instance everything is kept for it; a list is read in pages, which do not part the deliveries of one event.
func TestListIsReadInPages(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.environ = append(o.environ, "OUTBOXD_ROUTES=[{to: [{sink: redis, destination: '"+o.prefix+":a'}, {sink: redis, destination: '"+o.prefix+":b'}]}]")
	o.start()
	o.stop()
	o.exec(`INSERT INTO outbox (tenant_id, aggregate_type, aggregate_id, topic, occurred_at, payload, status)
		SELECT 'acme', 'order', i::text, 'order.created', now(), '{}', 'SENT' FROM generate_series(1, 1200) i`)
	_, stderr := o.run(1, "events", "replay", "--tenant", "acme")
	if !strings.Contains(stderr, "this replays 1,200 events: nobody to ask: confirm with --yes") {
		t.Errorf("replay of many says %q", stderr)
	}
	o.want("events replay --tenant acme --yes", "parked for replay: 1,200 events, 2,400 deliveries\n")

	seen := map[string]int{}
	p := o.list("--limit", "501")
	for ; ; p = o.list("--limit", "501", "--after", p.Next) {
		for _, d := range p.Events {
			seen[d.ID+" "+d.Destination]++
		}
		if p.Next == "" {
			break
		}
		if len(p.Events) != 502 {
			t.Fatalf("a page holds %d", len(p.Events))
		}
	}
	if len(seen) != 2400 {
		t.Errorf("the pages hold %d deliveries, want 2400", len(seen))
	}
	o.want("events list --limit 2", "there are more: --after ", "REPLAY", "replay\n")

	_, stderr = o.run(1, "events", "skip", "--tenant", "acme")
	if !strings.Contains(stderr, "this skips 2,400 deliveries: nobody to ask: confirm with --yes") {
		t.Errorf("skip of many says %q", stderr)
	}
	o.want("events skip --tenant acme --yes", "skipped 2,400 deliveries\n")
	o.want("events list --status skipped --limit 1", "skipped", "there are more")
}

func TestCommandsForEventsShowNoSecret(t *testing.T) {
	t.Parallel()
	path, outboxd := writeSecretConfig(t), program(t)
	for _, command := range []string{
		"events list", "events show 1", "events retry 1", "events skip 1", "events replay 1", "events replay 1 --to redis:a", "cleanup --yes",
	} {
		cmd := exec.CommandContext(t.Context(), outboxd, append(strings.Fields(command), "--config", path)...)
		cmd.Env = []string{}
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), ": connect to ") || strings.Contains(string(out), "hunter2") {
			t.Errorf("%s prints %q (%v)", command, out, err)
		}
	}
}

func TestTextOfOthersCannotSteerATerminal(t *testing.T) {
	if got := cell(" a\tb\n\x1b[31mred\x00 "); got != "a b \ufffd[31mred\ufffd" {
		t.Errorf("cell returns %q", got)
	}
	if got := cell(" \n"); got != "-" {
		t.Errorf("cell of nothing returns %q", got)
	}
}

func TestCountsAndSpansAreReadable(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -100: "-100", -1000: "-1,000"} {
		if got := number(n); got != want {
			t.Errorf("number(%d) = %s, want %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0s", time.Millisecond: "1s", 59 * time.Second: "59s", 61 * time.Second: "1m1s", 25 * time.Hour: "1d1h", 90 * time.Minute: "1h30m",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%v) = %s, want %s", d, got, want)
		}
	}
}

func TestCursorReadsBack(t *testing.T) {
	want := park.Cursor{Position: event.Position{Epoch: 3, Commit: 0x1_0000_0002, Ordinal: 4}, ID: "an id / of \"text\"", Replay: 7}
	if got, err := parseCursor(cursorText(want)); err != nil || got != want {
		t.Errorf("%v reads back as %v, %v", want, got, err)
	}
}
