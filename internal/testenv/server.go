package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// server is what the three kinds have in common: a process in a folder that can be killed and started again.
type server struct {
	name    string
	owner   testing.TB // nil for a server that no test owns
	folder  *folder    // nil for a server that was given by URL
	disk    int64      // size of a disk of its own; 0 for none
	process *process   // nil while it does not run
	limit   time.Duration
	command func() command
	ready   func(ctx context.Context) error // one attempt to use the server
	stuck   func(log []byte) bool           // whether only another start helps, by the log since the last one; nil for never
	patient time.Duration                   // after which a start counts as stuck, too; 0 for never
	logged  int64                           // size of the log before the last start
	stop    syscall.Signal                  // asks for a clean end
	discard syscall.Signal                  // ends it fast when its data is thrown away
}

// Kill ends the server with SIGKILL, all its processes at once, and waits until they are gone. The data stays.
func (s *server) Kill() { s.report("kill", s.kill()) }

// Stop asks the server for a clean end and waits for it, 60 seconds at most; then it is killed, which fails the test. The data stays.
func (s *server) Stop() { s.report("stop", s.end(s.stop, 60*time.Second)) }

// Start starts a server that was killed or stopped, on the same data and ports, and waits until it is ready.
func (s *server) Start() {
	ctx, cancel := context.WithTimeout(context.Background(), s.limit)
	defer cancel()
	err := s.start(ctx)
	if err != nil && s.owner != nil {
		s.owner.Helper()
		s.owner.Fatalf("start %s: %v", s.name, err)
	}
	s.report("start", err)
}

// Interrupt ends a server that no test owns, cleanly, until resume starts it again on the same data and ports and it is ready.
func (s *server) Interrupt() (resume func(ctx context.Context) error, err error) {
	if err := s.end(s.stop, 60*time.Second); err != nil {
		return nil, fmt.Errorf("interrupt %s: %w", s.name, err)
	}
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, s.limit)
		defer cancel()
		if err := s.start(ctx); err != nil {
			return fmt.Errorf("resume %s: %w", s.name, err)
		}
		return nil
	}, nil
}

// Freeze keeps the server's process from running, as SIGSTOP does, until Thaw. Its connections stay open, and nobody answers on them.
func (s *server) Freeze() { s.report("freeze", s.pass(syscall.SIGSTOP)) }

// Thaw lets a frozen server go on where it was.
func (s *server) Thaw() { s.report("thaw", s.pass(syscall.SIGCONT)) }

// pass sends the process a signal that does not end it.
func (s *server) pass(signal syscall.Signal) error {
	if !s.Running() {
		return errors.New("it does not run")
	}
	return s.process.signal(signal)
}

// Running reports whether the server's process lives.
func (s *server) Running() bool { return s.process != nil && !s.process.ended() }

// Close ends the server and removes its data; once is enough, and more does no harm. A server that was given by URL is left alone.
func (s *server) Close(context.Context) error {
	if s.folder == nil {
		return nil
	}
	ended := s.end(s.discard, 10*time.Second)
	if err := s.folder.close(); err != nil {
		return fmt.Errorf("close %s: %w", s.name, errors.Join(ended, err))
	}
	return nil
}

// report fails the test that owns the server; without one the caller has broken the rule that such a server is only closed.
func (s *server) report(verb string, err error) {
	switch {
	case err == nil:
	case s.owner == nil:
		panic(fmt.Sprintf("testenv: %s %s: %v", verb, s.name, err))
	default:
		s.owner.Helper()
		s.owner.Errorf("%s %s: %v", verb, s.name, err)
	}
}

// revive starts a server of this process again that has ended by itself, as Pulsar was once seen to while idle, and tells how it had ended.
func (s *server) revive(ctx context.Context) (ended string, err error) {
	if s.folder == nil || s.Running() {
		return "", nil
	}
	ended = "it was killed"
	if s.process != nil {
		ended = s.process.outcome()
	}
	ctx, cancel := context.WithTimeout(ctx, s.limit)
	defer cancel()
	return ended, s.start(ctx)
}

