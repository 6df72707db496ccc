package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	redis "github.com/redis/go-redis/v9"

	"github.com/outboxd/outboxd/sink"
)

// Publish appends each stream's messages by one script, all streams of a server in one round trip.
func (s *Sink) Publish(ctx context.Context, batch []sink.Message) []error {
	if len(batch) == 0 {
		return nil
	}
	ctx, done := s.begin(ctx)
	defer done()
	c := s.calls.Get().(*call)
	defer s.release(c)
	c.split(batch)
	for i := range c.streams {
		s.prepare(c, &c.streams[i])
	}
	s.send(ctx, c)
	gone := s.isGone(ctx, c.lostConnection())
	for i := range c.streams {
		s.finish(c, &c.streams[i], gone)
	}
	return c.results
}

// lostConnection returns the error of a stream whose connection failed, nil when there is none.
func (c *call) lostConnection() error {
	for i := range c.streams {
		if err := c.streams[i].err; err != nil && isNetwork(err) {
			return err
		}
	}
	return nil
}

// call is one Publish: the streams of its batch, and memory that the next call uses again.
type call struct {
	batch   []sink.Message
	next    []int // next[i] is the index of the message after i in the same stream, or -1
	streams []stream
	index   map[string]int // destination to stream
	args    []any
	results []error // nil while no message has failed
}

// stream is the part of a batch that goes to one stream.
type stream struct {
	name        string
	first, last int // indices of the batch
	count       int // how many of the messages are sent: those before the first that cannot be
	expected    string
	cut         error // why the message after the sent ones was not sent, if there is one

	args []any
	cmds []redis.Cmder
	end  string // the stream's new end, once everything sent has landed
	err  error  // why the sent messages have not landed, or may not have
	ok   int    // how many of the sent have landed all the same
}

// split finds the streams of the batch.
func (c *call) split(batch []sink.Message) {
	c.batch = batch
	current := -1
	for i := range batch {
		c.next = append(c.next, -1)
		name := batch[i].Destination
		if current < 0 || c.streams[current].name != name {
			at, known := c.index[name]
			if !known {
				at = len(c.streams)
				c.index[name] = at
				c.streams = append(c.streams, stream{name: name, first: i, last: -1})
			}
			current = at
		}
		st := &c.streams[current]
		if st.last >= 0 {
			c.next[st.last] = i
		}
		st.last = i
		st.count++
	}
}

func (s *Sink) release(c *call) {
	clear(c.args) // they point into the batch
	clear(c.streams)
	clear(c.index)
	c.batch, c.results = nil, nil
	c.next, c.streams, c.args = c.next[:0], c.streams[:0], c.args[:0]
	s.calls.Put(c)
}

// prepare decides what of the stream can be sent and makes the commands.
func (s *Sink) prepare(c *call, st *stream) {
	var known bool
	if st.expected, known = s.ends.take(st.name); !known {
		st.count, st.cut = 0, s.fail("append to", st.name, ErrTailUnread)
		return
	}
	n := 0
	for i := st.first; i >= 0; i = c.next[i] {
		if err := s.checkSize(&c.batch[i]); err != nil {
			st.count, st.cut = n, err
			break
		}
		n++
	}
	switch {
	case st.count == 0:
		return
	case s.cfg.Unfenced:
		s.transaction(c, st)
	default:
		s.compareAndAppend(c, st)
	}
}

// checkSize rejects what the server would cut the connection for.
func (s *Sink) checkSize(m *sink.Message) error {
	limit := s.cfg.MaxMessageBytes
	size := m.Size()
	if bulk := int(s.bulkLimit.Load()); bulk > 0 && bulk < limit {
		limit = bulk
	}
	if size <= limit {
		return nil
	}
	return &sink.Error{Class: sink.Rejected, FateKnown: true, Err: fmt.Errorf(
		"append to stream %q: the message has %d bytes, the limit is %d (max_message_bytes, and the server's proto-max-bulk-len)",
		m.Destination, size, limit)}
}

// Arguments that every command shares; boxed once.
var (
	argOne     any = "1"
	argAny     any = "*"
	argMaxLen  any = "MAXLEN"
	argAbout   any = "~"
	argPayload any = "payload"
	argEvalSHA any = "EVALSHA"
	argEval    any = "EVAL"
	argXAdd    any = "XADD"
	argMulti   any = "MULTI"
	argExec    any = "EXEC"
)

// bytesArg is a byte slice as an argument of a command. A pointer to one fits into an interface without an allocation.
type bytesArg []byte

// MarshalBinary returns the bytes.
func (b *bytesArg) MarshalBinary() ([]byte, error) { return *b, nil }

// appendFields appends the message's fields and their values.
func appendFields(args []any, m *sink.Message) []any {
	for i := range m.Headers {
		h := &m.Headers[i]
		args = append(args, &h.Name, (*bytesArg)(&h.Value))
	}
	return append(args, argPayload, (*bytesArg)(&m.Body))
}

