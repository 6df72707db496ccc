package testenv

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// CanStepClock tells with an ErrUnavailable why this machine cannot run a server with a clock of its own; nil if it can.
func CanStepClock() error {
	_, err := faketime()
	return err
}

// faketime finds the library that stands between a program and the clock.
func faketime() (library string, err error) {
	const name = "faketime/libfaketimeMT.so.1"
	for _, folder := range []string{"/usr/lib/*/", "/usr/lib64/", "/usr/lib/", "/usr/local/lib/"} {
		found, err := filepath.Glob(folder + name)
		if err != nil {
			return "", err
		}
		if len(found) > 0 {
			return found[0], nil
		}
	}
	return "", fmt.Errorf("a clock of its own: %w: it needs libfaketime (on Debian the package libfaketime)", ErrUnavailable)
}

const clockName = "clock"

// clock returns the environment of a server whose wall clock StepClock moves. Its monotonic clock stays the machine's.
func (p *PostgresServer) clock(owner *account) (environ []string, err error) {
	library, err := faketime()
	if err != nil {
		return nil, err
	}
	p.clockOwner = owner
	return []string{
		"LD_PRELOAD=" + library, "FAKETIME_TIMESTAMP_FILE=" + p.folder.file(clockName), "FAKETIME_CACHE_DURATION=1",
		"FAKETIME_DONT_FAKE_MONOTONIC=1", "NO_FAKE_STAT=1",
	}, p.StepClock(0)
}

// StepClock makes the wall clock of a server with one of its own differ from the machine's by so many seconds. Each of its processes notices at
// its next look, a second later at most.
func (p *PostgresServer) StepClock(by time.Duration) error {
	const fresh = clockName + ".new" // none may read half of it
	if err := p.folder.write(fresh, fmt.Sprintf("%+d\n", int(by.Seconds())), p.clockOwner); err != nil {
		return fmt.Errorf("step the clock of %s: %w", p.name, err)
	}
	return os.Rename(p.folder.file(fresh), p.folder.file(clockName))
}
