package doctor

import (
	"context"

	"github.com/outboxd/outboxd/sink/pulsar"
	"github.com/outboxd/outboxd/sink/redis"
)

// Sink is a broker that routes name. Redis or Pulsar is set, or neither for one that needs no look.
type Sink struct {
	Name   string
	Redis  *redis.Config
	Pulsar *pulsar.Config

	Templates    []string // destinations of routes, with their placeholders
	Destinations []string // to be probed beside those that are known
}

// kind is redis, pulsar or stdout.
func (s *Sink) kind() string {
	switch {
	case s.Redis != nil:
		return "redis"
	case s.Pulsar != nil:
		return "pulsar"
	default:
		return "stdout"
	}
}

func (s *Sink) examine(context.Context, *Config, *topics) []Finding { return nil }
