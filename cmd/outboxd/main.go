package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/rs/zerolog"
)

// Exit codes, see the package comment.
const (
	exitFine        = 0
	exitFailure     = 1
	exitUsage       = 2
	exitInterrupted = 130
)

func main() {
	zerolog.TimeFieldFormat = "2006-01-02T15:04:05.000Z07:00"
	zerolog.TimestampFunc = func() time.Time { return time.Now().UTC() }
	ctx := contextWithSignals(context.Background())
	os.Exit(execute(ctx, newApp(), os.Args[1:]))
}

// interruption is the cause of a context that a signal cancelled.
type interruption struct{ signal os.Signal }

func (i interruption) Error() string { return "stopped by signal: " + i.signal.String() }

// signalEcho is how long after the first signal another one is taken for the same: timeout(1) and some init programs signal the process
// and then its whole group.
const signalEcho = 250 * time.Millisecond

// contextWithSignals returns a context that the first SIGTERM or SIGINT cancels; the second ends the process, unless it is an echo of
// the first. Its goroutine lives as long as the process.
func contextWithSignals(parent context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		cancel(interruption{<-signals})
		first := time.Now()
		second := <-signals
		for time.Since(first) < signalEcho {
			second = <-signals
		}
		os.Exit(signalCode(second))
	}()
	return ctx
}

func signalCode(s os.Signal) int {
	if s == syscall.SIGINT {
		return exitInterrupted
	}
	return exitFailure
}

// execute runs the program with the arguments and returns its exit code. An error is printed once, here.
func execute(ctx context.Context, a *app, args []string) int {
	root := newRootCommand(a)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitFine
	}
	if _, silent := errors.AsType[reported](err); !silent {
		_, _ = fmt.Fprintf(a.err, "outboxd: %s\n", explain(ctx, err))
	}
	interrupted, ok := errors.AsType[interruption](context.Cause(ctx))
	switch {
	case isUsage(err):
		return exitUsage
	case ok:
		return signalCode(interrupted.signal)
	default:
		return exitFailure
	}
}

// explain puts the signal in the place of the "context canceled" that it has caused.
func explain(ctx context.Context, err error) string {
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, context.Canceled) {
		return cause.Error()
	}
	return err.Error()
}
