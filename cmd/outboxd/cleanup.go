package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/outboxd/outboxd/checkpoint"
	"github.com/outboxd/outboxd/internal/config"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/wal"
)

func newCleanupCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cleanup",
		Short: "Delete old rows from the outbox table",
		Long: `Delete rows that were delivered longer ago than cleanup.retention, and dead ones older than cleanup.dead_retention,
by created_at. A row of which anything is parked is never deleted: an event that outboxd itself made dead stays until a person
skips or retries it, and dead_retention means rows that others set to DEAD. With on_sent: keep only
rows below the confirmed position are deleted.

Rows are looked at in batches of cleanup.batch_size, each a transaction of its own, with pauses that leave room for
other work. "run" does the same by itself at the times of cleanup.schedule. Two cleanups of one table, or of one shard of it, never run at once.`,
		Example: `  outboxd cleanup --dry-run --config outboxd.yaml
  outboxd cleanup --set cleanup.retention=720h --yes --config outboxd.yaml`,
		Args: noArguments,
	}
	dryRun := cmd.Flags().Bool("dry-run", false, "only count")
	yes := cmd.Flags().Bool("yes", false, "do not ask")
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.withDatabase(cmd, func(ctx context.Context, conn *pgx.Conn, cfg *config.Config) error {
			if !*dryRun && !*yes {
				if err := a.confirm("this deletes old rows of "+cfg.Database.Table, cfg.Database.Table); err != nil {
					return err
				}
			}
			showing := a.newProgress("cleaning up", 0, output.value)
			s, err := cleanUp(ctx, conn, cfg, *dryRun, func(s cleanupStats) error {
				showing.set(s.Deleted)
				return nil
			})
			showing.end()
			if err != nil && s.Deleted > 0 && !*dryRun {
				err = fmt.Errorf("after %s were deleted: %w", count(s.Deleted, "row", "rows"), err)
			}
			if err != nil {
				return err
			}
			return a.printCleanup(output.value, s)
		})
	}
	return cmd
}

// cleanupStats is what a cleanup did; its JSON form is what the command prints.
type cleanupStats struct {
	Deleted  int             `json:"deleted"` // or would be, in a dry run
	Batches  int             `json:"batches"`
	Duration config.Duration `json:"duration"`
	DryRun   bool            `json:"dry_run"`
	Note     string          `json:"note,omitempty"` // why nothing can be deleted
}

func (a *app) printCleanup(output string, s cleanupStats) error {
	if output == "json" {
		return a.printJSON(s)
	}
	verb := "deleted"
	if s.DryRun {
		verb = "would delete"
	}
	if err := a.print("%s %s, looked at %s, in %s\n", verb, count(s.Deleted, "row", "rows"), count(s.Batches, "batch", "batches"), s.Duration); err != nil || s.Note == "" {
		return err
	}
	return a.print("%s\n", s.Note)
}

const (
	cleanupLongestPause = time.Second
	cleanupLockTimeout  = "5s" // a row that somebody holds for longer stays for the next time
	lockedAttempts      = 5    // at what meets locked rows
	lockedPause         = time.Second
)

// errCleanupRuns says that another cleanup of the same table is under way.
var errCleanupRuns = errors.New("another cleanup of this table is under way: wait until it has ended")

