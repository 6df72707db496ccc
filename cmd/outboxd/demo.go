package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func newDemoCommand(_ *app) *cobra.Command {
	return &cobra.Command{
		Use:     "demo",
		Short:   "See it work, with servers of its own",
		Example: `  outboxd demo`,
		Args:    noArguments,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("demo is not part of this build")
		},
	}
}
