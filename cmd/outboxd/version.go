package main

import (
	"cmp"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is the release; the build sets it with -ldflags "-X main.version=v1.2.3".
var version = "dev"

// build is what this binary was made of.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// readBuild asks the binary itself; without version control information the commit is "unknown".
func readBuild() build {
	b := build{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	dirty := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				b.Commit = s.Value
			case s.Key == "vcs.modified" && s.Value == "true":
				dirty = "+changes"
			}
		}
	}
	b.Commit = cmp.Or(b.Commit, "unknown") + dirty
	return b
}

func newVersionCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print version, commit and Go version",
		Example: `  outboxd version
  outboxd version --output json`,
		Args: noArguments,
	}
	output := outputFlag(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		b := readBuild()
		if output.value == "json" {
			return a.printJSON(b)
		}
		return a.print("outboxd %s (commit %s, %s, %s)\n", b.Version, b.Commit, b.Go, b.Platform)
	}
	return cmd
}
