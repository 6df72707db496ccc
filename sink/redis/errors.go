package redis

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	redis "github.com/redis/go-redis/v9"

	"github.com/outboxd/outboxd/sink"
)

// ErrTailUnread says that a stream was refused because its end is not known: Tail must be called first. Nothing has landed.
var ErrTailUnread = errors.New("the end of the stream is not known, read its tail first")

// refusal is what one error code of the server means.
type refusal struct {
	class sink.Class
	known bool   // nothing has landed
	mend  string // what a person can do
}

// refusals are the codes by which a server refuses before it changes anything. Every other code has an unknown fate.
var refusals = map[string]refusal{
	"NOAUTH":      {sink.Unavailable, true, "set the user and the password"},
	"WRONGPASS":   {sink.Unavailable, true, "check the user and the password"},
	"NOPERM":      {sink.Unavailable, true, "grant the ACL user the stream's key and +xadd +xinfo|stream +xrevrange +xlen +evalsha +eval"},
	"WRONGTYPE":   {sink.Unavailable, true, "the key holds something that is no stream: choose another destination or remove it"},
	"READONLY":    {sink.Unavailable, true, "the server is a replica: give the master's address, or use redis+sentinel://"},
	"OOM":         {sink.Unavailable, true, "the server is at its maxmemory: raise it, or trim the streams (maxlen)"},
	"MISCONF":     {sink.Unavailable, true, "the server cannot save its data: look at its log"},
	"NOREPLICAS":  {sink.Unavailable, true, "fewer replicas are in step than min-replicas-to-write asks for"},
	"LOADING":     {sink.Unavailable, true, ""},
	"BUSY":        {sink.Unavailable, true, "a script of somebody else's runs for too long: SCRIPT KILL ends it"},
	"MASTERDOWN":  {sink.Unavailable, true, ""},
	"CLUSTERDOWN": {sink.Unavailable, true, "a part of the cluster's slots is not served"},
	"TRYAGAIN":    {sink.Retry, true, ""},
	"ASK":         {sink.Retry, true, ""},
	"MOVED":       {sink.Retry, true, ""},
	"NOSCRIPT":    {sink.Retry, true, ""},
	"FENCED":      {sink.Retry, false, ""},
}

// fail returns err with its class and fate. Whatever went wrong at a cluster, the stream may be served elsewhere by now.
func (s *Sink) fail(call, stream string, err error) *sink.Error {
	class, known, mend := s.classify(err)
	if class != sink.Rejected && !errors.Is(err, ErrTailUnread) {
		s.client.lookAgain()
	}
	if mend != "" {
		mend = " (" + mend + ")"
	}
	return &sink.Error{Class: class, FateKnown: known, Err: fmt.Errorf("%s stream %q: %w%s", call, stream, clean(err), mend)}
}

// failAsking is fail for a call that sends no message, so nothing of it can land.
func (s *Sink) failAsking(call, stream string, err error) *sink.Error {
	failed := s.fail(call, stream, err)
	failed.FateKnown = true
	return failed
}

func (s *Sink) classify(err error) (class sink.Class, fateKnown bool, mend string) {
	var reply redis.Error
	if errors.As(err, &reply) && !errors.Is(err, redis.Nil) {
		return s.classifyReply(reply.Error())
	}
	var unconnected *connectError
	switch {
	case errors.Is(err, ErrTailUnread):
		return sink.Retry, false, "" // known, but only a tail read mends it
	case errors.Is(err, context.Canceled):
		return sink.Retry, false, ""
	case errors.As(err, &unconnected), errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrClosed):
		return sink.Unavailable, true, ""
	case isNetwork(err):
		return sink.Unavailable, false, ""
	}
	return sink.Retry, false, ""
}

func (s *Sink) classifyReply(text string) (class sink.Class, fateKnown bool, mend string) {
	code, _, _ := strings.Cut(text, " ")
	if r, ok := refusals[code]; ok {
		if code == "MOVED" && s.client.cluster == nil {
			return sink.Unavailable, true, "the server is a node of a cluster: use redis+cluster://"
		}
		return r.class, r.known, r.mend
	}
	switch {
	case strings.HasPrefix(text, "ERR The user executing the script"), strings.HasPrefix(text, "ERR ACL failure in script"):
		r := refusals["NOPERM"] // what a script is told instead
		return r.class, r.known, r.mend
	case strings.HasPrefix(text, "ERR max number of clients"):
		return sink.Unavailable, true, ""
	case strings.HasPrefix(text, "ERR AUTH"), strings.HasPrefix(text, "ERR invalid password"), strings.HasPrefix(text, "ERR Client sent AUTH"):
		return sink.Unavailable, true, "check the user and the password"
	case strings.HasPrefix(text, "ERR unknown command"), strings.HasPrefix(text, "ERR Unknown Redis command"):
		return sink.Unavailable, true, "streams need Redis 5 or later"
	}
	return sink.Retry, false, ""
}

// isNetwork tells whether the connection failed under a call.
func isNetwork(err error) bool {
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, context.DeadlineExceeded)
}

// clean returns err without what an old server repeats of the command: it may be a password or a payload.
func clean(err error) error {
	if before, _, found := strings.Cut(err.Error(), ", with args beginning with"); found {
		return errors.New(before)
	}
	return err
}

// resendable tells whether the server said that another way of asking would have been right: the script by its text, or another
// node. Nothing was done then.
func resendable(err error) bool {
	var reply redis.Error
	if !errors.As(err, &reply) {
		return false
	}
	code, _, _ := strings.Cut(reply.Error(), " ")
	switch code {
	case "NOSCRIPT", "MOVED", "ASK", "TRYAGAIN":
		return true
	}
	return false
}
