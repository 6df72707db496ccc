package bench

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"

	"github.com/outboxd/outboxd/internal/workload"
)

// removable is a broker whose destinations can be removed.
type removable interface {
	Broker
	Delete(ctx context.Context) error
}

// destinations are the streams or topics that have the prefix before a topic's name.
func (f *Field) destinations(prefix string) []string {
	if f.Admin != "" {
		prefix = "persistent://public/default/" + prefix
	}
	var names []string
	for i := range f.Backlog.Topics {
		names = append(names, prefix+TopicName(i))
	}
	return names
}

// redis is a client of the broker.
func (f *Field) redis() (*redis.Client, error) {
	options, err := redis.ParseURL(f.Broker)
	if err != nil {
		return nil, errors.New("read the URL of Redis: it is no URL")
	}
	return redis.NewClient(options), nil
}

// reader reads the destinations of the prefix.
func (f *Field) reader(prefix string) (removable, error) {
	names := f.destinations(prefix)
	if f.Admin == "" {
		return workload.NewRedisReader(f.Broker, "", names...)
	}
	return workload.NewPulsarReader(f.Broker, workload.PulsarTopics{Names: names, AdminURL: f.Admin})
}
