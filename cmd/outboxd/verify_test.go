package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/outboxd/outboxd/internal/config"
	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/internal/workload"
)

const verifyRoute = "OUTBOXD_ROUTES=[{to: [{sink: redis, destination: '%s:{tenant}:{topic}'}]}]"

// newVerified is an operator whose routes take any tenant and topic to a stream of its own.
func newVerified(t *testing.T, settings ...string) *operator {
	o := newOperator(t)
	o.environ = append(o.environ, fmt.Sprintf(verifyRoute, o.prefix))
	o.environ = append(o.environ, settings...)
	return o
}

// newVerifiedOn is newVerified with a database of another server.
func newVerifiedOn(t *testing.T, url string) *operator {
	o := newVerified(t, "DATABASE_URL="+url)
	o.conn = migrated(t, url)
	return o
}

// verify runs the command and returns its summary.
func (o *operator) verify(code int, args ...string) (s verifySummary, said string) {
	o.t.Helper()
	out, said := o.run(code, append([]string{"verify", "--output", "json"}, args...)...)
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		o.t.Fatalf("%v: %s\n%s", err, out, said)
	}
	if s.OK != (code == 0) {
		o.t.Errorf("exit code %d and ok %v", code, s.OK)
	}
	return s, said
}

func (o *operator) streams() []string {
	o.t.Helper()
	names, err := o.redis.Keys(o.t.Context(), o.prefix+"*").Result()
	if err != nil {
		o.t.Fatal(err)
	}
	return names
}

func TestVerifyFindsACleanRunWellAndTakesItsThingsAway(t *testing.T) {
	t.Parallel()
	o := newVerified(t)
	o.start()
	mine := o.insert("acme", "1", 10)
	s, said := o.verify(0, "--events", "900", "--rate", "0", "--seed", "7")
	if s.Report.Committed < 500 || s.Report.Received != s.Report.Committed || s.Report.RolledBack == 0 || s.Load.Events != 900 || s.Load.WithSavepoints == 0 {
		t.Errorf("%+v", s)
	}
	if s.Removed.Rows != int64(s.Report.Committed) || s.Removed.Destinations != 9 || len(s.Left) != 0 {
		t.Errorf("removed %+v of %d, left %v", s.Removed, s.Report.Committed, s.Left)
	}
	if got := o.count(`SELECT count(*) FROM outbox`); got != 1 || o.status(mine) == "" {
		t.Errorf("%d rows are left, want that of the application alone", got)
	}
	for _, name := range o.streams() {
		if strings.Contains(name, s.ID) {
			t.Errorf("stream %s is left", name)
		}
	}
	if !strings.Contains(said, "seed 7") {
		t.Errorf("it said %s", said)
	}
	again, _ := o.verify(0, "--events", "200", "--rate", "0", "--seed", "7", "--keep")
	if again.Load.WithSavepoints == 0 || again.Report.Committed != o.count(`SELECT count(*) FROM outbox`)-1 || len(again.Left) != 10 {
		t.Errorf("kept %v", again.Left)
	}
	o.stop()
}

func TestVerifyRunsPreparedTransactions(t *testing.T) {
	t.Parallel()
	server := testenv.NewPostgres(t, testenv.PostgresOptions{Settings: []string{"max_prepared_transactions = 10"}})
	o := newVerifiedOn(t, server.Database(t))
	o.start()
	s, _ := o.verify(0, "--events", "800", "--rate", "0", "--seed", "7")
	if s.Load.CommittedPrepared == 0 || s.Load.RolledBackPrepared == 0 {
		t.Errorf("%+v", s.Load)
	}
	if n := o.count(`SELECT count(*) FROM pg_prepared_xacts`); n != 0 {
		t.Errorf("%d transactions are still prepared", n)
	}
	o.stop()
}

func TestVerifyWithoutOutboxdSaysThatEverythingIsLost(t *testing.T) {
	t.Parallel()
	o := newVerified(t)
	s, said := o.verify(1, "--events", "200", "--rate", "0", "--wait", "2s")
	if s.Report.Committed == 0 || s.Report.Missing.Count != s.Report.Committed {
		t.Error(s.Report.String())
	}
	if e := s.Report.Missing.Examples; len(e) == 0 || !strings.Contains(e[0].Detail, "not in redis "+o.prefix) {
		t.Errorf("examples: %v", e)
	}
	if !strings.Contains(said, "there is no slot") || len(s.Left) != 10 {
		t.Errorf("it said %s and left %v", said, s.Left)
	}
	out, _ := o.run(1, "verify", "--events", "50", "--rate", "0", "--wait", "1s")
	for _, want := range []string{" missing", "not in redis ", "note: there is no slot", "left: public.outbox: rows whose id begins with ", "NOT WELL"} {
		if !strings.Contains(out, want) {
			t.Errorf("lacks %q: %s", want, out)
		}
	}
}

