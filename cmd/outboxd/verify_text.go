package main

import (
	"context"
	"fmt"
	"strings"
)

// say tells on standard error what happens.
func (v *verifier) say(format string, args ...any) {
	_, _ = fmt.Fprintf(v.app.err, format+"\n", args...) // nobody reads it where this fails
}

// announce says what will be done.
func (v *verifier) announce() {
	v.say("verify %s: into %s, to %s of %s; seed %d", v.id, v.cfg.Database.Table, count(len(v.allPlaces()), "destination", "destinations"),
		v.sinks(), v.o.seed)
	for _, note := range v.notes {
		v.say("%s", note)
	}
}

func (v *verifier) sinks() string {
	var names []string
	for _, b := range v.brokers {
		names = append(names, b.sink)
	}
	return strings.Join(names, " and ")
}

// cleanUp removes what was made, unless it is evidence or to be kept.
func (v *verifier) cleanUp(ctx context.Context, s *verifySummary) {
	if !s.OK || v.o.keep {
		s.Left = v.leftovers()
		return
	}
	var err error
	if s.Removed.Rows, err = v.load.Remove(ctx); err != nil {
		s.Left = append(s.Left, v.leftRows()+": "+err.Error())
	}
	var left []string
	s.Removed.Destinations, left = v.removeDestinations(ctx)
	s.Left = append(s.Left, left...)
}

// leftovers is all that was made.
func (v *verifier) leftovers() []string {
	left := []string{v.leftRows()}
	for _, p := range v.allPlaces() {
		left = append(left, p.String())
	}
	return left
}

// leftRows names the rows: their ids begin alike.
func (v *verifier) leftRows() string {
	return fmt.Sprintf("%s: rows whose id begins with %s-%s-8000", v.cfg.Database.Table, v.id[:8], v.id[8:])
}

// leave says, after a failure, what was not removed.
func (v *verifier) leave() { v.say("not removed: %s", strings.Join(v.leftovers(), ", ")) }

func (v *verifier) print(s *verifySummary) error {
	if v.o.output.value == "json" {
		return v.app.printJSON(s)
	}
	l := &s.Load
	var b strings.Builder
	fmt.Fprintf(&b, "%d events in %d transactions of up to %d: %d with savepoints, %d rolled back, %d prepared and committed, %d prepared and rolled back\n",
		l.Events, l.Transactions, l.LargestEvents, l.WithSavepoints, l.RolledBack, l.CommittedPrepared, l.RolledBackPrepared)
	if l.Interruptions > 0 {
		fmt.Fprintf(&b, "the database was lost %d times meanwhile\n", l.Interruptions)
	}
	if s.Foreign > 0 {
		fmt.Fprintf(&b, "%s of others were passed over\n", count(s.Foreign, "entry", "entries"))
	}
	fmt.Fprintf(&b, "read back after %.0f s: %s\n", s.Seconds, s.Report.String())
	for _, note := range s.Notes {
		fmt.Fprintf(&b, "note: %s\n", note)
	}
	if s.Removed != (verifyRemoved{}) {
		fmt.Fprintf(&b, "removed: %s, %s\n", count(int(s.Removed.Rows), "row", "rows"), count(s.Removed.Destinations, "destination", "destinations"))
	}
	for _, left := range s.Left {
		fmt.Fprintf(&b, "left: %s\n", left)
	}
	if s.OK {
		b.WriteString(v.app.paint(green, "all is well") + "\n")
	} else {
		b.WriteString(v.app.paint(red, "NOT WELL") + "\n")
	}
	return v.app.print("%s", b.String())
}
