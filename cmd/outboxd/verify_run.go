package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/outboxd/outboxd/internal/workload"
)

const verifyTick = 200 * time.Millisecond

// stream writes the load while the brokers are followed, and waits until everything that was committed has arrived, or --wait is over.
func (v *verifier) stream(ctx context.Context) error {
	v.began = time.Now()
	working := context.WithoutCancel(ctx)
	following, stopFollowing := context.WithCancel(working)
	var followers sync.WaitGroup
	defer followers.Wait()
	defer stopFollowing()
	for _, b := range v.brokers {
		followers.Go(func() { b.reader.Follow(following, func(r workload.Received) { v.arrived(b.sink, r) }, v.complain) })
	}
	if err := v.write(ctx); err != nil {
		return err
	}
	if ctx.Err() != nil {
		v.say("stopping: checking what was committed until now; another Ctrl-C leaves everything as it is")
	}
	resolving, cancel := context.WithTimeout(working, max(v.o.wait, verifyFirstLook))
	defer cancel()
	if err := v.load.Resolve(resolving); err != nil {
		return err
	}
	v.await(working)
	return nil
}

// write runs the load until it has written everything, its time is over, or ctx ends.
func (v *verifier) write(ctx context.Context) error {
	if v.o.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, v.o.duration)
		defer cancel()
	}
	wrote := make(chan error, 1)
	go func() { wrote <- v.load.Run(ctx) }()
	showing := v.app.newProgress("events written", v.total(), v.o.output.value)
	defer showing.end()
	tick := time.NewTicker(verifyTick)
	defer tick.Stop()
	for {
		select {
		case err := <-wrote:
			if err != nil {
				return fmt.Errorf("write the load: %w", err)
			}
			return nil
		case <-tick.C:
			showing.set(int(v.load.Counts().Events))
		}
	}
}

func (v *verifier) arrived(sink string, r workload.Received) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.live.Add(sink, r)
}

// complain notes what hinders a reader or a writer. Both try again.
func (v *verifier) complain(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.trouble = err.Error()
}

func (v *verifier) missing() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	r := v.live.Report()
	return r.Missing.Count
}

// await waits until nothing is missing, or --wait is over.
func (v *verifier) await(ctx context.Context) {
	deadline := time.Now().Add(v.o.wait)
	missing := v.missing()
	if missing > 0 {
		v.say("waiting %s at most for the last %s", v.o.wait, count(missing, "event", "events"))
	}
	showing := v.app.newProgress("events arrived", missing, v.o.output.value)
	defer showing.end()
	for all := missing; missing > 0 && time.Now().Before(deadline); missing = v.missing() {
		showing.set(all - missing)
		if pause(ctx, verifyTick) != nil {
			return
		}
	}
}

// verifySummary is the result; its JSON form is what the command prints.
type verifySummary struct {
	OK           bool                `json:"ok"`
	ID           string              `json:"id"`
	Seed         uint64              `json:"seed"`
	Seconds      float64             `json:"seconds"`
	Load         workload.LoadCounts `json:"load"`
	Report       workload.Report     `json:"report"`
	Foreign      int                 `json:"foreign"` // entries of others that were read
	Destinations []workload.Place    `json:"destinations"`
	Notes        []string            `json:"notes,omitempty"`
	Removed      verifyRemoved       `json:"removed"`
	Left         []string            `json:"left,omitempty"`
}

// verifyRemoved is what was taken away.
type verifyRemoved struct {
	Rows         int64 `json:"rows"`
	Destinations int   `json:"destinations"`
}

// judge reads everything back and compares.
func (v *verifier) judge(ctx context.Context) (verifySummary, error) {
	s := verifySummary{ID: v.id, Seed: v.o.seed, Destinations: v.allPlaces(), Load: v.load.Counts()}
	audit, err := v.readAll(ctx)
	if err != nil {
		return s, err
	}
	s.Report, s.Foreign = audit.Report(), audit.Foreign()
	s.OK = s.Report.OK()
	s.Seconds = time.Since(v.began).Seconds()
	if err := v.explainMissing(ctx, &s.Report.Missing); err != nil {
		v.notes = append(v.notes, err.Error())
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if !s.OK && v.trouble != "" {
		v.notes = append(v.notes, "the last trouble with a server: "+v.trouble)
	}
	s.Notes = v.notes
	return s, nil
}
