package sink

import "errors"

// Class says what a failed message needs before it can be accepted.
type Class int

// The classes of errors.
const (
	Retry       Class = iota // try again: the class of every error that nothing is known of
	Unavailable              // the destination, or the whole broker, refuses everything for now
	Rejected                 // this message can never be accepted as it is
)

// String returns the class in lower case, as logs and metrics name it.
func (c Class) String() string {
	switch c {
	case Rejected:
		return "rejected"
	case Unavailable:
		return "unavailable"
	default:
		return "retry"
	}
}

// Error is a failed message or call with what is known of it.
type Error struct {
	Class Class
	// FateKnown says that nothing of the destination's batch from this message on has landed and nothing will. An error that
	// is not an Error has an unknown fate.
	FateKnown bool
	// Broker says that the whole broker refuses or does not answer, not the destination alone. It goes with Unavailable.
	Broker bool
	Err    error
	Mend   string // what a person can do about it, where that is known
}

func (e *Error) Error() string {
	text := e.Err.Error()
	if e.Mend != "" {
		text += " (" + e.Mend + ")"
	}
	if !e.FateKnown {
		text += " (it may have landed)"
	}
	return text
}

// Unwrap returns the broker's own error.
func (e *Error) Unwrap() error { return e.Err }

// ErrTailUnread is the refusal of a destination whose end the sink does not know: its tail was not read since its last unknown fate, the sink, which keeps
// the ends of so many destinations only, has let go of it since, or somebody else has appended.
var ErrTailUnread = errors.New("the destination's tail must be read first")

// ErrNotAttempted is the result of a message that stands behind a failed one of its destination.
var ErrNotAttempted = errors.New("not attempted: an earlier message of the destination failed")

// ClassOf returns the class of err: Retry unless it says otherwise.
func ClassOf(err error) Class {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Class
	}
	return Retry
}

// FateKnown tells whether err says that nothing has landed.
func FateKnown(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.FateKnown
}

// BrokerDown tells whether err says that the whole broker refuses everything or does not answer.
func BrokerDown(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Broker
}
