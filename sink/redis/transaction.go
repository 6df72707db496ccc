package redis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	redis "github.com/redis/go-redis/v9"
)

// transaction makes MULTI, an XADD for each message, EXEC: what fails while it is queued lands not at all.
func (s *Sink) transaction(c *call, st *stream) []redis.Cmder {
	ctx := context.Background()
	cmds := make([]redis.Cmder, 0, st.count+2)
	cmds = append(cmds, redis.NewCmd(ctx, argMulti))
	i := st.first
	for n := range st.count {
		from := len(c.args)
		c.args = s.appendAdd(c.args, st, n, &c.batch[i])
		cmds = append(cmds, redis.NewCmd(ctx, c.args[from:len(c.args):len(c.args)]...))
		i = c.next[i]
	}
	return append(cmds, redis.NewCmd(ctx, argExec))
}

// errUnread leaves a fate unknown.
var errUnread = errors.New("the replies stand behind a refusal within a transaction, which the client does not read to its end")

// readTransactions takes the replies. go-redis leaves what follows a typed error in EXEC's list unread, and takes it for the next replies.
func readTransactions(portions []*portion, execErr error) {
	for i, p := range portions {
		if !p.streams[0].readTransaction(p.cmds, execErr) {
			for _, later := range portions[i+1:] {
				later.streams[0].err = errUnread
			}
			return
		}
	}
}

// readTransaction takes the replies, and tells whether they were read to their end. EXEC says what became of each XADD; when it was aborted, the first command
// that could not be queued says why.
func (st *stream) readTransaction(cmds []redis.Cmder, execErr error) (whole bool) {
	last := len(cmds) - 1
	exec := cmds[last].(*redis.Cmd)
	replies, executed := exec.Val().([]any)
	if refusal, refused := replyOf(cmds[0].Err()); refused && slices.ContainsFunc(cmds[1:last], func(c redis.Cmder) bool { return c.Err() == nil }) {
		// Without MULTI the server appends each at once.
		st.err = fmt.Errorf("MULTI is refused (grant +multi and +exec, or set fenced: true): %s", refusal)
		return true
	}
	if exec.Err() != nil || !executed || len(replies) != st.count {
		queued := cmp.Or(errorsOf(cmds[:last])...)
		if reply, refused := replyOf(exec.Err()); refused && queued == nil && !isRedirection(reply) {
			st.err = fmt.Errorf("EXEC is refused, or a part of it: %s", reply)
			return false
		}
		st.err = cmp.Or(queued, exec.Err(), execErr)
		if st.err == nil {
			st.err = fmt.Errorf("unexpected reply %T to EXEC", exec.Val())
		}
		return true
	}
	for i, reply := range replies {
		err, failed := reply.(error)
		switch {
		case failed && st.err == nil:
			st.err, st.ok = err, i
		case !failed && st.err != nil: // a later one landed: only the tail can tell
			st.err = fmt.Errorf("message %d of the batch failed alone: %s", st.ok, st.err.Error())
			return true
		}
	}
	if st.err == nil {
		st.end, st.ok = anyEnd, st.count
	}
	return true
}

// isRedirection tells whether a node of a cluster has refused EXEC for a slot that moved meanwhile: all of it, before it has done anything. A command within
// EXEC is not asked for its slot again.
// Source: processCommand of server.c, Redis 7.0 and Valkey 9.
func isRedirection(reply string) bool {
	code, _, _ := strings.Cut(reply, " ")
	return slices.Contains([]string{"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"}, code)
}

// anyEnd stands for the end of a stream where no end is compared: it says that the tail was read.
const anyEnd = "*"

func errorsOf(cmds []redis.Cmder) []error {
	errs := make([]error, 0, len(cmds)+2)
	for _, cmd := range cmds {
		errs = append(errs, cmd.Err())
	}
	return errs
}
