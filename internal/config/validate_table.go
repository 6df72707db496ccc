package config

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/outboxd/outboxd/outbox"
)

// checkTableLane reports what is wrong between the settings of the table lane.
func (l *loader) checkTableLane(cfg *Config) {
	if cfg.OnSent != outbox.Keep { // which writes nothing
		l.checkWritten(cfg.Database.Columns)
	}
	if cfg.Poll.Sweep > cfg.Poll.FullSweep {
		l.wrong("poll.sweep", "%s is more than poll.full_sweep (%s): lower it or raise poll.full_sweep", cfg.Poll.Sweep, cfg.Poll.FullSweep)
	}
	l.checkBackoff(cfg.Poll.Backoff)
	if err := checkSchedule(cfg.Cleanup.Schedule); err != nil {
		l.wrong("cleanup.schedule", "%q %v", cfg.Cleanup.Schedule, err)
	}
}

// checkWritten refuses that a column that is written has another meaning too: a refusal would write over what the application has put there.
// Columns that are only read may be the same, such as occurred_at and created_at.
func (l *loader) checkWritten(c Columns) {
	read := []struct{ name, column string }{
		{"id", c.ID},
		{"tenant_id", c.TenantID},
		{"topic", c.Topic},
		{"aggregate_type", c.AggregateType},
		{"aggregate_id", c.AggregateID},
		{"occurred_at", c.OccurredAt},
		{"schema_id", c.SchemaID},
		{"schema_version", c.SchemaVersion},
		{"payload", c.Payload},
		{"metadata", c.Metadata},
		{"created_at", c.CreatedAt},
	}
	for _, w := range []struct{ name, column string }{
		{"status", c.Status},
		{"retry_count", c.RetryCount},
		{"retry_after", c.RetryAfter},
		{"error_message", c.ErrorMessage},
	} {
		if w.column == "" {
			continue
		}
		i := slices.IndexFunc(read, func(r struct{ name, column string }) bool { return r.column == w.column })
		if i >= 0 {
			l.wrong("database.columns."+w.name, "%q is also database.columns.%s, and is written to: name a column of its own, or leave it empty",
				w.column, read[i].name)
		}
		read = append(read, w)
	}
}

// longestBackoff is far beyond what anybody wants, and far below where a time.Duration ends.
const longestBackoff = 365 * 24 * time.Hour

func (l *loader) checkBackoff(b Backoff) {
	if longest := float64(b.Base) * math.Pow(b.Multiplier, float64(b.MaxExponent)); longest > float64(longestBackoff) {
		l.wrong("poll.backoff.max_exponent", "base * multiplier^%d (%s * %v^%d) is more than a year: lower one of them",
			b.MaxExponent, b.Base, b.Multiplier, b.MaxExponent)
	}
}

// checkSchedule says why the text is no schedule; the empty one is.
func checkSchedule(text string) error {
	const mend = `write it like "0 2 * * *", or leave it empty`
	if text == "" {
		return nil
	}
	// The parser takes a time zone before the fields, and panics where nothing follows it.
	if _, _, fields := strings.Cut(text, " "); strings.Contains(text, "TZ=") && !fields {
		return fmt.Errorf("is not five fields of cron (a time zone alone): %s", mend)
	}
	schedule, err := cron.ParseStandard(text)
	if err != nil {
		return fmt.Errorf("is not five fields of cron (%w): %s", err, mend)
	}
	if schedule.Next(time.Now()).IsZero() {
		return fmt.Errorf("names no time that ever comes: %s", mend)
	}
	return nil
}
