package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"

	"github.com/outboxd/outboxd/internal/bench"
)

// axis is what grows from one result to the next.
type axis struct {
	name  string // and the folder of its results
	title string
	of    func(*bench.Load) int
	speed func(*bench.Run) float64 // as a multiple of that of the first result
	unit  string                   // of speed
}

var axes = []axis{
	{"destinations", "destinations", func(l *bench.Load) int { return l.Destinations }, speed, "events/s"},
	{"tenants", "tenants", func(l *bench.Load) int { return l.Tenants }, speed, "events/s"},
	{"keys", "keys", func(l *bench.Load) int { return l.Keys }, speed, "events/s"},
	{"transaction", "rows in a transaction", func(l *bench.Load) int { return l.Transaction }, speed, "events/s"},
	{"payload", "bytes of a payload", func(l *bench.Load) int { return l.PayloadBytes }, func(r *bench.Run) float64 { return r.MegabytesPerSecond }, "MB/s"},
	{"waiting", "other keys that wait there", func(l *bench.Load) int { return l.Waiting }, speed, "events/s"},
	{"shards", "shards by key", func(l *bench.Load) int { return l.Shards }, speed, "events/s"},
	{"table", "old rows in the table, on_sent mark", func(l *bench.Load) int { return l.Old }, settled, "events/s settled"},
}

// growth is the section that says how the cost grows; empty where nothing of it was measured. It draws a chart for each axis into the folder charts.
func growth(results, charts string) (string, error) {
	var b strings.Builder
	for _, a := range axes {
		all, err := read(filepath.Join(results, "growth", a.name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		slices.SortFunc(all, func(x, y bench.Result) int { return cmp.Compare(a.of(&x.Load), a.of(&y.Load)) })
		if b.Len() == 0 {
			b.WriteString("\n### How the cost grows, to Redis, `on_sent: keep`\n")
		}
		if err := a.write(&b, all, charts); err != nil {
			return "", err
		}
	}
	return b.String(), nil
}

// write appends the table of the axis and draws its chart.
func (a *axis) write(b *strings.Builder, all []bench.Result, charts string) error {
	b.WriteString("\n")
	header(b, a.title, "rows", a.unit+", of the first line's", "CPU per event: outboxd", "walsender", "broker", "events per publish", "peak memory, files", "s to the first entry")
	var points plotter.XYs
	first := all[0].Run("outboxd")
	for i := range all {
		l, run := &all[i].Load, all[i].Run("outboxd")
		if run == nil || first == nil {
			return fmt.Errorf("a result of %s has no run of outboxd", a.name)
		}
		row(b, fmt.Sprint(a.of(l)), fmt.Sprint(l.Rows), ratio(a.speed(run), a.speed(first)), micros(run.CPU.Tool), micros(run.CPU.Walsender), micros(run.CPU.Broker),
			fmt.Sprintf("%.0f", run.PerPublish), run.MemoryText(), fmt.Sprintf("%.1f", run.Start))
		points = append(points, plotter.XY{X: float64(max(1, a.of(l))), // the axis is logarithmic and has no place for 0
			Y: a.speed(run) / a.speed(first)})
	}
	file := "growth-" + a.name + ".svg"
	if err := a.draw(points, filepath.Join(charts, file)); err != nil {
		return fmt.Errorf("draw %s: %w", file, err)
	}
	fmt.Fprintf(b, "\n![Speed by %s](charts/%s)\n", a.title, file)
	return nil
}

// draw draws the line, with a logarithmic axis.
func (a *axis) draw(points plotter.XYs, file string) error {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = "Speed by "+a.title, a.title, a.unit+", first = 1"
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	if err := plotutil.AddLinePoints(p, "outboxd", points); err != nil {
		return err
	}
	p.Y.Min = 0
	p.Y.Max *= 1.2 // room for the legend
	return p.Save(16*vg.Centimeter, 7*vg.Centimeter, file)
}
