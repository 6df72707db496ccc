package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/spf13/cobra"

	"github.com/outboxd/outboxd/internal/config"
)

func TestShardsBehindOneThatFailsHaveTheirTurn(t *testing.T) {
	cfg := &config.Config{}
	cfg.Shards.Count, cfg.Shards.Number = 3, -1
	a, cmd := &app{out: io.Discard}, &cobra.Command{}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd.SetContext(ctx)
	missing := errors.New("it is not there")
	var seen []int
	err := a.eachShard(cmd, cfg, func(part *config.Config) error {
		if seen = append(seen, part.Shards.Number); part.Shards.Number == 0 {
			return missing
		}
		return nil
	})
	if fmt.Sprint(seen) != "[0 1 2]" || !errors.Is(err, missing) || err.Error() != "shard 0: it is not there" {
		t.Errorf("shards %v had their turn, and the error is %v", seen, err)
	}
	seen = nil
	err = a.eachShard(cmd, cfg, func(part *config.Config) error {
		seen = append(seen, part.Shards.Number)
		cancel()
		return ctx.Err()
	})
	if len(seen) != 1 || !errors.Is(err, context.Canceled) {
		t.Errorf("told to stop, shards %v had their turn, and the error is %v", seen, err)
	}
}
