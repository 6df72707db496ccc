// Report turns the results of make bench, files of JSON, into the tables and charts of docs/benchmarks.md.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/outboxd/outboxd/internal/bench"
)

// The report stands between these lines of the document.
const (
	begin = "<!-- make bench writes from here -->\n"
	end   = "<!-- to here -->\n"
)

func main() {
	results := flag.String("results", "bench-results", "folder of the results")
	document := flag.String("document", "docs/benchmarks.md", "file that the report is written into")
	note := flag.String("note", "", "sentence that is put first, such as what was left out and why")
	flag.Parse()
	if err := report(*results, *document, *note); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

// report writes the document anew, and the charts beside it.
func report(results, document, note string) error {
	all, err := read(results)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	head, rest, ok := strings.Cut(string(text), begin)
	_, tail, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return fmt.Errorf("%s lacks the lines %q and %q", document, begin, end)
	}
	folder := filepath.Join(filepath.Dir(document), "charts")
	charts, err := draw(all, folder)
	if err != nil {
		return err
	}
	grown, err := growth(results, folder)
	if err != nil {
		return err
	}
	body := tables(all, note)
	for _, c := range charts {
		body += fmt.Sprintf("\n![%s](charts/%s)\n", c.title, c.file)
	}
	return os.WriteFile(document, []byte(head+begin+body+grown+end+tail), 0o644) //nolint:gosec // a document is for everybody
}

// read reads all results of a folder, in the order of their files' names. Without the folder it is fs.ErrNotExist.
func read(folder string) (all []bench.Result, err error) {
	if _, err := os.Stat(folder); err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var r bench.Result
		if err := json.Unmarshal(text, &r); err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		all = append(all, r)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("there are no results in %s", folder)
	}
	return all, nil
}
