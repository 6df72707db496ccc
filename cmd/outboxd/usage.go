package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// reported is a failure whose explanation is already in the command's output, as JSON for instance.
type reported struct{ error }

// Unwrap returns the failure itself.
func (r reported) Unwrap() error { return r.error }

// isUsage tells whether err is wrong usage.
func isUsage(err error) bool {
	_, ok := errors.AsType[usageError](err)
	return ok
}

// group makes cmd a command that only holds others: without one of them, or with an unknown one, it is wrong usage.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		text := "there is no command " + args[0]
		if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
			text += " (did you mean " + strings.Join(similar, " or ") + "?)"
		}
		return usage(cmd, "%s", text)
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var names []string
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() {
				names = append(names, c.Name())
			}
		}
		return usage(cmd, "name a command: %s", strings.Join(names, ", "))
	}
	cmd.SuggestionsMinimumDistance = 2
	return cmd
}

// addCompletion adds cobra's command completion, with this program's answers to wrong usage.
func addCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() != "completion" {
			continue
		}
		for _, shell := range group(cmd).Commands() {
			shell.Args = noArguments
		}
	}
}

// noArguments refuses arguments.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage(cmd, "unexpected argument %s", args[0])
	}
	return nil
}

// choice is a flag with few values.
type choice struct {
	value  string
	values []string
}

// String returns the value.
func (c *choice) String() string { return c.value }

// Set refuses what is not one of the values.
func (c *choice) Set(s string) error {
	if !slices.Contains(c.values, s) {
		return errors.New("choose " + strings.Join(c.values, " or "))
	}
	c.value = s
	return nil
}

// Type is how the help calls the value.
func (c *choice) Type() string { return strings.Join(c.values, "|") }

// choiceFlag adds a flag with few values to cmd, the first of them its default, and completes them in the shell.
func choiceFlag(cmd *cobra.Command, name, shorthand, help string, values ...string) *choice {
	c := &choice{values[0], values}
	cmd.Flags().VarP(c, name, shorthand, help)
	completes(cmd, name, values...)
	return c
}

// completes lets the shell complete the flag's values.
func completes(cmd *cobra.Command, flag string, values ...string) {
	completion(cmd, flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

// completion lets the shell ask complete for what the flag's value may be.
func completion(cmd *cobra.Command, flag string, complete cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, complete); err != nil {
		panic(err) // only for a flag that does not exist or is completed already
	}
}

// outputFlag adds --output.
func outputFlag(cmd *cobra.Command) *choice {
	return choiceFlag(cmd, "output", "o", "form of the output", "text", "json")
}
