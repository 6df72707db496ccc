package main

import (
	"cmp"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/outboxd/outboxd/internal/testenv"
)

// TestMain lets the test binary stand in for the program: under its name it is the program.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "outboxd" {
		main()
	}
	testenv.Main(m)
}

// program returns the path of the program. With the race detector a process sleeps for a second at its end unless GORACE says less, and many tests clear
// the environment: so a shell script sets GORACE, and becomes the program.
func program(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	folder := t.TempDir()
	path, behind := filepath.Join(folder, "outboxd"), filepath.Join(folder, "real", "outboxd")
	err = cmp.Or(err, os.Mkdir(filepath.Dir(behind), 0o755))
	err = cmp.Or(err, os.Symlink(self, behind))
	err = cmp.Or(err, writeProgram(path, "#!/bin/sh\nexport GORACE=\"${GORACE:-atexit_sleep_ms=20}\"\nexec '"+behind+"' \"$@\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// writeProgram makes an executable file. A process that is forked off meanwhile would hold it open for writing, and nobody could run it.
func writeProgram(path, text string) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(path, []byte(text), 0o755)
}

func TestScripts(t *testing.T) {
	path := filepath.Dir(program(t)) + string(os.PathListSeparator) + os.Getenv("PATH")
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", path)
			if strings.Contains(env.WorkDir, "script-postgres") {
				env.Setenv("DATABASE_URL", testenv.Postgres(t).Database(t))
			}
			return nil
		},
	})
}

// exits runs a command that must end with the exit code: exits CODE COMMAND [ARGUMENT...].
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}
