package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

func killPostgres(r *rig, _ *rand.Rand) (string, heal, error) {
	r.postgres.Kill()
	return "PostgreSQL", start(r.postgres), nil
}

func restartPostgres(r *rig, _ *rand.Rand) (string, heal, error) {
	r.postgres.Stop()
	return "PostgreSQL", start(r.postgres), nil
}

func killBroker(r *rig, _ *rand.Rand) (string, heal, error) {
	r.broker.Kill()
	return r.o.sink, start(r.broker), nil
}

func start(s machine) heal {
	return func() error {
		s.Start()
		return nil
	}
}

func freezeBroker(r *rig, _ *rand.Rand) (string, heal, error) {
	r.broker.Freeze()
	return r.o.sink, func() error {
		r.broker.Thaw()
		return nil
	}, nil
}

// fillRedis leaves Redis room for a few batches.
func fillRedis(r *rig, random *rand.Rand) (string, heal, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	info, err := r.broker.redis.Info(ctx, "memory").Result()
	if err != nil {
		return "Redis", nil, err
	}
	_, text, _ := strings.Cut(info, "used_memory:")
	text, _, _ = strings.Cut(text, "\r\n")
	used, err := strconv.Atoi(text)
	if err != nil {
		return "Redis", nil, fmt.Errorf("read used_memory %q: %w", text, err)
	}
	room := random.IntN(256 << 10)
	empty := func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		return r.broker.redis.ConfigSet(ctx, "maxmemory", "0").Err()
	}
	return fmt.Sprintf("Redis, room for %d bytes", room), empty, r.broker.redis.ConfigSet(ctx, "maxmemory", strconv.Itoa(used+room)).Err()
}

// stepClock steps PostgreSQL's clock while it runs: created_at, its timers, and what outboxd has it write. The storm never drops the slot before all that
// was written by two clocks has arrived: adoption follows created_at.
func stepClock(r *rig, random *rand.Rand) (string, heal, error) {
	by := time.Hour
	if random.IntN(2) == 0 {
		by = -by
	}
	return fmt.Sprintf("PostgreSQL, by %v", by), func() error { return r.postgres.StepClock(0) }, r.postgres.StepClock(by)
}

// endSessions ends connections of both instances at once.
func endSessions(r *rig, random *rand.Rand) (string, heal, error) {
	which := []struct{ name, types string }{
		{"all sessions", "%"}, {"the walsender", "walsender"}, {"all but the walsender", "client backend"},
	}[random.IntN(3)]
	const end = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'outboxd-_' AND backend_type LIKE $1`
	rows, err := r.exec(end, which.types)
	return fmt.Sprintf("%s (%d)", which.name, rows), nil, err
}

// freezeBackend stops a process of the server that works for the active instance.
func freezeBackend(kind string) func(*rig, *rand.Rand) (string, heal, error) {
	return func(r *rig, random *rand.Rand) (string, heal, error) {
		var pids []int
		err := r.query(func(ctx context.Context, conn *pgx.Conn) error {
			const sql = `SELECT pid FROM pg_stat_activity WHERE backend_type = $1 AND application_name IN
				(SELECT a.application_name FROM pg_replication_slots s JOIN pg_stat_activity a ON a.pid = s.active_pid WHERE slot_name = ANY ($2))`
			rows, err := conn.Query(ctx, sql, kind, r.names(slot))
			if err == nil {
				pids, err = pgx.CollectRows(rows, pgx.RowTo[int])
			}
			return err
		})
		if err != nil || len(pids) == 0 {
			return "none", nil, err
		}
		pid := pids[random.IntN(len(pids))]
		thaw := func() error { return ignoreGone(syscall.Kill(pid, syscall.SIGCONT)) }
		return fmt.Sprintf("one of %d", len(pids)), thaw, ignoreGone(syscall.Kill(pid, syscall.SIGSTOP))
	}
}

func ignoreGone(err error) error {
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// dropSlot ends whoever streams from a slot and drops it before he is back.
func dropSlot(r *rig, random *rand.Rand) (string, heal, error) {
	tries, names := 0, r.names(slot)
	name := names[random.IntN(len(names))]
	return "slot " + name, nil, r.query(func(ctx context.Context, conn *pgx.Conn) error {
		drop := fmt.Sprintf(`DO $$ DECLARE who int;
			BEGIN
				SELECT active_pid INTO who FROM pg_replication_slots WHERE slot_name = '%[1]s';
				IF NOT FOUND THEN RETURN; END IF;
				PERFORM pg_terminate_backend(who);
				FOR i IN 1..1000 LOOP
					EXIT WHEN NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '%[1]s' AND active);
					PERFORM pg_sleep(0.002);
				END LOOP;
				PERFORM pg_drop_replication_slot('%[1]s');
			END $$`, name)
		for {
			_, err := conn.Exec(ctx, drop)
			if tries++; err == nil || tries == 20 {
				return err
			}
		}
	})
}

// changeTable adds a column, which outboxd does not know, under load, and drops it.
func changeTable(r *rig, random *rand.Rand) (string, heal, error) {
	column := fmt.Sprintf("extra_%d", random.IntN(1000))
	alter := func(what string) error {
		return r.query(func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, `SET lock_timeout = '10s'; ALTER TABLE public.outbox `+what)
			return err
		})
	}
	return "column " + column, func() error { return alter("DROP COLUMN IF EXISTS " + column) },
		alter("ADD COLUMN " + column + " text DEFAULT 'torture'")
}
