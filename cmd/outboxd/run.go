package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func newRunCommand(_ *app) *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Stream the outbox to the sinks",
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("run is not part of this build")
		},
	}
}
