package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

// diskSize is of disks of a server's own: so much more than an hour's storm writes that Pulsar never comes near its limit by itself. What is not written
// takes no memory.
const diskSize = 1 << 40

// sizeOf is the size of a disk of a server's own, or 0.
func sizeOf(disk bool) int64 {
	if disk {
		return diskSize
	}
	return 0
}

// fillDisk leaves PostgreSQL room for a moment of writing. What meets the end is mostly a table, which fails a statement; half of the time the log is
// made to need a new segment, and PostgreSQL panics, restarts, and perhaps ends because it has no room to recover.
func fillDisk(r *rig, random *rand.Rand) (string, heal, error) {
	room, log := random.Int64N(256<<10), random.IntN(2) == 0
	if err := r.postgres.FillDisk(room); err != nil {
		return "PostgreSQL", r.emptyDisk, err
	}
	on := fmt.Sprintf("PostgreSQL, room for %d bytes", room)
	if log {
		on += ", " + r.fillLog()
	}
	return on, r.emptyDisk, nil
}

// fillLog ends segments of the log until there is no other, and says how PostgreSQL took it.
func (r *rig) fillLog() string {
	ended := 0
	err := r.query(func(ctx context.Context, conn *pgx.Conn) error {
		for ; ended < 1000; ended++ { // segments that it keeps to use them again have room still
			if _, err := conn.Exec(ctx, `SELECT pg_logical_emit_message(false, 'torture', ''), pg_switch_wal()`); err != nil {
				return err
			}
		}
		return errors.New("it goes on")
	})
	return fmt.Sprintf("the log %d segments on: %v", ended, err)
}

// emptyDisk takes the limit away, and starts PostgreSQL where it has ended of it.
func (r *rig) emptyDisk() error {
	if err := r.postgres.EmptyDisk(); err != nil {
		return err
	}
	if !r.postgres.Running() {
		r.postgres.Start()
	}
	_, err := r.exec(`SELECT 1`)
	return err
}

// fillRedisDisk leaves the append-only file room for a moment of writing. Redis ends of the first write to it that fails, as it cannot take back what it has
// done; half of the time it is told before to sync once a second, so that it goes on, keeps what it has acknowledged in memory, and refuses the rest. It is
// started anew for that: a file that a rewrite of Redis 7.0 has made is not open for appending (O_APPEND), so behind what a failed write left and
// Redis cut off again there would be a hole, and the file could not be read any more.
func fillRedisDisk(r *rig, random *rand.Rand) (string, heal, error) {
	room, refuses := random.Int64N(256<<10), random.IntN(2) == 0
	on := fmt.Sprintf("Redis, room for %d bytes", room)
	if refuses {
		on += ", where it refuses writes"
		r.broker.Stop()
		r.broker.Start()
		if err := r.appendFsync("everysec"); err != nil {
			return on, r.emptyRedisDisk, err
		}
	}
	return on, r.emptyRedisDisk, r.broker.FillDisk(room)
}

// emptyRedisDisk takes the limit away, and starts Redis where it has ended of it. What it still has to write is written before its answer.
func (r *rig) emptyRedisDisk() error {
	if err := r.broker.EmptyDisk(); err != nil {
		return err
	}
	if !r.broker.Running() {
		r.timeline.add("note", "Redis has ended")
		r.broker.Start()
	}
	return r.appendFsync("always")
}

func (r *rig) appendFsync(policy string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return r.broker.redis.ConfigSet(ctx, "appendfsync", policy).Err()
}

// bookieLimit is the part of its disk that Pulsar's bookie may use, and how often it looks.
var bookieLimit = []string{"diskUsageThreshold=0.01", "diskUsageWarnThreshold=0.01", "diskCheckInterval=1000"}

// fillPulsarDisk brings the disk of Pulsar's bookie beyond the bookie's limit, with room for what is written until it looks: it becomes read-only, and whatever
// is published is refused. A disk that is full to the last byte is not for it: docs/guarantees.md says what it forgets then.
func fillPulsarDisk(r *rig, _ *rand.Rand) (string, heal, error) {
	return "Pulsar, whose bookie becomes read-only", r.broker.EmptyDisk, r.broker.FillDisk(32 << 20)
}
