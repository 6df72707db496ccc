package torture

import (
	"flag"
	"fmt"
	"path"
	"strings"
	"time"
)

// options say what a run does. The flags of the test binary fill them; `make torture` passes FOR, SEED, SINK, FAULTS, SHARDS, TENANTS and RATE on.
type options struct {
	length  time.Duration // of the storm, without the preparations and the wait for what is still due
	seed    uint64
	sink    string // redis or pulsar
	faults  string // names, patterns as in path.Match or "all", separated by commas
	rate    float64
	shards  int    // of the table; 1: it is not split
	tenants int    // each has three destinations
	dir     string // where the report and the logs go; empty for a folder that is removed unless something was found

	// What the chosen faults need.
	disk, clock bool // of PostgreSQL's own
	brokerDisk  bool // of the broker's own
}

// shortRun is what runs beside the other tests.
const shortRun = 25 * time.Second

var given options

func init() {
	flag.DurationVar(&given.length, "torture.for", shortRun, "length of the storm")
	flag.Uint64Var(&given.seed, "torture.seed", 1, "what decides all that is random")
	flag.StringVar(&given.sink, "torture.sink", "redis", "redis or pulsar")
	flag.StringVar(&given.faults, "torture.faults", "all", "names or patterns of faults, separated by commas")
	flag.IntVar(&given.tenants, "torture.tenants", 8, "tenants, each with three destinations: few have large batches behind an outage")
	flag.IntVar(&given.shards, "torture.shards", 1, "shards of the table, by tenant; each instance is for all of them")
	flag.Float64Var(&given.rate, "torture.rate", 400, "events written a second")
	flag.StringVar(&given.dir, "torture.dir", "", "folder for the report and the logs")
}

// chosen returns the faults that the options name.
func (o *options) chosen() ([]fault, error) {
	if o.sink != "redis" && o.sink != "pulsar" {
		return nil, fmt.Errorf("SINK=%s: choose redis or pulsar", o.sink)
	}
	var all []fault
	for pattern := range strings.SplitSeq(o.faults, ",") {
		found := false
		for _, f := range faults {
			named, err := path.Match(pattern, f.name)
			if err != nil {
				return nil, fmt.Errorf("FAULTS=%s: %w", pattern, err)
			}
			if (f.sink == "" || f.sink == o.sink) && (named || pattern == "all" && !f.excepted) {
				all, found = append(all, f), true
			}
		}
		if !found {
			return nil, fmt.Errorf("FAULTS=%s: no fault of sink %s has this name; there are %s", pattern, o.sink, strings.Join(names(o.sink), ", "))
		}
	}
	return all, nil
}

// names lists the faults of a sink.
func names(sink string) []string {
	var all []string
	for _, f := range faults {
		if f.sink == "" || f.sink == sink {
			all = append(all, f.name)
		}
	}
	return all
}