// cleanUp deletes old rows in batches, or counts them. between is called after each batch; its error ends the cleanup. An error comes with
// what was done before it.
func cleanUp(
	ctx context.Context, conn *pgx.Conn, cfg *config.Config, dryRun bool, between func(cleanupStats) error,
) (s cleanupStats, err error) {
	began := time.Now()
	s.DryRun = dryRun
	defer func() { s.Duration = config.Duration(time.Since(began).Round(time.Millisecond)) }()
	again := func(ctx context.Context) (*pgx.Conn, error) { return connect(ctx, cfg, nil) }
	if err := wal.CheckPooler(ctx, conn, again); err != nil { // its sessions hold no lock
		return s, err
	}
	if err := lockCleanup(ctx, conn, cfg); err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, unlockCleanup(ctx, conn, cfg)) }()
	t, err := outbox.Describe(ctx, conn, outboxConfig(cfg))
	if err != nil {
		return s, err
	}
	r, note, err := retention(ctx, conn, cfg)
	if err != nil {
		return s, err
	}
	s.Note, r.DryRun = note, dryRun
	for after, end := "", false; !end; {
		batch := time.Now()
		var deleted int
		if deleted, after, end, err = cleanBatch(ctx, t, conn, r, after, cfg.Cleanup.BatchSize); err != nil {
			return s, err
		}
		s.Deleted += deleted
		s.Batches++
		if err := between(s); err != nil {
			return s, err
		}
		if end {
			break
		}
		if err := pause(ctx, min(time.Since(batch), cleanupLongestPause)); err != nil {
			return s, err
		}
	}
	return s, nil
}

// cleanBatch cleans one batch, again when it met locks that others hold.
func cleanBatch(
	ctx context.Context, t *outbox.Table, conn *pgx.Conn, r outbox.Retention, after string, look int,
) (deleted int, last string, end bool, err error) {
	err = again(ctx, func() (err error) {
		deleted, last, end, err = t.Cleanup(ctx, conn, r, after, look)
		return err
	})
	return deleted, last, end, err
}

// again does up to lockedAttempts times what meets locks that others hold.
func again(ctx context.Context, do func() error) error {
	for n := 1; ; n++ {
		err := do()
		if err == nil || !outbox.Retryable(err) || n == lockedAttempts {
			return err
		}
		if stopped := pause(ctx, lockedPause); stopped != nil {
			return errors.Join(stopped, err)
		}
	}
}

// retention says which rows are old enough, and why none are if that is so.
func retention(ctx context.Context, conn *pgx.Conn, cfg *config.Config) (r outbox.Retention, note string, err error) {
	c := &cfg.Cleanup
	r = outbox.Retention{Sent: c.Retention.Std(), Dead: c.DeadRetention.Std(), Schema: cfg.Database.Schema}
	if cfg.OnSent != outbox.Keep {
		return r, "", nil
	}
	record, _, err := checkpoint.Load(ctx, conn, cfg.Database.Schema, cfg.Database.Slot)
	if err != nil {
		return r, "", err
	}
	if record.SettledSnapshot == "" {
		return r, "with on_sent: keep only rows below the confirmed position are deleted, and which those are is known once outboxd run has streamed for a while", nil
	}
	settled, err := outbox.ParseSnapshot(record.SettledSnapshot)
	r.Settled = &settled
	return r, "", err
}

// cleanupKey is the key of the lock of cleanups, as SQL; $1 is the table.
const cleanupKey = `hashtextextended('outboxd cleanup ' || $1::text, 0)`

// lockCleanup makes sure that no other cleanup of the table runs.
func lockCleanup(ctx context.Context, conn *pgx.Conn, cfg *config.Config) error {
	var taken bool
	err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock(`+cleanupKey+`), set_config('lock_timeout', $2, false)`, lockedTable(cfg), cleanupLockTimeout).
		Scan(&taken, nil)
	if err != nil {
		return fmt.Errorf("take the lock of cleanups of %s: %w", cfg.Database.Table, err)
	}
	if !taken {
		return errCleanupRuns
	}
	return nil
}

func unlockCleanup(ctx context.Context, conn *pgx.Conn, cfg *config.Config) error {
	if conn.IsClosed() || ctx.Err() != nil {
		return nil // it goes with the connection
	}
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_unlock(`+cleanupKey+`)`, lockedTable(cfg)); err != nil {
		return fmt.Errorf("release the lock of cleanups of %s: %w", cfg.Database.Table, err)
	}
	return nil
}

// lockedTable names the table in one way, however it is written in the configuration; and the shard, which cleans up its own rows.
func lockedTable(cfg *config.Config) string {
	schema, table := tableName(cfg)
	return cfg.Shard().Name(pgx.Identifier{schema, table}.Sanitize())
}
