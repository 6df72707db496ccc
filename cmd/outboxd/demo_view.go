package main

import (
	"fmt"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/outboxd/outboxd/internal/workload"
)

// demoView shows how the demo goes on: a screen, or lines.
type demoView interface {
	interval() time.Duration
	show(now time.Time) error
	wait(missing int64) error // after the application was stopped
	end()
}

func (d *demo) newView(screen bool) demoView {
	if screen {
		return &demoScreen{d: d, began: time.Now()}
	}
	return &demoLines{d: d, began: time.Now()}
}

// demoLines are lines of progress.
type demoLines struct {
	d     *demo
	began time.Time
}

func (v *demoLines) interval() time.Duration { return demoLine }

func (v *demoLines) end() {}

func (v *demoLines) show(now time.Time) error {
	p := v.d.meter.look(now)
	line := fmt.Sprintf("%4.0fs  committed %d (%.0f/s)  delivered %d (%.0f/s)  waiting %d  rolled back %d  %s",
		now.Sub(v.began).Seconds(), p.total.Committed, p.committedRate, p.total.Delivered, p.arrivalRate, p.total.Waiting, p.total.RolledBack,
		p.latency)
	for _, f := range p.findings() {
		line += "  " + f
	}
	if p.trouble != "" {
		line += "  " + p.trouble
	}
	return v.write(line)
}

func (v *demoLines) wait(missing int64) error {
	return v.write(fmt.Sprintf("waiting for the last %d events", missing))
}

func (v *demoLines) write(line string) error {
	_, err := fmt.Fprintln(v.d.news, line)
	return err
}

// findings names what is wrong so far.
func (p *demoPicture) findings() []string {
	var all []string
	for _, f := range []struct {
		name  string
		count int
	}{{"DOUBLED", p.doubled}, {"OUT OF ORDER", p.outOfOrder}, {"WRONG", p.wrong}} {
		if f.count > 0 {
			all = append(all, fmt.Sprintf("%s %d", f.name, f.count))
		}
	}
	return all
}

// demoScreen redraws the terminal. It leaves nothing to restore, so it may be cut off at any time.
type demoScreen struct {
	d     *demo
	began time.Time
	drawn bool
}

const (
	ansiClear      = "\x1b[H\x1b[2J"
	ansiHome       = "\x1b[H"
	ansiEndOfLine  = "\x1b[K"
	ansiEndOfPage  = "\x1b[J"
	demoLeastWidth = 40
	demoTall       = 32
)

func (v *demoScreen) interval() time.Duration { return demoFrame }

func (v *demoScreen) end() { v.d.say("") }

func (v *demoScreen) wait(missing int64) error {
	_, err := fmt.Fprintf(v.d.app.out, "waiting for the last %d events\n", missing)
	return err
}

func (v *demoScreen) show(now time.Time) error {
	width, height := v.size()
	var b strings.Builder
	if b.WriteString(ansiHome); !v.drawn {
		b.WriteString(ansiClear)
		v.drawn = true
	}
	below := v.below(height)
	for _, line := range v.page(v.d.meter.look(now), now, height-rows(below, width)-1) {
		b.WriteString(clip(line, width) + ansiEndOfLine + "\n")
	}
	for _, line := range below { // not cut: they are to be pasted
		b.WriteString(line + ansiEndOfLine + "\n")
	}
	b.WriteString(ansiEndOfPage)
	_, err := fmt.Fprint(v.d.app.out, b.String())
	return err
}

// size is the terminal's, or a usual one where it does not tell.
func (v *demoScreen) size() (width, height int) {
	if f, ok := v.d.app.out.(*os.File); ok {
		if width, height, err := term.GetSize(int(f.Fd())); err == nil { //nolint:gosec // a descriptor is small
			return max(width, demoLeastWidth), height
		}
	}
	return 80, 24
}

// rows is how many lines of the terminal the text takes, broken at its edge.
func rows(lines []string, width int) (n int) {
	for _, line := range lines {
		n += max(1, (utf8.RuneCountInString(line)+width-1)/width)
	}
	return n
}

