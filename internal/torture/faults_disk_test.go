package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/jackc/pgx/v5"
)

// diskSize holds what an hour's storm writes. What is not written takes no memory.
const diskSize = 16 << 30

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
