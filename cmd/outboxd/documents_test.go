package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/outboxd/outboxd/relay"
)

// document returns a file of the repository.
func document(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestEveryCommandIsInTheDocument(t *testing.T) {
	text := document(t, "docs/cli.md")
	every(newRootCommand(&app{}), func(cmd *cobra.Command) {
		if !cmd.HasSubCommands() && !strings.Contains(text, "| `"+cmd.CommandPath()+"` |") {
			t.Errorf("docs/cli.md lacks %s", cmd.CommandPath())
		}
	})
}

// metrics returns the names of all metrics of the relay.
func metrics(t *testing.T) map[string]bool {
	t.Helper()
	registry := prometheus.NewRegistry()
	relay.New(relay.Config{Registry: registry})
	tellShards(registry, 2)
	described := make(chan *prometheus.Desc)
	go func() {
		defer close(described)
		registry.Describe(described)
	}()
	names, name := map[string]bool{}, regexp.MustCompile(`fqName: "([a-z_]+)"`)
	for d := range described {
		found := name.FindStringSubmatch(d.String())
		if found == nil {
			t.Fatalf("no name in %s", d)
		}
		names[found[1]] = true
	}
	if len(names) == 0 {
		t.Fatal("the relay has no metrics")
	}
	return names
}

func TestEveryMetricIsInTheDocument(t *testing.T) {
	text := document(t, "docs/operations.md")
	for name := range metrics(t) {
		if !regexp.MustCompile("`" + name + "[`{]").MatchString(text) {
			t.Errorf("docs/operations.md lacks %s", name)
		}
	}
}

func TestAlertsAndDashboardAskForMetricsThatExist(t *testing.T) {
	names := metrics(t)
	for _, file := range []string{
		"docker/prometheus/rules.yaml", "docker/grafana/outboxd.json", "docs/runbook.md",
		"docs/capacity.md", "docs/operations.md", "docs/scaling.md", "docs/troubleshooting.md",
	} {
		asked := regexp.MustCompile(`\boutboxd_[a-z_]+`).FindAllString(document(t, file), -1)
		if len(asked) == 0 {
			t.Errorf("%s asks for nothing", file)
		}
		for _, name := range asked {
			if !names[name] && !names[regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")] {
				t.Errorf("%s asks for %s, which does not exist", file, name)
			}
		}
	}
}

func TestRunbooksCommandsExist(t *testing.T) {
	root := newRootCommand(&app{})
	commands := regexp.MustCompile("(?m)(?:^|`)outboxd ([a-z][^`\n]*)").FindAllStringSubmatch(document(t, "docs/runbook.md")+document(t, messagesFile), -1)
	if len(commands) == 0 {
		t.Error("docs/runbook.md names no command")
	}
	for _, c := range commands {
		line, _, _ := strings.Cut(c[1], " #")
		cmd, rest, err := root.Find(strings.Fields(line))
		if err != nil || cmd.HasSubCommands() {
			t.Errorf("outboxd %s is no command: %v", line, err)
			continue
		}
		if err := cmd.ParseFlags(rest); err != nil {
			t.Errorf("outboxd %s: %v", line, err)
		}
	}
}

func TestTestsThatTheGuaranteesNameExist(t *testing.T) {
	var tests strings.Builder
	err := filepath.WalkDir(filepath.Join("..", ".."), func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") && (filepath.Base(filepath.Dir(path)) != "sinktest" || filepath.Ext(path) != ".go") {
			return err
		}
		text, err := os.ReadFile(path)
		tests.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`(Test[A-Za-z0-9]+)(?:/([A-Za-z0-9]+))?(\\*?)`").FindAllStringSubmatch(document(t, "docs/guarantees.md"), -1)
	if len(named) == 0 {
		t.Error("docs/guarantees.md names no test")
	}
	for _, n := range named {
		declaration, part := "\nfunc "+n[1], `"`+n[2] // a part's name may go on behind a colon
		if n[3] == "" {
			declaration += "("
		}
		found := strings.Contains(tests.String(), declaration)
		if !found || n[2] != "" && !strings.Contains(tests.String(), part+`"`) && !strings.Contains(tests.String(), part+`: `) {
			t.Errorf("docs/guarantees.md names %s, which does not exist", n[0])
		}
	}
}
