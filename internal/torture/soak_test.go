//go:build soak

package torture

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/testenv"
)

// warmUp is how much of a soak is not judged: caches fill, and pools grow.
const warmUp = 4 // one part in so many

// flat says how much more of each resource the last third may hold than the first one behind the warm-up: what comes and goes, beside a tenth of it.
// What leaks even a little at each event passes that within an hour.
var flat = []struct {
	name  string
	slack float64
}{
	{"resident memory in MB", 16}, {"heap in use in MB", 12}, {"goroutines", 10}, {"file descriptors", 5}, {"connections to PostgreSQL", 2}, {"retained log in MB", 20},
}

// TestSoakIsFlat is `make soak`: a steady rate without faults, as long as -torture.for says, and nothing grows.
func TestSoakIsFlat(t *testing.T) {
	metrics := []string{testenv.FreeAddress(t), testenv.FreeAddress(t)}
	o := given
	r := newRig(t, o, func(number int) []string {
		return []string{"OUTBOXD_HTTP_ADDR=" + metrics[number], "OUTBOXD_MEMORY_BUDGET=32MiB"}
	})
	active := r.active()
	var samples [][]float64
	result := r.underLoad(func() {
		every := max(time.Second, o.length/200)
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for began := time.Now(); time.Since(began) < o.length; <-ticker.C {
			samples = append(samples, r.sample(active, metrics[active]))
		}
	})
	t.Log("\n" + result.String())
	r.must(result.write(r.dir))
	if !result.OK() || slices.Max([]int{r.instances[0].started(), r.instances[1].started()}) > 1 {
		t.Error("the soak found something, or an instance was started again")
	}
	judged := samples[len(samples)/warmUp:]
	third := len(judged) / 3
	if third == 0 {
		t.Fatalf("%d samples are too few: FOR=1m at least", len(samples))
	}
	for n, f := range flat {
		first, last := median(judged[:third], n), median(judged[len(judged)-third:], n)
		t.Logf("%-26s first third %8.1f, last third %8.1f, most %8.1f", f.name, first, last, most(samples, n))
		if last > 1.1*first+f.slack {
			t.Errorf("%s grew from %.1f to %.1f", f.name, first, last)
		}
	}
}

// sample looks at the active instance and at what it makes PostgreSQL hold, in flat's order.
func (r *rig) sample(number int, metrics string) []float64 {
	r.t.Helper()
	i := r.instances[number]
	i.mu.Lock()
	pid := i.process.Process.Pid
	i.mu.Unlock()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	r.must(err)
	var connections, retained float64
	r.must(r.query(func(ctx context.Context, conn *pgx.Conn) error {
		const sql = `SELECT (SELECT count(*) FROM pg_stat_activity WHERE application_name = $1),
			(SELECT (pg_current_wal_lsn() - confirmed_flush_lsn) / 1e6 FROM pg_replication_slots WHERE slot_name = $2)::float8`
		return conn.QueryRow(ctx, sql, i.name, slot).Scan(&connections, &retained)
	}))
	page := r.page(metrics)
	return []float64{page["process_resident_memory_bytes"] / 1e6, page["go_memstats_heap_inuse_bytes"] / 1e6, page["go_goroutines"], float64(len(files)), connections, retained}
}

func column(samples [][]float64, n int) (all []float64) {
	for _, s := range samples {
		all = append(all, s[n])
	}
	slices.Sort(all)
	return all
}

func median(samples [][]float64, n int) float64 { return column(samples, n)[len(samples)/2] }

func most(samples [][]float64, n int) float64 { return slices.Max(column(samples, n)) }
