package check

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
)

const dashboardFile = "docker/grafana/outboxd.json"

type panel struct {
	ID    int    `json:"id"`
	Type  string `json:"type"`
	Title string `json:"title"`
	Grid  struct {
		H, W, X, Y int
	} `json:"gridPos"`
	Targets []struct {
		Expr string `json:"expr"`
	} `json:"targets"`
}

type dashboard struct {
	UID           string  `json:"uid"`
	Title         string  `json:"title"`
	SchemaVersion int     `json:"schemaVersion"`
	Panels        []panel `json:"panels"`
	Annotations   struct {
		List []struct {
			Expr string `json:"expr"`
		} `json:"list"`
	} `json:"annotations"`
}

func TestDashboardIsWhole(t *testing.T) {
	var d dashboard
	if err := json.Unmarshal(read(t, dashboardFile), &d); err != nil {
		t.Fatal(err)
	}
	if d.UID == "" || d.Title == "" || d.SchemaVersion < 39 {
		t.Errorf("uid %q, title %q, schema version %d", d.UID, d.Title, d.SchemaVersion)
	}
	var rows []string
	ids, cells := map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if p.ID == 0 || ids[p.ID] {
			t.Errorf("panel %q has no id of its own: %d", p.Title, p.ID)
		}
		ids[p.ID] = true
		checkGrid(t, p, cells)
		if p.Type == "row" {
			rows = append(rows, p.Title)
			continue
		}
		if len(p.Targets) == 0 {
			t.Errorf("panel %q asks nothing", p.Title)
		}
		for _, q := range p.Targets {
			checkQuery(t, p.Title, q.Expr)
		}
	}
	for _, a := range d.Annotations.List {
		checkQuery(t, "annotation", a.Expr)
	}
	if want := "Health, Throughput, Latency, Lag and WAL, Table lane, Database, Memory and process"; strings.Join(rows, ", ") != want {
		t.Errorf("the rows are %s, want %s", strings.Join(rows, ", "), want)
	}
}

// checkGrid reports panels that lie over each other or outside of the 24 columns.
func checkGrid(t *testing.T, p panel, cells map[[2]int]string) {
	t.Helper()
	if p.Grid.W < 1 || p.Grid.H < 1 || p.Grid.X+p.Grid.W > 24 {
		t.Errorf("panel %q lies outside: %+v", p.Title, p.Grid)
	}
	for x := range p.Grid.W {
		for y := range p.Grid.H {
			cell := [2]int{p.Grid.X + x, p.Grid.Y + y}
			if other := cells[cell]; other != "" {
				t.Fatalf("panel %q lies over %q", p.Title, other)
			}
			cells[cell] = p.Title
		}
	}
}

// checkQuery parses a query after filling in Grafana's variables.
func checkQuery(t *testing.T, where, query string) {
	t.Helper()
	filled := strings.NewReplacer("$__rate_interval", "5m", "$job", "outboxd").Replace(query)
	if strings.Contains(filled, "$") {
		t.Errorf("%s: unknown variable in %s", where, query)
	}
	if _, err := parser.NewParser(parser.Options{}).ParseExpr(filled); err != nil {
		t.Errorf("%s: %s: %v", where, query, err)
	}
	if !strings.Contains(query, `job=~"$job"`) {
		t.Errorf("%s: not of the chosen job: %s", where, query)
	}
}