// page is the picture but for what is below. The last events take what height leaves.
func (v *demoScreen) page(p demoPicture, now time.Time, height int) []string {
	d := v.d
	lines := []string{
		fmt.Sprintf("%s   %s -> outboxd -> %s   %s   Ctrl-C ends it",
			d.app.paint(green, "outboxd demo"), d.database.title, d.broker.title, now.Sub(v.began).Round(time.Second)),
		"",
		fmt.Sprintf("%-14s %10s %10s %9s %12s", "TENANT", "COMMITTED", "DELIVERED", "WAITING", "ROLLED BACK"),
	}
	for _, t := range append(v.fewest(p.tenants, height/4), p.total) {
		lines = append(lines, fmt.Sprintf("%-14s %10d %10d %9d %12d", t.Tenant, t.Committed, t.Delivered, t.Waiting, t.RolledBack))
	}
	lines = append(lines, "",
		fmt.Sprintf("committed %.0f/s  delivered %.0f/s  end to end %s", p.committedRate, p.arrivalRate, p.latency),
		v.verdict(&p), "")
	if room := height - len(lines) - 1; room > 0 { // 1 for the heading
		lines = append(lines, v.events(p.recent, room)...)
	}
	return lines
}

// fewest returns the first tenants, and one line for the rest where there are more than n.
func (v *demoScreen) fewest(tenants []demoTenant, n int) []demoTenant {
	n = max(n, 2)
	if len(tenants) <= n {
		return tenants[:len(tenants):len(tenants)]
	}
	rest := demoTenant{Tenant: fmt.Sprintf("%d more", len(tenants)-n+1)}
	for _, t := range tenants[n-1:] {
		rest.Committed += t.Committed
		rest.Delivered += t.Delivered
		rest.Waiting += t.Waiting
		rest.RolledBack += t.RolledBack
	}
	return append(tenants[:n-1:n-1], rest)
}

// verdict says whether all is well so far.
func (v *demoScreen) verdict(p *demoPicture) string {
	line := v.d.app.paint(green, "doubled 0  out of order 0")
	if found := p.findings(); len(found) > 0 {
		line = v.d.app.paint(red, strings.Join(found, "  "))
	}
	if n := v.d.child.kills.Load(); n > 0 {
		line += "   " + v.d.app.paint(yellow, fmt.Sprintf("outboxd was killed %d times and started again", n))
	}
	if p.trouble != "" {
		line += "   " + v.d.app.paint(yellow, p.trouble)
	}
	return line
}

// events are the newest ones, newest last, with their heading.
func (v *demoScreen) events(recent []workload.Received, room int) []string {
	lines := []string{"LAST EVENTS"}
	for _, r := range recent[max(0, len(recent)-room):] {
		of := "-"
		if r.Key != "" {
			of = "order " + r.Key
		}
		lines = append(lines, fmt.Sprintf("%s  %-10s %-14s %-11s #%-6d %6.1f ms  %s %s", r.ReceivedAt.Format("15:04:05.000"), r.Tenant, r.Topic, of, r.Seq,
			float64(r.EndToEnd().Microseconds())/1000, r.Destination, r.Entry))
	}
	for len(lines) <= room {
		lines = append(lines, "")
	}
	return lines
}

// below says how to look for oneself, the shorter where the terminal is low.
func (v *demoScreen) below(height int) []string {
	d := v.d
	lines := append([]string{"LOOK FOR YOURSELF", d.database.look()}, d.broker.look...)
	lines = append(lines, "curl -s http://"+d.child.addr+"/status")
	if height >= demoTall {
		lines = append(lines, "tail -f "+d.logFile())
	}
	return append(lines, fmt.Sprintf("kill -9 %d   # outboxd is started again; nothing is lost or doubled", d.child.pid.Load()))
}

// clip cuts a line to the width of the terminal. ANSI sequences have no width and stay.
func clip(line string, width int) string {
	var b strings.Builder
	inside := false
	for _, r := range line {
		switch {
		case r == '\x1b':
			inside = true
		case inside:
			inside = r < '@' || r > '~' || r == '['
		case width > 0:
			width--
		default:
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}
