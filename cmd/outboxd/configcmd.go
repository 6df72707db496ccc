package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/outboxd/outboxd/internal/config"
)

const configLong = `Print the effective configuration: defaults, file, environment and flags laid over each other.

Text is YAML that may be used as a file; each setting that was given bears its place as a comment.
With --explain it is a table of every setting with its value, its source (default, preset, file and
line, variable, flag) and its meaning. Secrets are masked. What has no effect is told on standard error.
When anything is wrong, every problem is printed and the exit code is 1.`

func newConfigCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check and print the effective configuration",
		Long:  configLong,
		Example: `  outboxd config --config outboxd.yaml
  outboxd config --config outboxd.yaml --set batch.max_messages=100 --output json
  outboxd config --env-file .env --preset low_latency --explain`,
		Args: noArguments,
	}
	output := outputFlag(cmd)
	explained := cmd.Flags().Bool("explain", false, "print every setting with its value, source and meaning")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, sources, err := a.load(cmd, config.NeedAll)
		if problems, ok := errors.AsType[config.Problems](err); ok && output.value == "json" {
			return errors.Join(a.printJSON(problemReport(problems)), reported{problems})
		}
		if err != nil {
			return err
		}
		if *explained {
			return a.explain(cfg.Explain(sources), output.value == "json")
		}
		if err := a.printWarnings(); err != nil {
			return err
		}
		text, err := cfg.YAML(sources)
		if output.value == "json" {
			text, err = cfg.JSON()
		}
		if err != nil {
			return err
		}
		return a.print("%s", text)
	}
	return cmd
}

// explain prints the settings, and what has no effect.
func (a *app) explain(settings []config.Explanation, asJSON bool) error {
	if asJSON {
		return a.printJSON(map[string]any{"settings": settings, "warnings": problemList(a.warnings)})
	}
	rows := [][]string{{"SETTING", "VALUE", "SOURCE", "MEANING"}}
	for _, s := range settings {
		rows = append(rows, []string{s.Setting, cell(fmt.Sprint(s.Value)), s.Source, s.Meaning})
	}
	return errors.Join(table(a.out, rows), a.printWarnings())
}

// printWarnings tells on standard error what has no effect.
func (a *app) printWarnings() error {
	for _, w := range a.warnings {
		if _, err := fmt.Fprintf(a.err, "outboxd: warning: %s\n", w); err != nil {
			return fmt.Errorf("write warnings: %w", err)
		}
	}
	return nil
}

// problemReport is the JSON form of an invalid configuration.
func problemReport(problems config.Problems) any {
	return map[string]any{"problems": problemList(problems)}
}

// jsonProblem is the JSON form of a problem or warning.
type jsonProblem struct {
	Setting string `json:"setting,omitempty"`
	Source  string `json:"source,omitempty"`
	Problem string `json:"problem"`
}

func problemList(problems config.Problems) []jsonProblem {
	list := make([]jsonProblem, len(problems))
	for i, p := range problems {
		list[i] = jsonProblem{Setting: p.Setting, Problem: p.Text}
		if p.Source.Layer != config.LayerDefault {
			list[i].Source = p.Source.String()
		}
	}
	return list
}
