package torture

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/outboxd/outboxd/internal/testenv"
)

const (
	restartPause = 200 * time.Millisecond // of the supervisor
	stopPatience = 40 * time.Second
)

// instance is outboxd as a process under a supervisor that starts it again whenever it ends.
type instance struct {
	name    string // also its application_name
	number  int
	program string
	environ []string
	flags   []string // of the command run
	log     *os.File
	tell    func(format string, args ...any) // of what nobody asked for

	mu       sync.Mutex
	process  *exec.Cmd // nil while none runs
	starts   int
	expected bool // whether the next end was asked for
	stopping bool

	ended chan struct{} // closed when the supervisor is done
}

// begin starts the supervisor.
func (i *instance) begin() {
	i.ended = make(chan struct{})
	go func() {
		defer close(i.ended)
		i.supervise()
	}()
}

// supervise keeps to its thread, because Linux ends a child when the thread that made it ends.
func (i *instance) supervise() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for i.start() {
		err := i.process.Wait()
		i.mu.Lock()
		expected := i.expected
		i.process, i.expected = nil, false
		i.mu.Unlock()
		if !expected {
			i.tell("%s ended by itself: %v", i.name, err)
		}
		time.Sleep(restartPause)
	}
}

// start starts a process unless the instance is to stop.
func (i *instance) start() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.stopping {
		return false
	}
	cmd := exec.Command(i.program, append([]string{"run"}, i.flags...)...)
	cmd.Env, cmd.Stdout, cmd.Stderr = i.environ, i.log, i.log
	cmd.SysProcAttr = testenv.ChildAttributes()
	if err := cmd.Start(); err != nil {
		i.tell("start %s: %v", i.name, err)
		return false
	}
	i.process = cmd
	i.starts++
	return true
}

// signal sends a signal to the process that runs; ends says whether it will end of it.
func (i *instance) signal(s syscall.Signal, ends bool) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.process == nil {
		return nil // the supervisor is about to start another one
	}
	i.expected = i.expected || ends
	if err := i.process.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %v to %s: %w", s, i.name, err)
	}
	return nil
}

// started is how many processes there were.
func (i *instance) started() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.starts
}

// retire has the supervisor start no other process.
func (i *instance) retire() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.stopping = true
}

// stop ends the process and its supervisor as a person does, and kills what does not follow.
func (i *instance) stop() error {
	i.retire()
	err := errors.Join(i.signal(syscall.SIGCONT, false), i.signal(syscall.SIGTERM, true))
	select {
	case <-i.ended:
		return err
	case <-time.After(stopPatience):
	}
	err = errors.Join(err, fmt.Errorf("%s still runs %v after SIGTERM", i.name, stopPatience), i.signal(syscall.SIGKILL, true))
	<-i.ended
	return err
}
