package testenv

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// command is what start runs.
type command struct {
	path  string
	args  []string
	env   []string // added to this process's
	dir   string
	stdin *os.File // nil for none
	log   string   // file that standard output and error are appended to, empty for none
	owner *account // nil for this process's user
}

// process is a started child that leads a session and a process group of its own. No goroutine waits for it.
type process struct {
	pid    int
	exited bool
	status syscall.WaitStatus
}

// start runs a command. Nothing but its standard input, output and error is inherited.
func start(c command) (*process, error) {
	if err := sealDescriptors(); err != nil {
		return nil, err
	}
	cmd := exec.Command(c.path, c.args...)
	cmd.Dir, cmd.Env = c.dir, append(os.Environ(), c.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: c.owner.credential()}
	if c.stdin != nil {
		cmd.Stdin = c.stdin
	}
	if c.log != "" {
		log, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, err
		}
		defer drop(log)
		cmd.Stdout, cmd.Stderr = log, log
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.path, err)
	}
	p := &process{pid: cmd.Process.Pid}
	return p, cmd.Process.Release() // wait4 is called here, not by os
}

// sealDescriptors marks every descriptor but the standard ones close-on-exec. Go's own are; those that this process inherited may not be,
// and a server that holds on to its grandparent's lock file would keep it locked.
func sealDescriptors() error {
	names, err := os.ReadDir("/dev/fd")
	if err != nil {
		return fmt.Errorf("list open descriptors: %w", err)
	}
	for _, name := range names {
		if fd, err := strconv.Atoi(name.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
	return nil
}

// ended reports whether the process has exited, without waiting.
func (p *process) ended() bool {
	if p.exited {
		return true
	}
	pid, err := syscall.Wait4(p.pid, &p.status, syscall.WNOHANG, nil)
	p.exited = pid == p.pid || errors.Is(err, syscall.ECHILD)
	return p.exited
}

// wait reports whether the process exits within the given time.
func (p *process) wait(limit time.Duration) bool {
	return until(limit, 5*time.Millisecond, p.ended)
}

// outcome tells how the process exited.
func (p *process) outcome() string {
	if p.status.Signaled() {
		return "ended by signal " + p.status.Signal().String()
	}
	return "exit status " + strconv.Itoa(p.status.ExitStatus())
}

// signal sends a signal to the process alone.
func (p *process) signal(s syscall.Signal) error {
	if p.ended() {
		return nil
	}
	return syscall.Kill(p.pid, s)
}

// kill sends SIGKILL to the process, its group and its children (a backend of PostgreSQL leads a group of its own), and waits until they are gone.
// The process is stopped first, so that it neither makes nor buries a child meanwhile.
func (p *process) kill() error {
	if p.ended() {
		return nil
	}
	if err := syscall.Kill(p.pid, syscall.SIGSTOP); err != nil {
		return fmt.Errorf("stop process %d: %w", p.pid, err)
	}
	children := p.children()
	for _, pid := range children {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended by itself
	}
	if err := syscall.Kill(-p.pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill process group %d: %w", p.pid, err)
	}
	if !p.wait(30 * time.Second) {
		return fmt.Errorf("process %d survives SIGKILL", p.pid)
	}
	for _, pid := range children {
		until(5*time.Second, time.Millisecond, func() bool { return !alive(pid) })
	}
	return nil
}

// children lists the direct children by /proc; where there is none (not Linux), a backend of PostgreSQL notices its postmaster's death itself.
func (p *process) children() []int {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", p.pid))
	if err != nil {
		return nil
	}
	var pids []int
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		for _, field := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// alive reports whether a process of this id runs; one that waits for its burial does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z")
}

// drop closes what this process has only read from, or has handed to a child.
func drop(c io.Closer) { _ = c.Close() }

// until calls condition every interval until it is true or the limit has passed, and returns its last answer.
func until(limit, interval time.Duration, condition func() bool) bool {
	deadline := time.Now().Add(limit)
	for !condition() {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(interval)
	}
	return true
}
