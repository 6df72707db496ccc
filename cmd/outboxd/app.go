package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/outboxd/outboxd/internal/config"
)

// app is what the commands share: the process's surroundings and the flags that all of them take.
type app struct {
	in       io.Reader
	out, err io.Writer
	environ  []string

	configFile string
	envFile    string   // --env-file
	preset     string   // --preset
	settings   []string // --set PATH=VALUE
	database   string   // --database-url
	logLevel   string

	warnings config.Problems // what load found that has no effect
}

// newApp returns the app of this process.
func newApp() *app {
	return &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, environ: os.Environ()}
}

const rootLong = `outboxd streams a PostgreSQL transactional outbox to Apache Pulsar and Redis Streams.

It reads the write-ahead log through a logical replication slot instead of polling the table, and
confirms a log position only when every event before it is safe.

Settings come from defaults, then a preset, then the file of --config, then the environment (the names
of existing deployments, then OUTBOXD_ and the setting's path in upper case), then flags; each wins
over the one before. "outboxd config --explain" shows all of them.`

const rootExample = `  # see it work, with servers of its own
  outboxd demo

  # prepare a database, check the settings, stream
  outboxd migrate up --config outboxd.yaml
  outboxd config --config outboxd.yaml
  outboxd run --config outboxd.yaml

  # without a file
  DATABASE_URL=postgres://localhost/shop REDIS_URL=redis://localhost:6379/0 outboxd run`

func newRootCommand(a *app) *cobra.Command {
	root := group(&cobra.Command{
		Use:     "outboxd",
		Short:   "Stream a PostgreSQL outbox to Pulsar and Redis",
		Long:    rootLong,
		Example: rootExample,
	})
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usage(cmd, "%v", err) })
	flags := root.PersistentFlags()
	flags.StringVarP(&a.configFile, "config", "c", "", "`FILE` with the settings, YAML (default $OUTBOXD_CONFIG, else none)")
	flags.StringVar(&a.envFile, "env-file", "", "`FILE` of NAME=VALUE lines; variables of the environment itself win")
	flags.StringVar(&a.preset, "preset", "", "`NAME` of a set of values over the defaults, the setting preset")
	flags.StringArrayVar(&a.settings, "set", nil, "set `PATH=VALUE`, such as batch.max_messages=100; repeatable")
	flags.StringVar(&a.database, "database-url", "", "`URL` of the database, the setting database.url")
	flags.StringVar(&a.logLevel, "log-level", "", "`LEVEL` of the log, the setting log.level")
	root.AddCommand(
		newRunCommand(a),
		newDemoCommand(a),
		newVerifyCommand(a),
		newBenchCommand(a),
		newMigrateCommand(a),
		newConfigCommand(a),
		newDoctorCommand(a),
		newSlotCommand(a),
		newReshardCommand(a),
		newEventsCommand(a),
		newCleanupCommand(a),
		newHealthcheckCommand(a),
		newDecryptCommand(a),
		newVersionCommand(a),
	)
	completes(root, "preset", config.Choices("preset")...)
	completes(root, "log-level", config.Choices("log.level")...)
	completion(root, "set", completeSetting)
	addCompletion(root)
	return root
}

// completeSetting completes the path of a setting, and behind the = its value where there are few.
func completeSetting(_ *cobra.Command, _ []string, typed string) (found []string, directive cobra.ShellCompDirective) {
	path, _, named := strings.Cut(typed, "=")
	if !named {
		for _, path := range config.Paths() {
			found = append(found, path+"=")
		}
		return found, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
	for _, value := range config.Choices(path) {
		found = append(found, path+"="+value)
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

// load reads the configuration that the flags and the environment name. A fault in it is an error of type
// config.Problems; a --set without a value is wrong usage.
func (a *app) load(cmd *cobra.Command, need config.Need) (*config.Config, config.Sources, error) {
	a.warnings = nil
	o := config.Options{
		File: a.configFile, EnvFile: a.envFile, Environ: a.environ, Need: need, Files: true,
		Warn: func(w config.Problem) { a.warnings = append(a.warnings, w) },
	}
	for _, s := range a.settings {
		path, value, ok := strings.Cut(s, "=")
		if !ok {
			return nil, nil, usage(cmd, "--set %s has no value: write --set PATH=VALUE", path)
		}
		o.Flags = append(o.Flags, config.Flag{Name: "--set", Path: path, Value: value})
	}
	for _, f := range []struct{ name, path, value string }{
		{"preset", "preset", a.preset},
		{"database-url", "database.url", a.database},
		{"log-level", "log.level", a.logLevel},
	} {
		if cmd.Flags().Changed(f.name) {
			o.Flags = append(o.Flags, config.Flag{Name: "--" + f.name, Path: f.path, Value: f.value})
		}
	}
	return config.Load(o)
}

// settingFlags are the flags for another process of the same single settings.
func (a *app) settingFlags() (flags []string) {
	for _, setting := range a.settings {
		flags = append(flags, "--set", setting)
	}
	if a.logLevel != "" {
		flags = append(flags, "--log-level", a.logLevel)
	}
	return flags
}

// variable returns the value of a variable of the environment, or "".
func (a *app) variable(name string) string {
	for _, pair := range a.environ {
		if value, ok := strings.CutPrefix(pair, name+"="); ok {
			return value
		}
	}
	return ""
}

// terminal tells whether stream, one of the process's three, is a terminal with a person at it.
func terminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}

// colours tells whether what is written to w may be coloured.
func (a *app) colours(w io.Writer) bool {
	return terminal(w) && wantsColours(a.variable("NO_COLOR"), a.variable("TERM"))
}

// wantsColours tells whether the environment allows colours on a terminal. See https://no-color.org.
func wantsColours(noColour, term string) bool { return noColour == "" && term != "dumb" }

// usageError is wrong usage: exit code 2.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

// usage returns wrong usage of cmd, with the place where the right one is explained.
func usage(cmd *cobra.Command, format string, args ...any) error {
	return usageError{fmt.Sprintf(format, args...) + ": see " + cmd.CommandPath() + " --help"}
}
