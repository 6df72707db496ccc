package redis

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	redis "github.com/redis/go-redis/v9"

	"github.com/outboxd/outboxd/sink"
)

const (
	// firstRead is how many entries are looked at before their size is known.
	firstRead = 10
	// readEntries and readBytes are how many entries, and about how many bytes of them, one script goes through at most: the server
	// does nothing else meanwhile.
	readEntries = 4000
	readBytes   = 4 << 20
)

// Tail remembers where the stream ends, so that a batch that went out before can no longer land behind a
// later one, then reads the entries before that end. n may be 0: then nothing is read.
func (s *Sink) Tail(ctx context.Context, destination string, n int) ([]sink.Entry, error) {
	var entries []sink.Entry
	from, last, size := "+", "", 0
	for count := min(n, firstRead); ; count = nextRead(n-len(entries), len(entries), size) {
		reply, err := s.readPart(ctx, destination, from, count)
		if err != nil {
			return nil, err
		}
		if last == "" {
			last = reply.end
		}
		entries = append(entries, reply.entries...)
		size += reply.size
		if len(reply.entries) < count || len(entries) >= n {
			break
		}
		var ok bool
		if from, ok = before(reply.oldest); !ok {
			break
		}
	}
	if s.cfg.Unfenced {
		last = anyEnd
	}
	s.ends.put(destination, end{id: last})
	slices.Reverse(entries)
	return entries, nil
}

// readPart reads count entries, at most as long as a call may take.
func (s *Sink) readPart(ctx context.Context, destination, from string, count int) (tailReply, error) {
	ctx, done := s.begin(ctx)
	defer done()
	var reply tailReply
	err := s.askBulkLimit(ctx, destination)
	if err == nil {
		reply, err = s.readTail(ctx, destination, from, count)
	}
	if err != nil {
		return tailReply{}, s.failAsking(ctx, "read the tail of", destination, err)
	}
	return reply, nil
}

// nextRead returns how many of the remaining entries to read at once, going by the size of those that were read.
func nextRead(remaining, read, size int) int {
	if read == 0 {
		return remaining
	}
	return max(1, min(remaining, readEntries, readBytes/max(1, size/read)))
}

// askBulkLimit asks for proto-max-bulk-len, once. Where that is not allowed, Redis's default is assumed. It fails where there is no connection, for which the read
// that follows would wait anew.
func (s *Sink) askBulkLimit(ctx context.Context, destination string) error {
	const setting = "proto-max-bulk-len"
	if s.bulkLimit.Load() > 0 {
		return nil
	}
	node, err := s.client.node(ctx, destination)
	if err != nil {
		return nil // the read that follows reports it
	}
	values, err := node.ConfigGet(ctx, setting).Result()
	if _, ok := errors.AsType[*connectError](err); ok {
		return err
	}
	if err != nil {
		if !s.classify(err).broker && !isNetwork(err) { // it is this question that is refused
			s.bulkLimit.Store(serverBulkLimit)
		}
		return nil
	}
	if limit, err := strconv.ParseInt(values[setting], 10, 64); err == nil && limit > 0 {
		s.bulkLimit.Store(limit)
		return nil
	}
	s.bulkLimit.Store(serverBulkLimit)
	return nil
}

// tailReply is one reply of the script.
type tailReply struct {
	end     string // the stream's last-generated-id
	oldest  string // id of the last of entries
	entries []sink.Entry
	size    int // bytes of the entries' values
}

func (s *Sink) readTail(ctx context.Context, destination, from string, count int) (tailReply, error) {
	node, err := s.client.node(ctx, destination)
	if err != nil {
		return tailReply{}, &connectError{err}
	}
	reply, err := node.Do(ctx, argEvalSHA, tailScript.sha, argOne, destination, from, count).Slice()
	if resendable(err) {
		cmd := redis.NewCmd(ctx, argEval, tailScript.source, argOne, destination, from, count)
		_ = s.client.process(ctx, cmd) // the command holds the error
		reply, err = cmd.Slice()
	}
	if err != nil {
		return tailReply{}, err
	}
	return parseTail(reply)
}

func parseTail(reply []any) (t tailReply, err error) {
	if len(reply) == 0 {
		return t, fmt.Errorf("unexpected empty reply")
	}
	t.end, _ = reply[0].(string)
	if t.end == "" {
		return t, fmt.Errorf("unexpected end of stream %v", reply[0])
	}
	for _, item := range reply[1:] {
		var fields [6]string
		values, _ := item.([]any)
		if len(values) != len(fields) {
			return t, fmt.Errorf("unexpected entry of %d fields", len(values))
		}
		for i, value := range values {
			fields[i], _ = value.(string)
		}
		size, err := strconv.Atoi(fields[1])
		if err != nil {
			return t, fmt.Errorf("unexpected size of entry %s: %w", fields[0], err)
		}
		t.size += size
		t.oldest = fields[0]
		t.entries = append(t.entries, sink.ReadEntry(fields[2], fields[3], fields[4], fields[5]))
	}
	return t, nil
}

// before returns the greatest id below id, for a range without its end: Redis 5 has no exclusive ranges. It is false for the
// least id.
func before(id string) (string, bool) {
	ms, seq, ok := strings.Cut(id, "-")
	m, err := strconv.ParseUint(ms, 10, 64)
	n, err2 := strconv.ParseUint(seq, 10, 64)
	if !ok || err != nil || err2 != nil || m == 0 && n == 0 {
		return "", false
	}
	if n > 0 {
		return fmt.Sprintf("%d-%d", m, n-1), true
	}
	return fmt.Sprintf("%d-%d", m-1, uint64(math.MaxUint64)), true
}
