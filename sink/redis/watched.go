package redis

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	redis "github.com/redis/go-redis/v9"

	"github.com/outboxd/outboxd/sink"
)

// watchPause is for how long the script appends everything after a transaction failed: somebody changes the streams (a consumer that deletes what it has
// read), or the user, a proxy or the server does not allow it.
const watchPause = time.Minute

// errDiscarded says that nothing of a transaction has landed, and that the script shall append, or say why it cannot be.
var errDiscarded = errors.New("the transaction was not carried out")

// watchable tells whether the call's messages are many and of one stream, and transactions are not paused.
func (s *Sink) watchable(c *call) bool {
	return !s.cfg.Unfenced && len(c.streams) == 1 && c.streams[0].count >= s.cfg.WatchFrom && c.asked.UnixNano() >= s.watchAgain.Load()
}

// appendWatched appends the messages by a transaction that the server carries out only if nobody has changed the stream since it was seen to end at the
// expected id. It is false where the script has to append them: nothing has landed then.
//
// The transaction is opened in a round trip of its own, so one that is refused is known before a message is sent; without MULTI the server would append
// each at once. One that comes late finds the stream changed, as a late script does.
// Source: https://redis.io/docs/latest/develop/using-commands/transactions/
func (s *Sink) appendWatched(ctx context.Context, c *call, st *stream) (settled bool) {
	node, err := s.client.node(ctx, st.name)
	if err != nil {
		return false
	}
	conn := node.Conn()
	defer func() { _ = conn.Close() }() // gives it back to the pool
	if err = openWatched(ctx, conn, st); err == nil {
		st.end, err = s.execute(ctx, c, conn, st)
	}
	if err != nil {
		abandon(ctx, conn)
		s.watchAgain.Store(c.asked.Add(watchPause).UnixNano())
	}
	if errors.Is(err, errDiscarded) {
		return false
	}
	if st.err = err; err == nil {
		st.ok = st.count
	}
	return true
}

// openWatched watches the stream, compares its end, and opens a transaction.
func openWatched(ctx context.Context, conn *redis.Conn, st *stream) error {
	pipe := conn.Pipeline()
	watch := pipe.Do(ctx, argWatch, &st.name)
	tail := pipe.Do(ctx, argEvalSHA, tailScript.sha, argOne, &st.name, "+", 0)
	multi := pipe.Do(ctx, argMulti)
	_, err := pipe.Exec(ctx)
	if _, unconnected := errors.AsType[*connectError](err); unconnected {
		return err
	}
	if watch.Err() != nil || tail.Err() != nil || multi.Err() != nil || err != nil {
		return errDiscarded
	}
	if end, _ := tail.Slice(); len(end) != 1 || end[0] != st.expected.id {
		return errDiscarded
	}
	return nil
}

// abandon makes the client close the connection: its next user must not inherit what it watches, or its transaction. A write whose time is over does.
func abandon(ctx context.Context, conn *redis.Conn) {
	ctx, cancel := context.WithDeadline(ctx, time.Unix(1, 0))
	defer cancel()
	_ = conn.Ping(ctx) // fails
}

// execute appends the messages within the open transaction, ends it, and returns the stream's new end.
func (s *Sink) execute(ctx context.Context, c *call, conn *redis.Conn, st *stream) (end string, err error) {
	t := &c.transaction
	t.cmds = t.cmds[:0]
	t.reply.Reset()
	at := st.first
	for n := range st.count {
		t.cmds = append(t.cmds, s.add(t, st, n, &c.batch[at]))
		at = c.next[at]
	}
	t.cmds = append(t.cmds, redis.NewRawWriteToCmd(ctx, &t.reply, argExec))
	pipe := conn.Pipeline()
	_ = pipe.BatchProcess(ctx, t.cmds...) // queues them; the error comes with Exec
	_, err = pipe.Exec(ctx)
	for n := range st.count {
		clear(t.adds[n].args) // they point into the batch
	}
	if err != nil {
		return "", err
	}
	return lastAdded(t.reply.String(), st.count)
}

// transaction is memory that a call uses again.
type transaction struct {
	adds  []add
	cmds  []redis.Cmder
	reply bytes.Buffer // to EXEC
}

// add is an XADD. What the server says to it within a transaction is not read: EXEC says all.
type add struct {
	args []any // of cmd
	cmd  *redis.RawWriteToCmd
}

// add makes the n-th XADD of a transaction.
func (s *Sink) add(t *transaction, st *stream, n int, m *sink.Message) redis.Cmder {
	if n == len(t.adds) {
		t.adds = append(t.adds, add{})
	}
	a := &t.adds[n]
	args := s.appendAdd(a.args[:0], st, n, m)
	if a.cmd == nil || len(args) != len(a.args) {
		*a = add{args, redis.NewRawWriteToCmd(context.Background(), io.Discard, args...)}
	}
	a.cmd.SetErr(nil)
	return a.cmd
}

// lastAdded returns the last of the n ids that stand in the reply to EXEC.
func lastAdded(reply string, n int) (id string, err error) {
	first, rest, _ := strings.Cut(reply, "\r\n")
	switch {
	case strings.HasPrefix(first, "-ERR EXEC without MULTI"): // each was appended at once
		return "", errors.New("MULTI was answered and not obeyed")
	case first == "*-1", strings.HasPrefix(first, "-"):
		return "", errDiscarded
	case first != "*"+strconv.Itoa(n):
		return "", fmt.Errorf("unexpected reply %.20q to EXEC for %d messages", first, n)
	}
	for i := range n {
		var size string
		if size, rest, _ = strings.Cut(rest, "\r\n"); !strings.HasPrefix(size, "$") {
			return "", fmt.Errorf("message %d of the batch failed alone: %s", i, size)
		}
		id, rest, _ = strings.Cut(rest, "\r\n")
	}
	return id, nil
}
