package main

import (
	"fmt"
	"image/color"
	"os"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"

	"github.com/outboxd/outboxd/internal/bench"
)

// chart is a file of SVG.
type chart struct{ title, file string }

// palette is told apart by those who see no red or green, too (Okabe and Ito).
var palette = []color.Color{
	color.RGBA{R: 0x99, G: 0x99, B: 0x99, A: 0xff},
	color.RGBA{R: 0x00, G: 0x72, B: 0xb2, A: 0xff},
	color.RGBA{R: 0xe6, G: 0x9f, B: 0x00, A: 0xff},
	color.RGBA{R: 0xd5, G: 0x5e, B: 0x00, A: 0xff},
	color.RGBA{R: 0x00, G: 0x9e, B: 0x73, A: 0xff},
}

// draw makes the charts of each sink that has results.
func draw(all []bench.Result, folder string) (charts []chart, err error) {
	if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // documents are for everybody
		return nil, err
	}
	for _, sink := range []string{"redis", "pulsar"} {
		results := kept(all, sink)
		if len(results) == 0 {
			continue
		}
		for _, c := range []struct {
			title, file, axis string
			value             func(r *bench.Result, run *bench.Run) float64
		}{
			{"Speed to " + sink + ", pg_recvlogical = 1", sink + "-speed.svg", "of pg_recvlogical", func(r *bench.Result, run *bench.Run) float64 {
				if limit := speed(r.Run(bench.Limit)); limit > 0 {
					return speed(run) / limit
				}
				return 0
			}},
			{"Processor time of the tool for an event to " + sink, sink + "-cpu.svg", "microseconds", func(_ *bench.Result, run *bench.Run) float64 { return cpu(run) }},
		} {
			if err := bars(c.title, c.axis, filepath.Join(folder, c.file), results, c.value); err != nil {
				return nil, fmt.Errorf("draw %s: %w", c.file, err)
			}
			charts = append(charts, chart{c.title, c.file})
		}
	}
	return charts, nil
}

// bars draws a group of bars for each size of transactions, one bar a tool.
func bars(title, axis, file string, results []*bench.Result, value func(*bench.Result, *bench.Run) float64) error {
	p := plot.New()
	p.Title.Text, p.Y.Label.Text, p.X.Label.Text = title, axis, "rows in a transaction"
	p.Legend.Top, p.Y.Min = true, 0
	names, sizes := tools(results), make([]string, len(results))
	for i, r := range results {
		sizes[i] = fmt.Sprint(r.Load.Transaction)
	}
	const width = 14 // points
	highest := 0.0
	for i, tool := range names {
		values := make(plotter.Values, len(results))
		for k, r := range results {
			if run := r.Run(tool); run != nil {
				values[k] = value(r, run)
				highest = max(highest, values[k])
			}
		}
		b, err := plotter.NewBarChart(values, vg.Points(width))
		if err != nil {
			return err
		}
		b.Color, b.LineStyle.Width = palette[i%len(palette)], 0
		b.Offset = vg.Points(width * (float64(i) - float64(len(names)-1)/2))
		p.Add(b)
		p.Legend.Add(tool, b)
	}
	p.Y.Max = 1.4 * highest // room for the legend
	p.NominalX(sizes...)
	return p.Save(16*vg.Centimeter, 9*vg.Centimeter, file)
}

// tools are the names of all tools, in the order in which they ran.
func tools(results []*bench.Result) (names []string) {
	seen := map[string]bool{}
	for _, r := range results {
		for i := range r.Runs {
			if name := r.Runs[i].Tool; !seen[name] {
				seen[name] = true
				names = append(names, name)
			}
		}
	}
	return names
}
