package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/outboxd/outboxd/internal/config"
)

const configLong = `Print the effective configuration: defaults, file, environment and flags laid over each other.

Text is YAML that may be used as a file; each setting that was given bears its place as a comment.
Secrets are masked. When anything is wrong, every problem is printed and the exit code is 1.`

func newConfigCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check and print the effective configuration",
		Long:  configLong,
		Example: `  outboxd config --config outboxd.yaml
  outboxd config --config outboxd.yaml --set batch.max_messages=100 --output json`,
		Args: noArguments,
	}
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, sources, err := a.load(cmd, config.NeedAll)
		if problems, ok := errors.AsType[config.Problems](err); ok && output.value == "json" {
			return errors.Join(a.printJSON(problemReport(problems)), reported{problems})
		}
		if err != nil {
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

// problemReport is the JSON form of an invalid configuration.
func problemReport(problems config.Problems) any {
	type problem struct {
		Setting string `json:"setting,omitempty"`
		Source  string `json:"source,omitempty"`
		Problem string `json:"problem"`
	}
	list := make([]problem, len(problems))
	for i, p := range problems {
		list[i] = problem{Setting: p.Setting, Problem: p.Text}
		if p.Source.Layer != config.LayerDefault {
			list[i].Source = p.Source.String()
		}
	}
	return map[string]any{"problems": list}
}
