package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/relay"
)

// notifyEvery is how often a supervisor that wants to be told is told; WatchdogSec must be longer.
const notifyEvery = time.Second

// notifySupervisor tells systemd (Type=notify) how it goes: READY=1 with the first session that streams or stands by, a STATUS line
// with each change, WATCHDOG=1 where a watchdog waits for it, and STOPPING=1 when ctx ends. It goes on until stop is called, because stopping
// takes time too. Where nobody set NOTIFY_SOCKET it does nothing. See https://www.freedesktop.org/software/systemd/man/sd_notify.html.
func (a *app) notifySupervisor(ctx context.Context, r reporter, log zerolog.Logger) (stop func()) {
	if a.variable("NOTIFY_SOCKET") == "" {
		return func() {}
	}
	n := &notifier{relay: r, log: log}
	if limit, err := daemon.SdWatchdogEnabled(false); err != nil {
		log.Warn().Err(err).Msg("read the watchdog's settings; the supervisor is not told that the process lives")
	} else {
		n.watchdog = limit > 0
	}
	end := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() { n.run(ctx.Done(), end) })
	return func() {
		close(end)
		running.Wait()
	}
}

// notifier belongs to one goroutine.
type notifier struct {
	relay    reporter
	log      zerolog.Logger
	watchdog bool
	ready    bool
	status   string
}

func (n *notifier) run(stopping, end <-chan struct{}) {
	tick := time.NewTicker(notifyEvery)
	defer tick.Stop()
	for {
		n.tell()
		select {
		case <-end:
			select {
			case <-stopping: // both came at once
				n.send(daemon.SdNotifyStopping)
			default: // told before, or nobody asked for it
			}
			return
		case <-stopping:
			n.send(daemon.SdNotifyStopping)
			stopping = nil
		case <-tick.C:
		}
	}
}

func (n *notifier) tell() {
	s := n.relay.Status()
	status := string(s.State)
	if s.Reason != "" {
		status = fmt.Sprintf("%s: %s", s.State, s.Reason)
	}
	if status != n.status {
		n.status = status
		n.send("STATUS=" + strings.ReplaceAll(status, "\n", "; "))
	}
	if !n.ready && (s.State == relay.StateActive || s.State == relay.StateStandby) {
		n.ready = true
		n.send(daemon.SdNotifyReady)
	}
	if n.watchdog {
		n.send(daemon.SdNotifyWatchdog)
	}
}

// send loses a message where the supervisor does not listen: a start that it waits for then fails there, with its own message.
func (n *notifier) send(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		n.log.Debug().Err(err).Str("state", state).Msg("tell the supervisor")
	}
}
