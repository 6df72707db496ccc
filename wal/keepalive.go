package wal

import (
	"time"

	"github.com/outboxd/outboxd/event"
)

const (
	// repeatPace is how often a server that asks at once again is answered.
	repeatPace = 250 * time.Millisecond

	// stoppingRepeats is after how many such questions the server is taken to be stopping: about a second in
	// which what is in flight can still be settled and confirmed.
	stoppingRepeats = 4

	// defaultSenderTimeout is PostgreSQL's default of wal_sender_timeout, used where it is switched off.
	defaultSenderTimeout = time.Minute
)

// keepalives tells the server's ordinary question for a status from that of its shutdown.
//
// A running server asks for a reply when it got none for half of wal_sender_timeout. A stopping one asks again right after
// each reply, always with the same end of the log, until that is confirmed, and waits for it without limit
// (WalSndDone in walsender.c). So an early question with an end of the log that is known is counted, answered at a
// pace, and after stoppingRepeats of them the session has to go.
type keepalives struct {
	early     time.Duration // a question sooner than this after our reply is no ordinary one
	walEnd    event.LSN     // of the last question
	repliedAt time.Time     // when the last status was sent
	repeats   int
	dueAt     time.Time // when the pending answer may be asked for; zero when none is pending
}

func newKeepalives(senderTimeout time.Duration) keepalives {
	return keepalives{early: senderTimeout / 4}
}

// asked notes a question. It tells whether the caller should answer now, and whether the server is stopping.
func (k *keepalives) asked(walEnd, confirmed event.LSN, now time.Time) (answer, stopping bool) {
	repeated := walEnd == k.walEnd && confirmed < walEnd && now.Sub(k.repliedAt) < k.early
	k.walEnd = walEnd
	if !repeated {
		k.repeats, k.dueAt = 0, time.Time{}
		return true, false
	}
	k.repeats++
	k.dueAt = now.Add(repeatPace)
	return false, k.repeats >= stoppingRepeats
}

// replied notes that a status was sent.
func (k *keepalives) replied(now time.Time) {
	k.repliedAt, k.dueAt = now, time.Time{}
}

// pending tells whether an answer was put off.
func (k *keepalives) pending() bool { return !k.dueAt.IsZero() }
