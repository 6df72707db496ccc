package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
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

// testCode returns the code of the tests by package. That of sinktest is also of each package that runs it.
func testCode(t *testing.T) map[string]string {
	t.Helper()
	root, code := filepath.Join("..", ".."), map[string]string{}
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") && (filepath.Base(filepath.Dir(path)) != "sinktest" || filepath.Ext(path) != ".go") {
			return err
		}
		text, err := os.ReadFile(path)
		folder, _ := filepath.Rel(root, filepath.Dir(path))
		code[filepath.ToSlash(folder)] += string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range code {
		if strings.Contains(text, "sinktest.Run(") {
			code[name] += code["sink/sinktest"]
		}
	}
	return code
}

// declares tells whether the code has the test and its parts, as `TestName/Part/Part`; "*" at the end stands for more of the name, and a number for
// the part whose name it begins.
func declares(code, test string) bool {
	name, parts, _ := strings.Cut(test, "/")
	name, more := strings.CutSuffix(name, "*")
	if declared := strings.Contains(code, "\nfunc "+name+"(") || more && strings.Contains(code, "\nfunc "+name); !declared {
		return false
	}
	for part := range strings.SplitSeq(parts, "/") {
		literal := `"` + part + `"`
		if _, err := strconv.Atoi(part); err == nil {
			literal = `"` + part + `: `
		}
		if part != "" && !strings.Contains(code, literal) {
			return false
		}
	}
	return true
}

// A line that names a test says first of which package it is, as in "`lane`: `TestHistories`"; where it does not, the test may be of any.
func TestTestsThatTheGuaranteesNameExist(t *testing.T) {
	code, named := testCode(t), 0
	spans := regexp.MustCompile("`([^`]+)`")
	for line := range strings.Lines(document(t, "docs/guarantees.md")) {
		place := ""
		for _, span := range spans.FindAllStringSubmatch(line, -1) {
			if _, there := code[span[1]]; there {
				place = span[1]
			}
			if !strings.HasPrefix(span[1], "Test") && !strings.HasPrefix(span[1], "Fuzz") {
				continue
			}
			named++
			found := place != "" && declares(code[place], span[1])
			for _, text := range code {
				found = found || place == "" && declares(text, span[1])
			}
			if !found {
				t.Errorf("docs/guarantees.md names %s of package %q, which does not exist", span[1], place)
			}
		}
	}
	if named == 0 {
		t.Error("docs/guarantees.md names no test")
	}
}

func TestNamesOfTestsAreLookedUpWhole(t *testing.T) {
	const code = "\nfunc TestOne(t *testing.T) {\n\tt.Run(\"Part\", nil)\n\tt.Run(\"12: a history\", nil)\n}\n"
	for name, want := range map[string]bool{
		"TestOne": true, "TestOne/Part": true, "TestOne/12": true, "TestO*": true,
		"TestO": false, "TestTwo": false, "TestOne/1": false, "TestOne/2": false, "TestOne/Part/Other": false, "TestOne/a history": false,
	} {
		if declares(code, name) != want {
			t.Errorf("declares %s: %v", name, !want)
		}
	}
}
