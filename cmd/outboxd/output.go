package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// colour is an ANSI sequence.
type colour string

const (
	red    colour = "\x1b[31m"
	green  colour = "\x1b[32m"
	yellow colour = "\x1b[33m"
	plain  colour = "\x1b[0m"
)

// paint colours s where the output may be coloured. In a table only the last column may be painted: the sequences
// would count as width.
func (a *app) paint(c colour, s string) string {
	if !a.colours(a.out) {
		return s
	}
	return string(c) + s + string(plain)
}

// table writes rows in aligned columns.
func table(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		if _, err := fmt.Fprintln(t, strings.Join(row, "\t")); err != nil {
			return fmt.Errorf("write output: %w", err)
		}
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// printJSON writes v as indented JSON.
func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// print writes text as it is.
func (a *app) print(format string, args ...any) error {
	if _, err := fmt.Fprintf(a.out, format, args...); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// confirm asks a person on the terminal to type word. Without a terminal the answer is no, with the flag that says yes.
func (a *app) confirm(question, word string) error {
	if !terminal(a.in) {
		return fmt.Errorf("%s: nobody to ask: confirm with --yes", question)
	}
	if _, err := fmt.Fprintf(a.err, "%s. Type %s to go on: ", question, word); err != nil {
		return fmt.Errorf("ask for confirmation: %w", err)
	}
	line, err := bufio.NewReader(a.in).ReadString('\n')
	if err != nil {
		return fmt.Errorf("ask for confirmation: %w", err)
	}
	if strings.TrimSpace(line) != word {
		return fmt.Errorf("not confirmed: nothing was changed")
	}
	return nil
}
