package pulsar

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/outboxd/outboxd/sink"
)

// fence makes a new exclusive producer. When it has one, every older producer is closed at the broker, and nothing that it
// still sends is accepted.
func (s *Sink) fence(ctx context.Context, t topic) (*producer, error) {
	if err := s.retireOwn(ctx, t.String()); err != nil {
		return nil, err
	}
	names, err := s.partitions(ctx, t.String())
	if err != nil {
		return nil, err
	}
	if len(names) != 1 || names[0] != t.String() {
		return nil, known(sink.Unavailable, fmt.Errorf("the topic has %d partitions, each of which is a destination of its own", len(names)))
	}
	tookOver := false
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		p, err := s.create(ctx, t.String())
		if err == nil {
			return p, nil
		}
		if !isHeld(err) {
			return nil, fmt.Errorf("make a producer: %w", err)
		}
		if ours := strings.HasPrefix(holder(err), s.cfg.Name()+nameEnd); ours && !tookOver {
			if err := s.cutOff(ctx, t.String()); err != nil {
				return nil, err
			}
			tookOver = true
			continue
		}
		if !sleep(ctx, wait) {
			return nil, heldBy(err)
		}
	}
}

// cutOff cuts off an older instance of ourselves.
func (s *Sink) cutOff(ctx context.Context, topic string) error {
	s.mu.Lock()
	s.producers.demand(topic, settledUnknown)
	s.mu.Unlock()
	return s.takeOver(ctx, topic)
}

// lookup asks the hosts that the client knows, one after the other, which broker serves the topic. Each has a share of the time of a takeOver.
func (s *Sink) lookup(ctx context.Context, topic string) (broker, error) {
	hosts := s.knownHosts()
	share := operationTimeout / time.Duration(len(hosts)+1)
	var problems []error
	for _, host := range hosts {
		b, err := s.lookupWithin(ctx, share, host, topic)
		if err == nil {
			return b, nil
		}
		problems = append(problems, err)
	}
	return broker{}, errors.Join(problems...)
}

func (s *Sink) lookupWithin(ctx context.Context, share time.Duration, host, topic string) (broker, error) {
	ctx, cancel := context.WithTimeout(ctx, share)
	defer cancel()
	return s.lookupAt(ctx, host, topic)
}

func (s *Sink) lookupAt(ctx context.Context, host, topic string) (broker, error) {
	at, authoritative := broker{host: host}, false
	for range wireRedirects {
		found, err := s.lookupOnce(ctx, at, wireLookup{Topic: topic, RequestID: 1, Authoritative: authoritative})
		if err != nil {
			return broker{}, err
		}
		next := found.URL
		if s.secured() {
			next = found.URLTLS
		}
		u, err := url.Parse(next)
		switch {
		case found.Response == "Failed":
			return broker{}, fmt.Errorf("look up %s: server error: %s: %s", topic, found.Error, found.Message)
		case err != nil || u.Host == "":
			return broker{}, fmt.Errorf("look up %s: broker's address %q cannot be used", topic, next)
		}
		at = broker{host: u.Host}
		if found.ThroughProxy {
			at = broker{host: host, behindProxy: u.Host}
		}
		if found.Response == "Connect" {
			return at, nil
		}
		authoritative = found.Authoritative
	}
	return broker{}, fmt.Errorf("look up %s: redirected more than %d times", topic, wireRedirects)
}

func (s *Sink) lookupOnce(ctx context.Context, at broker, l wireLookup) (*wireFound, error) {
	w, hangUp, err := s.dial(ctx, at)
	if err != nil {
		return nil, err
	}
	defer hangUp()
	m, err := w.ask(wireMessage{Type: "LOOKUP", Lookup: &l}, "LOOKUP_RESPONSE")
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", l.Topic, err)
	}
	if m.Found == nil {
		return nil, fmt.Errorf("look up %s: empty answer", l.Topic)
	}
	return m.Found, nil
}

// serviceHosts returns the host:port of each host in the service URL.
func (s *Sink) serviceHosts() ([]string, error) {
	scheme, rest, _ := strings.Cut(s.cfg.URL, "://")
	port := "6650"
	if scheme == "pulsar+ssl" {
		port = "6651"
	}
	rest, _, _ = strings.Cut(rest, "/")
	var hosts []string
	for host := range strings.SplitSeq(rest, ",") {
		u, err := url.Parse("//" + host)
		if err != nil || u.Hostname() == "" {
			return nil, fmt.Errorf("service url %s: host %q cannot be used", s.cfg.URL, host)
		}
		if u.Port() != "" {
			hosts = append(hosts, u.Host)
			continue
		}
		hosts = append(hosts, net.JoinHostPort(u.Hostname(), port))
	}
	return hosts, nil
}

// takeOver cuts off whoever produces to the topic: a producer with access mode ExclusiveWithFencing makes the broker
// close all others. It is closed again at once, and its place is free.
// Source: https://github.com/apache/pulsar/wiki/PIP-68%3A-Exclusive-Producer
func (s *Sink) takeOver(ctx context.Context, topic string) error {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	b, err := s.lookup(ctx, topic)
	if err != nil {
		return fmt.Errorf("take the topic over: %w", err)
	}
	w, hangUp, err := s.dial(ctx, b)
	if err != nil {
		return fmt.Errorf("take the topic over: %w", err)
	}
	defer hangUp()
	began, name := time.Now(), s.producerName()
	_, err = w.ask(wireMessage{Type: "PRODUCER", Producer: &wireProducer{
		Topic: topic, ProducerID: 1, RequestID: 1,
		ProducerName: name, UserProvidedProducerName: true, ProducerAccessMode: "ExclusiveWithFencing",
	}}, "PRODUCER_SUCCESS")
	if err != nil {
		s.noteRefused(topic, name, err)
		return fmt.Errorf("take the topic over: %w", err)
	}
	if _, err := w.ask(wireMessage{Type: "CLOSE_PRODUCER", Close: &wireClose{ProducerID: 1, RequestID: 2}}, "SUCCESS"); err != nil {
		return fmt.Errorf("take the topic over: give it free again: %w", err)
	}
	s.log.Warn().Str("topic", topic).Stringer("took", time.Since(began).Round(time.Millisecond)).Msg("cut off another outboxd's producer")
	return nil
}