// verification is one whose events have arrived, and that was not judged yet.
type verification struct {
	*verifier
	redis *redis.Client
	t     *testing.T
}

func newVerification(t *testing.T) *verification {
	o := newVerified(t)
	o.start()
	v := &verification{redis: o.redis, t: t}
	a := &app{in: strings.NewReader(""), out: io.Discard, err: io.Discard, environ: o.environ}
	cmd := newVerifyCommand(a)
	cfg, _, err := a.load(cmd, config.NeedAll)
	if err != nil {
		t.Fatal(err)
	}
	options := verifyOptions{events: 500, tenants: []string{"acme", "globex"}, wait: time.Minute, output: &choice{value: "text"}}
	if v.verifier, err = newVerifier(a, options, cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err := v.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := v.stream(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.stop()
	return v
}

// pair returns the names of two events of one key in a stream, in their order.
func (v *verification) pair() (stream string, first, second redis.XMessage) {
	for _, p := range v.allPlaces() {
		seen := map[any]redis.XMessage{}
		for _, e := range v.entries(p.Destination) {
			key, keyed := e.Values["aggregate_id"]
			if before, ok := seen[key]; ok && keyed && key != "" {
				return p.Destination, before, e
			}
			seen[key] = e
		}
	}
	v.t.Fatal("no key has two events in one stream")
	return stream, first, second
}

func (v *verification) entries(stream string) []redis.XMessage {
	v.t.Helper()
	entries, err := v.redis.XRange(v.t.Context(), stream, "-", "+").Result()
	if err != nil {
		v.t.Fatal(err)
	}
	return entries
}

func (v *verification) remove(stream string, e redis.XMessage) {
	v.t.Helper()
	if err := v.redis.XDel(v.t.Context(), stream, e.ID).Err(); err != nil {
		v.t.Fatal(err)
	}
}

func (v *verification) add(stream string, e redis.XMessage) {
	v.t.Helper()
	if err := v.redis.XAdd(v.t.Context(), &redis.XAddArgs{Stream: stream, Values: e.Values}).Err(); err != nil {
		v.t.Fatal(err)
	}
}

func TestVerifyFindsWhatWasDoneToAStream(t *testing.T) {
	v := newVerification(t)
	stream, first, second := v.pair()
	id := func(e redis.XMessage) string { return fmt.Sprint(e.Values["id"]) }
	judged := func(what string, of func(*workload.Report) workload.Finding, want string) {
		t.Helper()
		s, err := v.judge(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		f := of(&s.Report)
		if s.OK != (want == "") || want != "" && (f.Count != 1 || len(f.Examples) != 1 || f.Examples[0].ID != want) {
			t.Errorf("%s: %s", what, s.Report.String())
		}
	}
	judged("untouched", func(r *workload.Report) workload.Finding { return r.Missing }, "")
	v.add(stream, first)
	judged("doubled", func(r *workload.Report) workload.Finding { return r.Doubled }, id(first))
	v.remove(stream, first)
	judged("swapped", func(r *workload.Report) workload.Finding { return r.OutOfOrder }, id(first))
	for _, e := range v.entries(stream) {
		if id(e) == id(first) {
			v.remove(stream, e)
		}
	}
	judged("deleted", func(r *workload.Report) workload.Finding { return r.Missing }, id(first))

	v.remove(stream, second)
	second.Values["payload"] = strings.Replace(fmt.Sprint(second.Values["payload"]), `"cents": `, `"cents": 1`, 1)
	v.add(stream, second)
	judged("changed", func(r *workload.Report) workload.Finding { return r.Corrupted }, id(second))

	other := ""
	for _, p := range v.allPlaces() {
		if p.Destination != stream {
			other = p.Destination
		}
	}
	v.add(other, first)
	judged("in another stream", func(r *workload.Report) workload.Finding { return r.Misplaced }, id(first))
}

func TestVerifyFailsByExitCodeWhenAnEventWasDeleted(t *testing.T) {
	t.Parallel()
	o := newVerified(t)
	o.start()
	done := make(chan error, 1)
	go func() {
		for {
			for _, name := range o.redis.Keys(t.Context(), o.prefix+"*").Val() {
				if e := o.redis.XRangeN(t.Context(), name, "-", "+", 1).Val(); len(e) > 0 {
					done <- o.redis.XDel(t.Context(), name, e[0].ID).Err()
					return
				}
			}
			if t.Context().Err() != nil {
				return
			}
		}
	}()
	s, _ := o.verify(1, "--for", "2s", "--tenants", "acme", "--wait", "10s")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if s.Report.Missing.Count != 1 {
		t.Error(s.Report.String())
	}
	o.stop()
}

func TestVerifySaysWhatItCannotDoBeforeAnythingIsWritten(t *testing.T) {
	o := newVerified(t)
	for _, c := range []struct {
		setting, want string
	}{
		{"routes=[{match: {topic: 'order.*'}, to: [{sink: redis, destination: 'outbox:{topic}'}]}]", "would go nowhere, so nothing was written: no route matches"},
		{"format=bento", "format is bento, and verify reads raw alone"},
		{"sinks.redis.maxlen=2000", "keeps the last 2000 entries of a stream"},
		{"sinks.redis.url=redis://127.0.0.1:1/0", "nothing was written, as sink redis cannot be read"},
		{"database.table=public.nothing", "there is no table public.nothing"},
		{"encrypt.keys=" + testKey + " encrypt.fields=cents", "encrypt.fields has a member of verify's payloads"},
	} {
		args := []string{"verify", "--events", "5000"}
		for setting := range strings.SplitSeq(c.setting, " encrypt.") {
			if strings.HasPrefix(setting, "fields") {
				setting = "encrypt." + setting
			}
			args = append(args, "--set", setting)
		}
		if _, said := o.run(1, args...); !strings.Contains(said, c.want) {
			t.Errorf("%s: %s", c.setting, said)
		}
	}
	o.exec(`ALTER TABLE outbox ADD COLUMN owner text NOT NULL`)
	if _, said := o.run(1, "verify"); !strings.Contains(said, "the outbox does not take verify's events") || !strings.Contains(said, "owner") {
		t.Errorf("it said %s", said)
	}
	if n := o.count(`SELECT count(*) FROM outbox`); n != 0 {
		t.Errorf("%d rows were written", n)
	}
	for _, args := range []string{"--for=-1s", "--events=-1", "--for 0s", "--tenants=", "more", "--output yaml"} {
		var out bytes.Buffer
		a := &app{in: strings.NewReader(""), out: io.Discard, err: &out, environ: os.Environ()}
		if code := execute(t.Context(), a, append([]string{"verify"}, strings.Fields(args)...)); code != exitUsage {
			t.Errorf("%s: exit code %d: %s", args, code, out.String())
		}
	}
}

// Two sinks, one of which takes a part of the topics; the topics are removed by the admin API.
func TestVerifyReadsPulsarAndSeveralDestinations(t *testing.T) {
	t.Parallel()
	server := testenv.Pulsar(t)
	o := newVerified(t)
	namespace := "verify" + strconv.FormatInt(time.Now().UnixNano(), 36)
	o.environ = append(o.environ, "PULSAR_SERVICE_URL="+server.URL, "OUTBOXD_SINKS_PULSAR_ADMIN_URL="+server.AdminURL, "OUTBOXD_SINKS_PULSAR_CREATE=true",
		"OUTBOXD_ROUTES=[{match: {tenant: acme}, to: [{sink: pulsar, destination: 'persistent://"+namespace+"/{tenant}/{topic}'}, {sink: redis, destination: '"+
			o.prefix+":{topic}'}]}, {to: [{sink: pulsar, destination: 'persistent://"+namespace+"/{tenant}/{topic}'}]}]")
	o.start()
	s, said := o.verify(0, "--events", "300", "--rate", "0", "--tenants", "acme,globex")
	if s.Report.Received <= s.Report.Committed || s.Removed.Destinations != 9 || len(s.Left) != 0 {
		t.Errorf("%+v: %s", s, said)
	}
	o.stop()
	lost, _ := o.verify(1, "--events", "100", "--rate", "0", "--tenants", "acme", "--wait", "1s")
	if lost.Report.Missing.Count != 2*lost.Report.Committed {
		t.Error(lost.Report.String())
	}
}
