package config

import (
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestTableLaneIsReadFromEveryLayer(t *testing.T) {
	text := minimal + `
slot: {on_lost: stop}
poll: {batch_size: 7, dead_at_once: true, backoff: {base: 1s, multiplier: 3, max_exponent: 0}, full_sweep: 168h}
outage: {max_retained_wal: 64MiB}
routes: [{on_dead: block, to: [{sink: redis, destination: x}]}]
`
	cfg, _ := mustLoad(t, text, Options{
		Environ: []string{"OUTBOXD_POLL_MAX_ATTEMPTS=9", "OUTBOXD_CLEANUP_SCHEDULE=", "OUTBOXD_DATABASE_STATUSES_DEAD=BURIED"},
		Flags:   []Flag{{"--set", "poll.sweep", "2s"}, {"--set", "database.columns.created_at", ""}},
	})
	if want, got := (Poll{
		BatchSize: 7, MaxConcurrent: 5, MaxAttempts: 9, DeadAtOnce: true, Backoff: Backoff{Duration(time.Second), 3, 0},
		Sweep: Duration(2 * time.Second), FullSweep: Duration(168 * time.Hour),
	}), cfg.Poll; got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if cfg.Slot.OnLost != "stop" || cfg.Outage.MaxRetainedWAL != 64<<20 || cfg.Routes[0].OnDead != "block" {
		t.Errorf("got %+v, %+v, %+v", cfg.Slot, cfg.Outage, cfg.Routes)
	}
	if cfg.Cleanup.Schedule != "" || cfg.Database.Statuses.Dead != "BURIED" || cfg.Database.Columns.CreatedAt != "" {
		t.Errorf("got %+v, %+v, %+v", cfg.Cleanup, cfg.Database.Statuses, cfg.Database.Columns)
	}
}

// A column that is only read may fill several settings, and a column that is not there none.
func TestColumnsThatAreOnlyReadMayBeTheSame(t *testing.T) {
	mustLoad(t, minimal, Options{Environ: []string{
		"OUTBOXD_DATABASE_COLUMNS_OCCURRED_AT=created_at", "OUTBOXD_DATABASE_COLUMNS_SCHEMA_ID=",
		"OUTBOXD_DATABASE_COLUMNS_RETRY_COUNT=", "OUTBOXD_DATABASE_COLUMNS_RETRY_AFTER=", "OUTBOXD_DATABASE_COLUMNS_ERROR_MESSAGE=",
	}})
}

func TestWithKeepNoColumnIsWrittenTo(t *testing.T) {
	mustLoad(t, minimal, Options{Environ: []string{"OUTBOXD_ON_SENT=keep", "OUTBOXD_DATABASE_COLUMNS_ERROR_MESSAGE=topic"}})
}

// checkWritten lists the columns by hand: a column that it forgets would be written over.
func TestNoColumnMayBeWrittenOver(t *testing.T) {
	for f := range reflect.TypeFor[Columns]().Fields() {
		name := f.Tag.Get("yaml")
		if name == "error_message" {
			continue
		}
		column := reflect.ValueOf(Default().Database.Columns).FieldByIndex(f.Index).String()
		if _, _, err := load(t, minimal, Options{Environ: []string{"OUTBOXD_DATABASE_COLUMNS_ERROR_MESSAGE=" + column}}); err == nil {
			t.Errorf("error_message may be %s, the column of %s", column, name)
		}
	}
}

func TestSchedulesAreRead(t *testing.T) {
	for _, text := range []string{"", "0 2 * * *", "*/5 0-6 * * mon-fri", "0 0 29 2 *", "CRON_TZ=UTC 0 2 * * *", "@daily", "@every 1h"} {
		if err := checkSchedule(text); err != nil {
			t.Errorf("%q %v", text, err)
		}
	}
	for _, text := range []string{" ", "TZ=", "CRON_TZ=UTC", "TZ=\t0 2 * *", "TZ=UTC ", "0 2 * *", "0 25 * * *", "*/0 * * * *", "@never", "0 0 30 2 *"} {
		if err := checkSchedule(text); err == nil {
			t.Errorf("%q is taken for a schedule", text)
		}
	}
}

func TestNoScheduleBreaksTheCheck(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		_ = checkSchedule(rapid.StringMatching(`(CRON_TZ=|TZ=|@every |@)?[A-Z]{0,3}[ \t]{0,2}[0-9*/,? \t-]{0,20}`).Draw(t, "schedule"))
	})
}
