package main

import (
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progressEvery is how often a step tells where it is when nobody sees a bar.
const progressEvery = 10 * time.Second

// progress shows on standard error how far a long step is: a bar on a terminal, else a line from time to time.
type progress struct {
	out  io.Writer
	what string
	bar  *progressbar.ProgressBar // nil without a terminal
	said time.Time
}

// newProgress begins a step over total events; 0 when that is not known.
func (a *app) newProgress(what string, total int, output string) *progress {
	p := &progress{out: a.err, what: what, said: time.Now()}
	if terminal(a.err) && output == "text" {
		most := int64(total)
		if total == 0 {
			most = -1 // a spinner
		}
		p.bar = progressbar.NewOptions64(most, progressbar.OptionSetDescription(what), progressbar.OptionSetWriter(a.err),
			progressbar.OptionShowCount(), progressbar.OptionSetWidth(30), progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionClearOnFinish())
	}
	return p
}

// set tells how many are done.
func (p *progress) set(done int) {
	switch {
	case p.bar != nil:
		if err := p.bar.Set(done); err != nil {
			p.bar = nil // the terminal is gone; the step goes on
		}
	case time.Since(p.said) > progressEvery:
		p.said = time.Now()
		_, _ = fmt.Fprintf(p.out, "%s: %s\n", p.what, number(done)) // nobody reads it where this fails
	}
}

// end removes the bar.
func (p *progress) end() {
	if p.bar != nil {
		_ = p.bar.Clear() // a terminal that is gone shows nothing anyway
	}
}
