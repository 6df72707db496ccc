package redis

import (
	"context"
	"fmt"
	"slices"
	"sync"

	redis "github.com/redis/go-redis/v9"

	"github.com/outboxd/outboxd/sink"
)

// portion is what one script or transaction appends: to one stream, or to several of one server.
type portion struct {
	node    *redis.Client
	streams []stream // a part of call.streams; to those with a count of 0 nothing is sent
	sent    int      // how many of them are sent to

	messages, bytes int

	args []any // of the script
	cmds []redis.Cmder
}

// Limits of a portion of more than one stream. A script keeps the server from everything else, and from a hundred messages what the script itself costs
// is not to be measured.
const (
	portionMessages = 256
	portionBytes    = 1 << 20
)

// manyStreams is from how many streams of a portion on their first messages are given ids: comparing ends would cost more than all else there. With fewer
// an entry's time is worth more.
const manyStreams = 16

// portions shares out what is sent. Streams of a cluster, and those of transactions, stand alone.
func (s *Sink) portions(ctx context.Context, c *call) []*portion {
	var all []*portion
	alone := s.cfg.Unfenced || s.client.cluster != nil
	from := 0 // of the last portion's streams
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
		var p *portion
		if len(all) > 0 {
			p = all[len(all)-1]
		}
		if alone || p == nil || p.messages+st.count > portionMessages || p.bytes+st.bytes > portionBytes {
			p, from = &portion{node: node}, i
			all = append(all, p)
		}
		p.streams = c.streams[from : i+1]
		p.sent++
		p.messages += st.count
		p.bytes += st.bytes
	}
	for _, p := range all {
		s.compose(c, p)
	}
	return all
}

// compose makes the portion's commands.
func (s *Sink) compose(c *call, p *portion) {
	if s.cfg.Unfenced {
		p.cmds = s.transaction(c, &p.streams[0])
		return
	}
	p.args = s.compareAndAppend(c, p)
	p.cmds = []redis.Cmder{redis.NewCmd(context.Background(), p.args...)}
}

// compareAndAppend makes the call of the script.
func (s *Sink) compareAndAppend(c *call, p *portion) []any {
	from := len(c.args)
	c.args = append(c.args, argEvalSHA, appendScript.sha, p.sent)
	for i := range p.streams {
		if st := &p.streams[i]; st.count > 0 {
			c.args = append(c.args, &st.name)
		}
	}
	c.findShapes(p)
	c.args = append(c.args, s.maxLen, len(c.shapes))
	for _, names := range c.shapes {
		c.args = append(c.args, len(names)+1)
		for k := range names {
			c.args = append(c.args, &names[k].Name)
		}
		c.args = append(c.args, argPayload)
	}
	shapeOf := c.shapeOf
	for i := range p.streams {
		if st := &p.streams[i]; st.count > 0 {
			st.next = ""
			if p.sent >= manyStreams {
				st.next = st.expected.next(c.asked)
			}
			c.appendMessages(st, shapeOf[:st.count])
			shapeOf = shapeOf[st.count:]
		}
	}
	return c.args[from:len(c.args):len(c.args)]
}

// findShapes finds the different lists of fields that the portion's messages have.
func (c *call) findShapes(p *portion) {
	c.shapes, c.shapeOf = c.shapes[:0], c.shapeOf[:0]
	last := 0
	for i := range p.streams {
		st := &p.streams[i]
		at := st.first
		for range st.count {
			headers := c.batch[at].Headers
			if len(c.shapes) == 0 || !sameNames(c.shapes[last], headers) {
				last = slices.IndexFunc(c.shapes, func(names []sink.Header) bool { return sameNames(names, headers) })
			}
			if last < 0 {
				last = len(c.shapes)
				c.shapes = append(c.shapes, headers)
			}
			c.shapeOf = append(c.shapeOf, last)
			at = c.next[at]
		}
	}
}

// sameNames tells whether the headers have the same names in the same order.
func sameNames(a, b []sink.Header) bool {
	return slices.EqualFunc(a, b, func(x, y sink.Header) bool { return x.Name == y.Name })
}

// appendMessages appends the script's arguments for one stream.
func (c *call) appendMessages(st *stream, shapeOf []int) {
	following := new(int)
	c.args = append(c.args, &st.expected.id, &st.next, following)
	from := len(c.args)
	var run *int // how many messages of one shape follow each other
	at := st.first
	for n, shape := range shapeOf {
		m := &c.batch[at]
		if n == 0 || shape != shapeOf[n-1] {
			run = new(int)
			c.args = append(c.args, shape+1, run) // Lua counts from 1
		}
		*run++
		for k := range m.Headers {
			c.args = append(c.args, (*bytesArg)(&m.Headers[k].Value))
		}
		c.args = append(c.args, (*bytesArg)(&m.Body))
		at = c.next[at]
	}
	*following = len(c.args) - from
}

