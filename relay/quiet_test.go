package relay_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/relay"
)

// The server writes down each statement and each connection, also of those that are closed again.
func TestIdleSystemIssuesNoStatement(t *testing.T) {
	const interval, measurements = time.Second, 5
	postgres := testenv.NewPostgres(t, testenv.PostgresOptions{Settings: []string{
		"logging_collector = on", "log_directory = 'log'", "log_filename = 'all.log'", "log_line_prefix = '%a: '", "log_statement = all", "log_connections = on",
	}})
	r := newRig(t, postgres.Database(t), "")
	start := func(name string) *running {
		return r.start(func(c *relay.Config) {
			c.WAL.URL += "&application_name=" + name
			c.Table.Sweep, c.Table.FullSweep, c.MeasureInterval = time.Hour, time.Hour, interval
		})
	}
	// said returns how often the instance has measured, and what else it has sent.
	said := func(name string) (measured int, others []string) {
		var log string
		if err := r.conn.QueryRow(t.Context(), `SELECT pg_read_file('log/all.log')`).Scan(&log); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(log) {
			switch own := strings.HasPrefix(line, name+": LOG:"); {
			case own && strings.Contains(line, "SELECT pg_current_wal_flush_lsn()"):
				measured++
			case own, strings.Contains(line, "application_name="+name):
				others = append(others, line)
			}
		}
		return measured, others
	}
	pause := func(n int) (others []string) {
		first, _ := said("active")
		r.eventually("some more measurements", func() (over bool) {
			var now int
			now, others = said("active")
			return now >= first+n
		})
		return others
	}
	active := start("active")
	r.insert("acme", 0, 1, 1)
	end := r.inserted
	r.eventually("the event is confirmed, and the first sweep is over", func() bool {
		return r.confirmed(end) && active.metrics(t)[`outboxd_database_query_seconds{statement="sweep"}`] == 1
	})
	r.eventually("what follows the sweep is over", func() bool {
		_, before := said("active")
		return len(pause(2)) == len(before)
	})
	standby := start("standby")
	r.eventually("the other stands by", func() bool {
		_, sent := said("standby")
		return standby.Status().State == relay.StateStandby &&
			slices.ContainsFunc(sent, func(line string) bool { return strings.Contains(line, "pg_advisory_lock") })
	})
	_, before := said("active")
	_, beside := said("standby")
	began := time.Now()
	if after := pause(measurements); len(after) > len(before) {
		t.Errorf("the idle active instance sent %q", after[len(before):])
	}
	if took := time.Since(began); took < (measurements-2)*interval { // the first may have come before: the log shows it a little later
		t.Errorf("it measured %d times in %s", measurements, took)
	}
	if _, after := said("standby"); len(after) > len(beside) {
		t.Errorf("the standby sent %q", after[len(beside):])
	}
}
