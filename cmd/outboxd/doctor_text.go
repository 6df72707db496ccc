package main

import (
	"fmt"
	"strings"

	"github.com/outboxd/outboxd/internal/doctor"
)

const cyan colour = "\x1b[36m"

var levelColours = map[doctor.Level]colour{doctor.OK: green, doctor.Info: cyan, doctor.Warning: yellow, doctor.Error: red}

// printFindings writes one line for each finding under its area, and why and mend below those that are not fine.
func (a *app) printFindings(r doctorReport) error {
	var b strings.Builder
	area, width := "", 0
	for _, f := range r.Findings {
		width = max(width, len(f.Check))
	}
	for _, f := range r.Findings {
		if f.Area != area {
			area = f.Area
			fmt.Fprintf(&b, "%s\n", area)
		}
		fmt.Fprintf(&b, "  %s %-*s  %s\n", a.paint(levelColours[f.Level], fmt.Sprintf("%-7s", f.Level)), width, f.Check, cell(f.Saw))
		for _, line := range []struct{ name, text string }{{"why", f.Why}, {"mend", f.Mend}} {
			if line.text != "" {
				fmt.Fprintf(&b, "  %*s  %-4s  %s\n", 7+1+width, "", line.name, cell(line.text))
			}
		}
	}
	for _, f := range r.Fixed {
		switch {
		case f.Error != "":
			fmt.Fprintf(&b, "%s %s: %s\n", a.paint(red, "not fixed"), f.Check, cell(f.Error))
		default:
			fmt.Fprintf(&b, "%s %s: %s\n", a.paint(green, "fixed"), f.Check, cell(f.Did))
		}
	}
	fmt.Fprintf(&b, "%s, %s\n", count(r.Errors, "error", "errors"), count(r.Warnings, "warning", "warnings"))
	return a.print("%s", b.String())
}
