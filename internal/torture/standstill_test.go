package torture

import (
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestStandstillLeavesItsTraces shows what a storm keeps whose end does not come: what is due in the timeline, and every goroutine in the logs.
func TestStandstillLeavesItsTraces(t *testing.T) {
	r := newRig(t, given)
	r.standsStill()
	for _, i := range r.instances {
		r.must(i.stop())
		log, err := os.ReadFile(i.log.Name())
		if !strings.Contains(string(log), "\ngoroutine 1 ") || i.started() != 1 {
			t.Errorf("%s was started %d times, and its log has no goroutines (%v):\n%s", i.name, i.started(), err, log)
		}
	}
	var result report
	r.timeline.fill(&result)
	var told strings.Builder
	for _, m := range result.Timeline {
		told.WriteString(m.Text + "\n")
	}
	for _, want := range []string{
		"0 of 0 events are not in " + r.o.sink + ", read from the beginning\n", "left in the database: 0 rows not SENT",
		"slots: torture read by ", ", confirmed to ", "; the log ends at 0/",
	} {
		if !strings.Contains(told.String(), want) {
			t.Errorf("%q is not told:\n%s", want, &told)
		}
	}
}

// TestReaderTellsWhatItMeetsOnceInAWhile shows that an outage does not flood the timeline.
func TestReaderTellsWhatItMeetsOnceInAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{o: options{sink: "redis"}, timeline: newTimeline(t.Output())}
		trouble := r.readerTrouble()
		for range 25 { // tries, half a second apart
			trouble(errors.New("the connection was refused"))
			time.Sleep(500 * time.Millisecond)
		}
		var result report
		r.timeline.fill(&result)
		if n := len(result.Timeline); n != 3 || result.Timeline[0].Text != "the reader of redis: the connection was refused" {
			t.Errorf("%d notes: %v", n, result.Timeline)
		}
	})
}
