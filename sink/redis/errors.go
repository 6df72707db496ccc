package redis

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"

	redis "github.com/redis/go-redis/v9"

	"github.com/outboxd/outboxd/sink"
)

// refusal is what one error code of the server means.
type refusal struct {
	class  sink.Class
	known  bool // nothing has landed
	broker bool // the server refuses everything, whatever the stream
	mend   string
}

// refusals are the codes by which a server refuses before it changes anything. Every other code has an unknown fate.
var refusals = map[string]refusal{
	"NOAUTH":      {sink.Unavailable, true, true, "set the user and the password"},
	"WRONGPASS":   {sink.Unavailable, true, true, "check the user and the password"},
	"NOPERM":      {sink.Unavailable, true, false, "grant the ACL user the stream's key and +xadd +xinfo|stream +xrevrange +xlen +evalsha +eval, with fenced: false also +multi +exec, for a database other than 0 also +select, for a cluster also +cluster|slots"},
	"WRONGTYPE":   {sink.Unavailable, true, false, "the key holds something that is no stream: rename it (RENAME), or choose another destination"},
	"DENIED":      {sink.Unavailable, true, true, "the server is in protected mode and takes connections from its own machine alone: give it a password (requirepass, or an ACL user), or set protected-mode no"},
	"READONLY":    {sink.Unavailable, true, true, "the server is a replica: give the master's address, or use redis+sentinel://"},
	"OOM":         {sink.Unavailable, true, true, "the server is at its maxmemory: raise maxmemory, or trim the streams (XTRIM, maxlen)"},
	"MISCONF":     {sink.Unavailable, true, true, "the server cannot save its data: make room on its disk, and look at its log"},
	"NOREPLICAS":  {sink.Unavailable, true, true, "fewer replicas are in step than min-replicas-to-write asks for: start them, or lower it"},
	"LOADING":     {sink.Unavailable, true, true, ""},
	"BUSY":        {sink.Unavailable, true, true, "a script of somebody else's runs for too long: SCRIPT KILL ends it"},
	"MASTERDOWN":  {sink.Unavailable, true, true, ""},
	"CLUSTERDOWN": {sink.Unavailable, true, false, "a part of the cluster's slots is not served"},
	"TRYAGAIN":    {sink.Retry, true, false, ""},
	"ASK":         {sink.Retry, true, false, ""},
	"MOVED":       {sink.Retry, true, false, ""},
	"NOSCRIPT":    {sink.Retry, true, false, ""},
	"FENCED":      {sink.Retry, false, false, ""},
}

// fail returns err with its class and fate. Whatever went wrong at a cluster, the stream may be served elsewhere by now, and other streams
// are: one of its nodes is never the whole broker.
func (s *Sink) fail(call, stream string, err error) *sink.Error {
	r := s.classify(err)
	if r.class != sink.Rejected && !errors.Is(err, sink.ErrTailUnread) {
		s.client.lookAgain()
	}
	if isReplica(err) {
		s.client.conns.retire() // the address may lead to the new master by now
	}
	said := clean(err)
	if reply, _ := replyOf(err); strings.HasPrefix(reply, "FENCED ") { // somebody else has appended, which is no failure of the stream
		said = fmt.Errorf("%w: %w", sink.ErrTailUnread, said)
	}
	return &sink.Error{
		Class: r.class, FateKnown: r.known, Broker: r.broker && s.client.cluster == nil,
		Err: fmt.Errorf("%s stream %q: %w", call, stream, said), Mend: r.mend,
	}
}

// failAsking is fail for a call that sends no message, so nothing of it can land.
func (s *Sink) failAsking(ctx context.Context, call, stream string, err error) *sink.Error {
	failed := s.fail(call, stream, err)
	failed.FateKnown = true
	if why := s.gone(ctx, err); why != nil {
		s.blameBroker(failed, why)
	}
	return failed
}