// compareAndAppend makes the call of the script.
func (s *Sink) compareAndAppend(c *call, st *stream) {
	from := len(c.args)
	c.args = append(c.args, argEvalSHA, appendScript.sha, argOne, st.name, &st.expected, s.maxLen)
	var names []sink.Header // of the run of messages that have these fields
	var messages *int       // how many they are
	i := st.first
	for n := range st.count {
		m := &c.batch[i]
		if n == 0 || !sameNames(names, m.Headers) {
			names, messages = m.Headers, new(int)
			c.args = append(c.args, len(names)+1, messages)
			for k := range names {
				c.args = append(c.args, &names[k].Name)
			}
			c.args = append(c.args, argPayload)
		}
		*messages++
		for k := range m.Headers {
			c.args = append(c.args, (*bytesArg)(&m.Headers[k].Value))
		}
		c.args = append(c.args, (*bytesArg)(&m.Body))
		i = c.next[i]
	}
	st.args = c.args[from:len(c.args):len(c.args)]
	st.cmds = []redis.Cmder{redis.NewCmd(context.Background(), st.args...)}
}

// sameNames tells whether the headers have the same names in the same order.
func sameNames(a, b []sink.Header) bool {
	return slices.EqualFunc(a, b, func(x, y sink.Header) bool { return x.Name == y.Name })
}

// send runs the commands of all streams: one pipeline for each server.
func (s *Sink) send(ctx context.Context, c *call) {
	if s.client.cluster == nil {
		s.sendTo(ctx, s.client.single, c, func(*stream) bool { return true })
		return
	}
	nodes := make(map[*redis.Client]struct{})
	owners := make([]*redis.Client, len(c.streams))
	for i := range c.streams {
		st := &c.streams[i]
		if st.count == 0 {
			continue
		}
		node, err := s.client.node(ctx, st.name)
		if err != nil {
			st.err = &connectError{err}
			continue
		}
		owners[i] = node
		nodes[node] = struct{}{}
	}
	var wait sync.WaitGroup
	for node := range nodes {
		wait.Go(func() {
			s.sendTo(ctx, node, c, func(st *stream) bool { return owners[c.index[st.name]] == node })
		})
	}
	wait.Wait()
}

// sendTo runs the commands of the streams that belong to the node.
func (s *Sink) sendTo(ctx context.Context, node *redis.Client, c *call, belongs func(*stream) bool) {
	pipe := node.Pipeline()
	for i := range c.streams {
		if st := &c.streams[i]; st.count > 0 && belongs(st) {
			for _, cmd := range st.cmds {
				_ = pipe.Process(ctx, cmd) // queues it; the error comes with Exec
			}
		}
	}
	if pipe.Len() == 0 {
		return
	}
	_, execErr := pipe.Exec(ctx)
	for i := range c.streams {
		st := &c.streams[i]
		if st.count == 0 || !belongs(st) {
			continue
		}
		if s.cfg.Unfenced {
			st.readTransaction(execErr)
			continue
		}
		st.read(st.cmds[0].(*redis.Cmd), execErr)
		if resendable(st.err) {
			s.resend(ctx, st)
		}
	}
}

// read takes the script's reply.
func (st *stream) read(cmd *redis.Cmd, execErr error) {
	st.end, st.err = "", cmd.Err()
	if st.err != nil {
		return
	}
	if end, ok := cmd.Val().(string); ok {
		st.end, st.ok = end, st.count
		return
	}
	// Where the connection was refused (a wrong password), go-redis gives the error to the pipeline and not to its commands.
	if st.err = execErr; st.err == nil {
		st.err = fmt.Errorf("unexpected reply %T", cmd.Val())
	}
}

// resend runs the script once more, by its text and wherever the cluster now has the stream. Should the first
// have landed after all, the script refuses.
func (s *Sink) resend(ctx context.Context, st *stream) {
	st.args[0], st.args[1] = argEval, appendScript.source
	cmd := redis.NewCmd(ctx, st.args...)
	var err error
	if s.client.cluster != nil {
		err = s.client.cluster.Process(ctx, cmd)
	} else {
		err = s.client.single.Process(ctx, cmd)
	}
	st.read(cmd, err)
}

// finish remembers the stream's end if it is known, and gives the messages their results. gone says that the server refuses new connections.
func (s *Sink) finish(c *call, st *stream, gone bool) {
	err := st.cut
	switch {
	case st.err != nil:
		failed := s.fail("append to", st.name, st.err)
		failed.Broker = failed.Broker || gone && isNetwork(st.err)
		if failed.FateKnown {
			s.ends.put(st.name, st.expected)
		}
		err = failed
	case st.count > 0:
		s.ends.put(st.name, st.end)
	case !errors.Is(err, ErrTailUnread):
		s.ends.put(st.name, st.expected)
	}
	if err == nil {
		return
	}
	if c.results == nil {
		c.results = make([]error, len(c.batch))
	}
	n := 0
	for i := st.first; i >= 0; i = c.next[i] {
		switch {
		case n == st.ok:
			c.results[i] = err
		case n > st.ok:
			c.results[i] = sink.ErrNotAttempted
		}
		n++
	}
}
