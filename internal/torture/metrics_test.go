//go:build soak || resources

package torture

import (
	"bufio"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
)

// page reads the metrics that have no labels.
func (r *rig) page(addr string) map[string]float64 {
	r.t.Helper()
	answer, err := http.Get("http://" + addr + "/metrics")
	r.must(err)
	defer answer.Body.Close()
	values := map[string]float64{}
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		name, text, _ := strings.Cut(lines.Text(), " ")
		if value, err := strconv.ParseFloat(text, 64); err == nil {
			values[name] = value
		}
	}
	if values["go_goroutines"] == 0 {
		r.t.Fatalf("no metrics at %s; see %s", addr, filepath.Join(r.dir, "outboxd-1.log"))
	}
	return values
}
