package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	redis "github.com/redis/go-redis/v9"
)

// Server is what a Redis server says of itself to people who look for faults.
type Server struct {
	Addr        string
	Info        map[string]string // every field of INFO
	Save        *string           // the setting save; nil where the user may not read it
	AppendFsync *string           // the setting appendfsync; nil where the user may not read it
	Time        time.Time         // the server's clock, read between Before and After
	Before      time.Time
	After       time.Time
}

// Servers asks the server, or each master of a cluster, about itself. It writes nothing.
func (s *Sink) Servers(ctx context.Context) ([]Server, error) {
	ctx, done := s.begin(ctx)
	defer done()
	if s.client.cluster == nil {
		one, err := inspect(ctx, s.client.single)
		return []Server{one}, err
	}
	var mu sync.Mutex
	var all []Server
	err := s.client.cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		one, err := inspect(ctx, node)
		mu.Lock()
		defer mu.Unlock()
		all = append(all, one)
		return err
	})
	return all, err
}

func inspect(ctx context.Context, node *redis.Client) (s Server, err error) {
	s = Server{Addr: node.Options().Addr, Info: map[string]string{}}
	text, err := node.Info(ctx).Result()
	if err != nil {
		return s, fmt.Errorf("ask %s for INFO: %w", s.Addr, err)
	}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			s.Info[name] = value
		}
	}
	s.Before = time.Now()
	if s.Time, err = node.Time(ctx).Result(); err != nil {
		return s, fmt.Errorf("ask %s for TIME: %w", s.Addr, err)
	}
	s.After = time.Now()
	s.Save, s.AppendFsync = configured(ctx, node, "save"), configured(ctx, node, "appendfsync")
	return s, nil
}

// configured reads a setting. Managed services have no CONFIG, and a user may lack the right: it is not known then.
func configured(ctx context.Context, node *redis.Client, name string) *string {
	values, err := node.ConfigGet(ctx, name).Result()
	if err != nil {
		return nil
	}
	value, ok := values[name]
	if !ok {
		return nil
	}
	return &value
}

// Secured returns the addresses of the URL and how they are connected to by TLS; without TLS there are none.
func (s *Sink) Secured() (addrs []string, config *tls.Config) {
	a, err := parseURL(s.cfg.URL)
	if err != nil || !a.tls {
		return nil, nil
	}
	return a.hosts, s.client.conns.tls
}

// Client returns a client of its own, with usual timeouts, for who reads what was published; the caller closes it before the sink. A cluster has none.
func (s *Sink) Client() (*redis.Client, error) {
	if s.client.cluster != nil {
		return nil, errors.New("a Redis Cluster is not read")
	}
	o := *s.client.single.Options()
	o.ReadTimeout, o.WriteTimeout, o.MaxRetries = s.cfg.Timeout, s.cfg.Timeout, 0
	return redis.NewClient(&o), nil
}
