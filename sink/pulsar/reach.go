package pulsar

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/outboxd/outboxd/sink"
)

// reach asks the hosts whether they welcome us, where the client's last call brought no answer or its last connection failed. The client would repeat a
// lookup for operationTimeout, with ever longer pauses: too late to say that nothing listens, and too late to go on. It also asks its hosts in turn, and one
// that hangs would hold up every lookup: the client gets to know only the others, until none of those welcomes us. Where no host at all does, that is
// the whole broker's failure.
func (s *Sink) reach(ctx context.Context) error {
	if !s.silent.Load() && s.heard.problem() == "" {
		return nil
	}
	all, err := s.serviceHosts()
	if err != nil {
		return err
	}
	known := s.knownHosts()
	talking, err := s.knock(ctx, known)
	if err != nil && len(known) < len(all) {
		talking, err = s.knock(ctx, all)
	}
	if err != nil {
		return &sink.Error{Class: sink.Unavailable, FateKnown: true, Broker: !over(ctx), Err: oneLine{fmt.Errorf("connection error: %w", err)}}
	}
	if !over(ctx) { // else a host may have had no time to answer
		s.heard.setProblem("")
		s.knowOnly(talking, known)
	}
	return nil
}

// over tells whether the call's time is up. A connection can notice that before the context does.
func over(ctx context.Context) bool {
	deadline, bounded := ctx.Deadline()
	return ctx.Err() != nil || bounded && !time.Now().Before(deadline)
}

// knock asks all hosts at once whether they welcome us. It returns those that say anything in time, with an error unless one says yes.
func (s *Sink) knock(ctx context.Context, hosts []string) (talking []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, min(max(s.cfg.Timeout/3, time.Second), keepAlive)) // the client's own patience with a handshake, twice and some time left
	defer cancel()
	problems := make([]error, len(hosts))
	var asked sync.WaitGroup
	for i, host := range hosts {
		asked.Go(func() {
			_, hangUp, err := s.dial(ctx, broker{host: host})
			if err == nil {
				hangUp()
			}
			problems[i] = err
		})
	}
	asked.Wait()
	for i, host := range hosts {
		if timeout, ok := errors.AsType[net.Error](problems[i]); !ok || !timeout.Timeout() {
			talking = append(talking, host)
		}
	}
	if !slices.Contains(problems, nil) {
		err = errors.Join(problems...)
	}
	return talking, err
}

// knownHosts returns the hosts that the clients know.
func (s *Sink) knownHosts() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hosts
}

// knowOnly makes new clients where they should know other hosts than before, unless another call has done so meanwhile.
func (s *Sink) knowOnly(hosts, before []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || slices.Equal(hosts, before) || !slices.Equal(s.hosts, before) {
		return
	}
	s.log.Warn().Strs("hosts", hosts).Strs("before", before).Msg("look topics up at other hosts: one hangs, or none of those before answers")
	s.hosts = hosts
	for _, c := range s.clients {
		if c != nil {
			s.replaceLocked(c)
		}
	}
}
