package redis

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"

	redis "github.com/redis/go-redis/v9"

	"github.com/outboxd/outboxd/sink"
)

// Sink appends to Redis Streams. It is a sink.Sink; the package comment says what it guarantees.
type Sink struct {
	cfg    Config
	client *client
	ends   *ends
	calls  chan *call // that nobody uses

	maxLen     any          // string, as an argument
	watchAgain atomic.Int64 // when a transaction may be tried again, in nanoseconds of Unix time
	bulkLimit  atomic.Int64 // proto-max-bulk-len; 0 until it was asked for
}

var _ sink.Sink = (*Sink)(nil)

// New returns a sink. It reads the certificates that cfg names and connects to nothing: a server that does not answer
// shows in Tail, Probe and Publish. The error holds every problem of cfg.
func New(cfg Config) (*Sink, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("redis sink: %w", err)
	}
	c, err := open(cfg)
	if err != nil {
		return nil, fmt.Errorf("redis sink: %w", err)
	}
	return &Sink{cfg: cfg, client: c, ends: newEnds(cfg.MaxStreams), calls: make(chan *call, callsKept), maxLen: strconv.Itoa(cfg.MaxLen)}, nil
}

// Close closes all connections. ctx is not used: nothing is waited for.
func (s *Sink) Close(context.Context) error {
	if err := s.client.close(); err != nil {
		return fmt.Errorf("close redis sink: %w", err)
	}
	return nil
}

// Probe asks the server for what it would refuse a tail or a batch for: the type of the key, the user's rights, memory, a replica. It reads the tail one
// entry deep, by the script's name and by its text, and sends an XADD with an id that no entry can have, which every server checks last. Without a fence
// it also runs a transaction that only reads. A node of a cluster that sends us on to another one, while a slot is moved, has answered.
func (s *Sink) Probe(ctx context.Context, destination string) error {
	ctx, done := s.begin(ctx)
	defer done()
	node, err := s.client.node(ctx, destination)
	if err != nil {
		return s.failAsking(ctx, "probe", destination, err)
	}
	pipe := node.Pipeline()
	add := pipe.XAdd(ctx, &redis.XAddArgs{Stream: destination, ID: "0-0", Values: []string{"probe", "1"}})
	length := pipe.XLen(ctx, destination)
	byName := pipe.Do(ctx, argEvalSHA, tailScript.sha, argOne, destination, "+", 1)
	byText := pipe.Do(ctx, argEval, tailScript.source, argOne, destination, "+", 1)
	var refusal func(execErr error) error
	if s.cfg.Unfenced {
		cmds := []redis.Cmder{pipe.Do(ctx, argMulti), pipe.Do(ctx, "XLEN", destination), pipe.Do(ctx, argExec)}
		refusal = func(execErr error) error {
			one := &stream{count: 1}
			one.readTransaction(cmds, execErr)
			return one.err
		}
	} else {
		compare := pipe.Do(ctx, "EVALSHA", appendScript.sha, 1, destination, "0", 0, "never", "", 0)
		refusal = func(execErr error) error {
			one := &portion{streams: []stream{{count: 1}}, sent: 1}
			one.take(one.ends(compare, execErr))
			return ignore(ignore(one.streams[0].err, "FENCED"), "NOSCRIPT")
		}
	}
	_, execErr := pipe.Exec(ctx)
	err = cmp.Or(s.here(length.Err()), s.here(ignore(add.Err(), "must be greater than 0-0")),
		s.here(ignore(byName.Err(), "NOSCRIPT")), s.here(byText.Err()), s.here(refusal(execErr)))
	if err == nil && add.Err() == nil {
		err = execErr // the connection was refused: no command has a result
	}
	if err != nil {
		return s.failAsking(ctx, "probe", destination, err)
	}
	return nil
}

// here returns err, or nil where it only says that another node of a cluster has the stream, which Publish and Tail follow. Transactions do not.
func (s *Sink) here(err error) error {
	if s.client.cluster == nil || s.cfg.Unfenced || !resendable(err) {
		return err
	}
	s.client.lookAgain()
	return nil
}

// begin bounds ctx by the timeout, and makes its cancellation felt. done ends the call.
func (s *Sink) begin(ctx context.Context) (bounded context.Context, done func()) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	stop := s.client.conns.watch(ctx)
	return ctx, func() {
		stop()
		cancel()
	}
}

// ignore returns err, or nil when it holds the text.
func ignore(err error, text string) error {
	if err != nil && strings.Contains(err.Error(), text) {
		return nil
	}
	return err
}