func (s *server) kill() error {
	if s.folder == nil {
		return errors.New("it was given by URL and is not ours to end")
	}
	if s.process == nil {
		return nil
	}
	if err := s.process.kill(); err != nil {
		return err
	}
	p := s.process
	s.process = nil
	return s.folder.ended(p)
}

// end asks with a signal, and kills what is left after the limit.
func (s *server) end(signal syscall.Signal, limit time.Duration) error {
	if s.process == nil {
		return s.kill()
	}
	if err := s.process.signal(signal); err != nil {
		return errors.Join(fmt.Errorf("send %v: %w", signal, err), s.kill())
	}
	if !s.process.wait(limit) {
		return errors.Join(fmt.Errorf("still running %v after %v", limit, signal), s.kill())
	}
	p := s.process
	s.process = nil
	return s.folder.ended(p)
}

// start launches the process and waits until the server answers, the process ends or ctx does. A server that is stuck is started once more.
func (s *server) start(ctx context.Context) error {
	if s.Running() {
		return errors.New("it runs already")
	}
	err := s.launch(ctx)
	for tries := 1; errors.Is(err, errStuck) && tries < launches; tries++ {
		err = s.launch(ctx)
	}
	return err
}

// launches is how often a server is launched that gets stuck. On a busy machine a killed Pulsar is stuck in nearly half of its launches, for about
// three seconds each.
const launches = 10

func (s *server) launch(ctx context.Context) error {
	if s.process != nil {
		if err := s.folder.ended(s.process); err != nil {
			return err
		}
	}
	s.logged = 0
	if info, err := os.Stat(s.folder.file(logName)); err == nil {
		s.logged = info.Size()
	}
	var err error
	if s.process, err = s.folder.run(s.command()); err != nil {
		return err
	}
	if err := s.waitReady(ctx); err != nil {
		return errors.Join(fmt.Errorf("%w; end of its log:\n%s", err, s.logTail()), s.kill())
	}
	return nil
}

// errStuck is the cause of a start that would never end, and that another one mends.
var errStuck = errors.New("it does not get ready by itself")

func (s *server) waitReady(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	for {
		// Another server may answer on the port of one that ended.
		if s.process.ended() {
			return s.died()
		}
		err := s.ready(ctx)
		if err == nil && !s.process.ended() {
			return nil
		}
		if s.isStuck() {
			return errStuck
		}
		if s.patient > 0 && time.Since(began) > s.patient {
			s.patient *= 2 // it may only be slow, on a busy machine
			return errStuck
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready in time: %w", errors.Join(context.Cause(ctx), err))
		case <-tick.C:
		}
	}
}

// died tells how the process ended by itself.
func (s *server) died() error {
	if strings.Contains(strings.ToLower(s.logTail()), "address already in use") {
		return fmt.Errorf("%w (%s)", errPortTaken, s.process.outcome())
	}
	return fmt.Errorf("it ended by itself: %s", s.process.outcome())
}

func (s *server) isStuck() bool {
	if s.stuck == nil {
		return false
	}
	log, err := s.log()
	return err == nil && s.stuck(log)
}

const logName = "server.log"

// log returns what the server has logged since its last start.
func (s *server) log() ([]byte, error) {
	text, err := os.ReadFile(s.folder.file(logName))
	return text[min(s.logged, int64(len(text))):], err
}

// logTail returns the last lines of it.
func (s *server) logTail() string {
	const size = 4 << 10
	text, err := s.log()
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-size):])
}

// attempts makes servers until one finds its ports free, three at most.
func attempts[S instance](ctx context.Context, attempt func(context.Context) (S, error)) (S, error) {
	for tries := 1; ; tries++ {
		s, err := attempt(ctx)
		if tries < 3 && errors.Is(err, errPortTaken) {
			continue
		}
		return s, err
	}
}

// abandon closes a server that did not start and returns why it did not.
func abandon(s instance, cause error) error {
	return errors.Join(cause, s.Close(context.Background()))
}