// classify says what is known of an error.
func (s *Sink) classify(err error) refusal {
	if reply, is := replyOf(err); is {
		return s.classifyReply(reply)
	}
	_, unconnected := errors.AsType[*connectError](err)
	switch {
	case errors.Is(err, sink.ErrTailUnread):
		return refusal{class: sink.Retry} // known, but only a tail read mends it
	case errors.Is(err, context.Canceled):
		return refusal{class: sink.Retry}
	case unconnected:
		return refusal{class: sink.Unavailable, known: true, broker: true}
	case errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrClosed):
		return refusal{class: sink.Unavailable, known: true}
	case isNetwork(err):
		return refusal{class: sink.Unavailable}
	case strings.Contains(err.Error(), "NOPERM"): // MULTI or EXEC is refused, and what stands between them may have landed
		return refusal{class: sink.Retry, mend: refusals["NOPERM"].mend}
	}
	return refusal{class: sink.Retry}
}

// ofOldServers stands before the errors of a script's commands, before Redis 7.
// Source: luaPushError of scripting.c, Redis 6.
var ofOldServers = regexp.MustCompile(`^(@user_script: [0-9]+: )?-?`)

// replyOf returns what the server said, where the error is its reply.
func replyOf(err error) (reply string, is bool) {
	said, is := errors.AsType[redis.Error](err)
	if !is || errors.Is(err, redis.Nil) {
		return "", false
	}
	return ofOldServers.ReplaceAllString(said.Error(), ""), true
}

func (s *Sink) classifyReply(text string) refusal {
	code, _, _ := strings.Cut(text, " ")
	if r, ok := refusals[code]; ok {
		if code == "MOVED" && s.client.cluster == nil {
			return refusal{sink.Unavailable, true, false, "the server is a node of a cluster: use redis+cluster://"} // it serves a part of the streams
		}
		return r
	}
	text = strings.TrimPrefix(text, "ERR ") // which what old servers say to a script is without
	for _, r := range unnamedRefusals {
		if strings.HasPrefix(text, r.prefix) {
			return r.refusal
		}
	}
	return refusal{class: sink.Retry}
}

// unnamedRefusals are those that are told by their texts.
var unnamedRefusals = []struct {
	prefix string
	refusal
}{
	{"The user executing the script", refusals["NOPERM"]}, // what a script is told instead
	{"ACL failure in script", refusals["NOPERM"]},
	{"max number of clients", refusal{sink.Unavailable, true, true, "the server is at its maxclients"}},
	{"AUTH", refusals["WRONGPASS"]},
	{"invalid password", refusals["WRONGPASS"]},
	{"Client sent AUTH", refusals["WRONGPASS"]},
	{"unknown command", refusal{sink.Unavailable, true, true, "streams need Redis 5 or later"}},
	{"Unknown Redis command", refusal{sink.Unavailable, true, true, "streams need Redis 5 or later"}},
}

// isNetwork tells whether the connection failed under a call.
func isNetwork(err error) bool {
	_, ok := errors.AsType[net.Error](err)
	return ok || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, context.DeadlineExceeded)
}

// clean returns err without what an old server repeats of the command: it may be a password or a payload.
func clean(err error) error {
	if before, _, found := strings.Cut(err.Error(), ", with args beginning with"); found {
		return errors.New(before)
	}
	return err
}

// isReplica tells whether the server says that it is one. It says so to clients of the time when it was the master, too, and keeps their connections.
func isReplica(err error) bool {
	reply, _ := replyOf(err)
	return strings.HasPrefix(reply, "READONLY ") || strings.HasPrefix(reply, "MASTERDOWN ")
}

// resendable tells whether the server said that another way of asking would have been right: the script by its text, or another
// node. Nothing was done then.
func resendable(err error) bool {
	reply, _ := replyOf(err)
	code, _, _ := strings.Cut(reply, " ")
	switch code {
	case "NOSCRIPT", "MOVED", "ASK", "TRYAGAIN":
		return true
	}
	return false
}
