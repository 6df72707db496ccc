package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/sink"
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

// examine makes the checks of the sink. Its destinations are those of routes without a placeholder, those that somebody has named, and those
// at which something waits.
func (s *Sink) examine(ctx context.Context, cfg *Config, waiting []park.Destination) (findings []Finding) {
	names := slices.Clone(s.Destinations)
	for _, t := range s.Templates {
		if !strings.Contains(t, "{") {
			names = append(names, t)
		}
	}
	for _, w := range waiting {
		if w.Sink == s.Name {
			names = append(names, w.Name)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	switch {
	case s.Redis != nil:
		findings = examineRedis(ctx, s, cfg, names)
	case s.Pulsar != nil:
		findings = examinePulsar(ctx, s, cfg, names)
	}
	for i := range findings {
		findings[i].Area = "sink " + s.Name
	}
	return findings
}

// example is what stands for the tenant, topic and type of an event that nobody has written. It would be of the first shard.
const example = "outboxd-doctor"

var placeholders = strings.NewReplacer("{tenant}", example, "{topic}", example, "{aggregate_type}", example, "{shard}", "0")

// examples are the destinations that an example's event would go to.
func (s *Sink) examples() []string {
	var names []string
	for _, t := range s.Templates {
		if strings.Contains(t, "{") {
			names = append(names, placeholders.Replace(t))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func probeFailed(destination string, err error) Finding {
	why, mend := err, "as the message says; else see the broker's log, and whether it is reachable from here"
	if e, ok := errors.AsType[*sink.Error](err); ok && e.Mend != "" {
		why, mend = e.Err, e.Mend
	}
	return found(Error, "destination", fmt.Sprintf("%s accepts nothing: %v", destination, why), "its events are parked, and wait there", mend)
}
