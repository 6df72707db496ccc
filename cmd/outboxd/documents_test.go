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

func TestEveryMetricIsInTheDocument(t *testing.T) {
	registry := prometheus.NewRegistry()
	relay.New(relay.Config{Registry: registry})
	described := make(chan *prometheus.Desc)
	go func() {
		defer close(described)
		registry.Describe(described)
	}()
	text, name := document(t, "docs/operations.md"), regexp.MustCompile(`fqName: "([a-z_]+)"`)
	metrics := 0
	for d := range described {
		metrics++
		found := name.FindStringSubmatch(d.String())
		if found == nil {
			t.Fatalf("no name in %s", d)
		}
		if !regexp.MustCompile("`" + found[1] + "[`{]").MatchString(text) {
			t.Errorf("docs/operations.md lacks %s", found[1])
		}
	}
	if metrics == 0 {
		t.Error("the relay has no metrics")
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
