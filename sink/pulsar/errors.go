package pulsar

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	client "github.com/apache/pulsar-client-go/pulsar"

	"github.com/outboxd/outboxd/sink"
)

var (
	errLost     = errors.New("connection of the producer was lost")
	errStalled  = errors.New("no acknowledgement came")
	errReplaced = errors.New("the client was replaced")
	errClosed   = errors.New("the sink is closed")
)

// Parts of error texts. The client gives most of the broker's errors as plain text "server error: NAME: ...".
var unavailableTexts = []string{
	"TopicNotFound", "TopicTerminated", "TopicMigrated", "IncompatibleSchema",
	"ProducerBlockedQuotaExceeded", "ProducerFenced", "ProducerBusy", "ConsumerBusy",
	"PersistenceError", "MetadataError", "AuthenticationError", "AuthorizationError", "NotAllowed", "Invalid topic", "InvalidTopicName",
	"connection error", "connection refused", "no such host", "x509:", "tls:",
}

var rejectedTexts = []string{"exceeds MaxMessageSize"}

// classOf returns the class of the client's error.
func classOf(err error) sink.Class {
	if e, ok := errors.AsType[*client.Error](err); ok {
		switch e.Result() { //nolint:exhaustive // the others are told by their texts, or are to be retried
		case client.MessageTooBig, client.InvalidMessage, client.SchemaFailure, client.AddToBatchFailed:
			return sink.Rejected
		}
	}
	text := err.Error()
	switch {
	case containsAny(text, rejectedTexts):
		return sink.Rejected
	case containsAny(text, unavailableTexts):
		return sink.Unavailable
	default:
		return sink.Retry
	}
}

func containsAny(text string, parts []string) bool {
	return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(text, part) })
}

// isMissing tells whether the broker says that the topic, its namespace or its tenant does not exist: it has one name for
// all three.
func isMissing(err error) bool { return err != nil && strings.Contains(err.Error(), "TopicNotFound") }

// isHeld tells whether another producer has the topic.
func isHeld(err error) bool {
	return containsAny(err.Error(), []string{"ProducerFenced", "ProducerBusy"})
}

// heldBy says whose the topic is that another producer has.
func heldBy(err error) error {
	if strings.Contains(err.Error(), "existing shared producers") {
		return fmt.Errorf("another producer holds the topic (an application, or the replicator of another cluster, where geo-replication leads to this one): %w", err)
	}
	return fmt.Errorf("another producer holds the topic (is another outboxd running?): %w", err)
}

// holder returns the name of the exclusive producer that has the topic, "" when the broker does not say it.
func holder(err error) string {
	_, name, _ := strings.Cut(err.Error(), "existing exclusive producer: ")
	return name
}

// failed is classified at the end of a call: a connection that was lost is the whole broker's failure where nobody listens any more, and what mends it is said.
func (s *Sink) failed(ctx context.Context, err error) *sink.Error {
	failed := s.classified(err)
	s.blameBroker(ctx, failed)
	failed.Mend = mendOf(err.Error())
	return failed
}

// mendOf says how to mend a destination that accepts nothing, "" where the error says it or that is not known.
func mendOf(text string) string {
	for _, m := range []struct{ part, mend string }{
		{"geo-replication leads to this one", "end the other producer; where it is a replicator, pulsar-admin namespaces set-clusters on the other clusters, without this one"},
		{"another producer holds the topic", "end the other producer, or give outboxd a topic of its own: order needs an exclusive one"},
		{"sub type!", "pulsar-admin namespaces set-subscription-types-enabled TENANT/NAMESPACE --types, with Exclusive among them: outboxd reads the end of the topic by it"},
		{"max consumers", "pulsar-admin namespaces set-max-consumers-per-topic TENANT/NAMESPACE, one more: outboxd reads the end of the topic as one"},
		{"prefixed by the authentication role", "pulsar-admin namespaces set-subscription-auth-mode TENANT/NAMESPACE --subscription-auth-mode None"},
		{"Authorization", "pulsar-admin namespaces grant-permission --actions produce,consume --role ROLE TENANT/NAMESPACE"},
		{"erminated", "the topic was terminated: delete it (pulsar-admin topics delete TOPIC), or route the events to another"},
		{"ServiceNotReady", "see that a broker may own the namespace and runs: pulsar-admin ns-isolation-policy list CLUSTER, pulsar-admin brokers list CLUSTER"},
		{"Quota", "let the subscriptions catch up, or pulsar-admin namespaces set-backlog-quota"},
	} {
		if strings.Contains(text, m.part) {
			return m.mend
		}
	}
	return ""
}

// classified returns the error of a call that sends no message, so leaves nothing behind. It adds what the client
// says of a failed connection in its log only.
func (s *Sink) classified(err error) *sink.Error {
	if e, ok := errors.AsType[*sink.Error](err); ok {
		return &sink.Error{Class: e.Class, FateKnown: true, Broker: e.Broker, Err: err}
	}
	class := classOf(err)
	if noAnswer(err) {
		class = sink.Unavailable
		if problem := s.heard.problem(); problem != "" {
			err = fmt.Errorf("%w: %s", err, s.scrub(problem))
		}
	}
	return known(class, oneLine{err})
}

// oneLine is an error without line breaks: the client joins its errors with them.
type oneLine struct{ error }

func (e oneLine) Error() string { return strings.ReplaceAll(e.error.Error(), "\n", ": ") }

func (e oneLine) Unwrap() error { return e.error }

// noAnswer tells whether the call ended without the broker having answered.
func noAnswer(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "connection error")
}

// scrub removes the credentials from a text, in case that a broker repeats them.
func (s *Sink) scrub(text string) string {
	secrets := []string{s.cfg.Token, s.cfg.Password}
	if token, err := s.cfg.token(); err == nil {
		secrets = append(secrets, token)
	}
	for _, secret := range secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "[hidden]")
		}
	}
	return text
}

// failure is how the messages of one destination ended: the first landed, the next doubtful share err, the rest was not attempted.
type failure struct {
	landed, doubtful int
	err              *sink.Error
}

func known(class sink.Class, err error) *sink.Error {
	return &sink.Error{Class: class, FateKnown: true, Err: err}
}

func unknown(err error) *sink.Error { return &sink.Error{Class: sink.Retry, Err: err} }

func errorsOf(failures []failure) []*sink.Error {
	errs := make([]*sink.Error, len(failures))
	for i := range failures {
		errs[i] = failures[i].err
	}
	return errs
}

// fill writes the results of one destination, whose messages stand at the given places of the batch.
func (f failure) fill(results []error, at []int) {
	rest := &sink.Error{Class: sink.Retry, FateKnown: f.err.FateKnown, Err: sink.ErrNotAttempted}
	for i, place := range at {
		switch {
		case i < f.landed:
			results[place] = nil
		case i < f.landed+f.doubtful:
			results[place] = f.err
		default:
			results[place] = rest
		}
	}
}
