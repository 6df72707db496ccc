package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/outboxd/outboxd/internal/config"
)

// every calls do for each command that a user can see, but for those that cobra brings.
func every(cmd *cobra.Command, do func(*cobra.Command)) {
	if cmd.Name() == "help" || cmd.Name() == "completion" {
		return
	}
	do(cmd)
	for _, c := range cmd.Commands() {
		every(c, do)
	}
}

func TestEveryCommandHasHelpWithExamples(t *testing.T) {
	root := newRootCommand(&app{})
	every(root, func(cmd *cobra.Command) {
		var out bytes.Buffer
		a := &app{out: &out, err: &out}
		args := append(strings.Fields(cmd.CommandPath())[1:], "--help")
		if code := execute(context.Background(), a, args); code != exitFine {
			t.Errorf("%v exits %d: %s", args, code, out.String())
		}
		for _, want := range []string{"Usage:\n  outboxd", "Examples:\n  ", "--config FILE"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%v lacks %q:\n%s", args, want, out.String())
			}
		}
		for line := range strings.Lines(cmd.Example) {
			if line = strings.TrimSpace(line); line != "" && !strings.Contains(line, "outboxd") && !strings.HasPrefix(line, "#") {
				t.Errorf("%v has an example of something else: %s", args, line)
			}
		}
	})
}

func TestLogIsJSONUnlessATerminalReadsIt(t *testing.T) {
	for format, want := range map[string]string{"auto": `{"level":"info"`, "json": `{"level":"info"`, "console": "INF message key=value"} {
		var out bytes.Buffer
		a := &app{err: &out}
		log := a.newLogger(config.Log{Level: "info", Format: format})
		log.Debug().Msg("hidden")
		log.Info().Str("key", "value").Msg("message")
		if !strings.Contains(out.String(), want) || strings.Contains(out.String(), "hidden") || strings.Contains(out.String(), "\x1b") {
			t.Errorf("format %s writes %q", format, out.String())
		}
	}
	if got := (&app{err: &bytes.Buffer{}}).newLogger(config.Log{Level: "warn"}).GetLevel(); got != zerolog.WarnLevel {
		t.Errorf("level is %v", got)
	}
}

func TestColoursAreForTerminalsThatWantThem(t *testing.T) {
	a := &app{out: &bytes.Buffer{}}
	if got := a.paint(red, "lost"); got != "lost" {
		t.Errorf("without a terminal: %q", got)
	}
	for _, c := range []struct {
		noColour, term string
		want           bool
	}{{"", "xterm", true}, {"1", "xterm", false}, {"", "dumb", false}} {
		if got := wantsColours(c.noColour, c.term); got != c.want {
			t.Errorf("NO_COLOR=%s TERM=%s: %v", c.noColour, c.term, got)
		}
	}
}
