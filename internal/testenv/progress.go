package testenv

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progress shows how far a long step is: a bar on a terminal, else a line when it begins, every ten seconds and when it ends.
type progress struct {
	out   io.Writer
	bar   *progressbar.ProgressBar // nil without a terminal
	what  string
	total int64 // bytes
	done  int64
	began time.Time
	said  time.Time
}

// newProgress begins a step of the given bytes. Without an output it tells standard error.
func newProgress(out io.Writer, what string, total int64) *progress {
	if out == nil {
		out = os.Stderr
	}
	p := &progress{out: out, what: what, total: total, began: time.Now(), said: time.Now()}
	if file, ok := out.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		p.bar = progressbar.NewOptions64(total, progressbar.OptionSetDescription(what), progressbar.OptionSetWriter(out),
			progressbar.OptionShowBytes(true), progressbar.OptionSetWidth(30), progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionClearOnFinish())
	} else {
		p.say("%s (%d MB)", what, total>>20)
	}
	return p
}

// Write counts bytes, for io.TeeReader.
func (p *progress) Write(b []byte) (int, error) {
	p.set(p.done + int64(len(b)))
	return len(b), nil
}

// set tells how many bytes are done.
func (p *progress) set(done int64) {
	p.done = min(done, p.total)
	switch {
	case p.bar != nil:
		if err := p.bar.Set64(p.done); err != nil {
			p.bar = nil // the terminal is gone; the step goes on
		}
	case time.Since(p.said) > 10*time.Second:
		p.said = time.Now()
		p.say("%s: %d %%", p.what, 100*p.done/max(1, p.total))
	}
}

// end tells that the step is over.
func (p *progress) end(err error) {
	if p.bar != nil {
		_ = p.bar.Clear() // a terminal that is gone shows nothing anyway
	}
	if err == nil {
		p.say("%s: done in %v", p.what, time.Since(p.began).Round(100*time.Millisecond))
	}
}

func (p *progress) say(format string, args ...any) {
	_, _ = fmt.Fprintf(p.out, format+"\n", args...) // nobody listens where this fails
}