// send runs all commands: one pipeline for each server.
func (s *Sink) send(ctx context.Context, c *call) {
	if s.watchable(c) && s.appendWatched(ctx, c, &c.streams[0]) {
		return
	}
	portions := s.portions(ctx, c)
	if s.client.cluster == nil {
		s.sendTo(ctx, c, portions)
		return
	}
	nodes := make(map[*redis.Client][]*portion)
	for _, p := range portions {
		nodes[p.node] = append(nodes[p.node], p)
	}
	var wait sync.WaitGroup
	for _, portions := range nodes {
		wait.Go(func() { s.sendTo(ctx, c, portions) })
	}
	wait.Wait()
}

// sendTo runs the commands of one server.
func (s *Sink) sendTo(ctx context.Context, c *call, portions []*portion) {
	if len(portions) == 0 {
		return
	}
	pipe := portions[0].node.Pipeline()
	for _, p := range portions {
		for _, cmd := range p.cmds {
			_ = pipe.Process(ctx, cmd) // queues it; the error comes with Exec
		}
	}
	_, execErr := pipe.Exec(ctx)
	if s.cfg.Unfenced {
		readTransactions(portions, execErr)
		return
	}
	for _, p := range portions {
		ends, err := p.ends(p.cmds[0].(*redis.Cmd), execErr)
		if resendable(err) {
			ends, err = s.resend(ctx, p)
		}
		if _, refused := replyOf(err); refused && p.sent > 1 {
			s.sendTo(ctx, c, s.apart(c, p))
			continue
		}
		p.take(ends, err)
	}
}

// ends are the script's reply.
func (p *portion) ends(cmd *redis.Cmd, execErr error) ([]any, error) {
	if err := cmd.Err(); err != nil {
		return nil, err
	}
	if ends, ok := cmd.Val().([]any); ok && len(ends) == p.sent {
		return ends, nil
	}
	// Where the connection was refused (a wrong password), go-redis gives the error to the pipeline and not to its commands.
	if execErr != nil {
		return nil, execErr
	}
	return nil, fmt.Errorf("unexpected reply %T", cmd.Val())
}

// resend runs the script once more, by its text and wherever the cluster now has the stream. Should the first
// have landed after all, the script refuses.
func (s *Sink) resend(ctx context.Context, p *portion) ([]any, error) {
	p.args[0], p.args[1] = argEval, appendScript.source
	cmd := redis.NewCmd(ctx, p.args...)
	return p.ends(cmd, s.client.process(ctx, once{cmd}))
}

// once is a command that a cluster's client sends to where the servers say, and not again after a connection was lost: that the last attempt found nobody would
// say nothing of the first.
type once struct{ *redis.Cmd }

// NoRetry tells the client so.
func (once) NoRetry() bool { return true }

// apart are portions of one stream each, of one that the server refuses as a whole: it may mean one of the streams only, by its name (an
// ACL). What has landed after all, the scripts refuse.
func (s *Sink) apart(c *call, p *portion) []*portion {
	var all []*portion
	for i := range p.streams {
		if st := &p.streams[i]; st.count > 0 {
			one := &portion{node: p.node, streams: p.streams[i : i+1], sent: 1}
			s.compose(c, one)
			all = append(all, one)
		}
	}
	return all
}

// take gives each stream its end, or the error.
func (p *portion) take(ends []any, err error) {
	n := 0
	for i := range p.streams {
		st := &p.streams[i]
		if st.count == 0 {
			continue
		}
		if st.err = err; err == nil {
			st.end, st.err = endIn(ends[n])
		}
		if st.err == nil {
			st.ok = st.count
		}
		n++
	}
}

// serverError is what the server said in another place than that of a reply's error: to a command of a script, or to a connection that it turned away.
type serverError string

func (e serverError) Error() string { return string(e) }

// RedisError tells that it is a reply.
func (serverError) RedisError() {}

// endIn returns what the script says of one stream: its new end, or the error in the place of that.
func endIn(reply any) (end string, err error) {
	if end, ok := reply.(string); ok {
		return end, nil
	}
	if list, ok := reply.([]any); ok && len(list) == 1 {
		if text, ok := list[0].(string); ok {
			return "", serverError(text)
		}
	}
	return "", fmt.Errorf("unexpected end %T", reply)
}
