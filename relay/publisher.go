package relay

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lane"
	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/sink/format"
)

type jobKind int

const (
	jobResolve jobKind = iota // ask for a destination's partitions
	jobTail                   // fence a destination and read its tail
	jobPublish                // append a batch
	jobProbe                  // ask whether a destination would accept something
	jobKinds
)

// span is one destination's part of a batch: items[from:to].
type span struct {
	destination *destination
	from, to    int
}

// job is a call of a sink. The core makes it, a publisher runs it and gives it back with its results.
type job struct {
	kind   jobKind
	sink   *sinkLane
	target *target // resolve

	probe probe

	began   time.Time
	suspect bool // tail and publish: the destination failed last time; resolve and probe: the last call took long
	table   bool // publish: the batch is the table lane's

	frontier event.Position // publish: what the messages of the table lane say of the frontier
	depth    int            // tail: how many entries are read
	back     event.Position // tail: ... and as many more as lead back to this position; zero: none
	behind   int            // tail: ... and so many more

	items []lane.Item[*entry] // publish
	spans []span
	errs  []error // publish: one per item

	names   []string       // resolve: the partitions
	highest event.Position // tail: the highest that it holds
	refs    []event.Ref    // tail: what it holds, where more than one entry was to be read
	err     error          // resolve, tail and probe
}

// publisher runs the jobs of one channel, one at a time.
type publisher struct {
	jobs         <-chan *job
	results      chan<- *job
	encoder      *format.Encoder
	timeout      time.Duration
	facts        *facts
	largestBatch int  // as Config has it
	atLeastOnce  bool // tails are not read

	messages []sink.Message
}

func (p *publisher) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case j := <-p.jobs:
			p.do(ctx, j)
			p.results <- j // has room for every job
		}
	}
}

func (p *publisher) do(ctx context.Context, j *job) {
	timeout := p.timeout
	if j.depth > 1 {
		timeout = deepTimeout // the sink bounds each of its steps
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	switch j.kind {
	case jobResolve:
		j.names, j.err = j.sink.partitioner.Partitions(ctx, j.target.name)
		if j.err == nil && len(j.names) == 0 {
			j.err = fmt.Errorf("look up partitions of %s: none", j.target.name)
		}
	case jobTail:
		j.highest, j.refs, j.err = p.tail(ctx, j)
	case jobProbe:
		j.err = probeDestination(ctx, j)
	case jobPublish:
		p.publish(ctx, j)
	}
}

// probeDestination asks whether the destination accepts anything again, and before that whether it is still one of its target's.
func probeDestination(ctx context.Context, j *job) error {
	if j.sink.partitioner != nil && j.probe.target != "" {
		names, err := j.sink.partitioner.Partitions(ctx, j.probe.target)
		if err != nil {
			return err
		}
		if !slices.Contains(names, j.probe.name) {
			return fmt.Errorf("%w: %s stands for %d of them, and %s is none", errPartitionsChanged, j.probe.target, len(names), j.probe.name)
		}
	}
	return j.sink.sink.Probe(ctx, j.probe.name)
}

// tail fences the destination and returns the highest position that its tail speaks of. One entry is enough for that: entries of the log
// lane stand in position order, and those of the table lane carry the frontier. Behind entries of somebody else it looks further back.
// Where parked events may have landed, it reads as deep as the job says and returns what is there.
func (p *publisher) tail(ctx context.Context, j *job) (highest event.Position, refs []event.Ref, err error) {
	n := j.depth
	if p.atLeastOnce {
		n = 0
	}
	name := j.spans[0].destination.name
	entries, err := j.sink.sink.Tail(ctx, name, n)
	if err == nil && n == 1 && len(entries) > 0 && highestOf(entries).IsZero() {
		entries, err = j.sink.sink.Tail(ctx, name, p.largestBatch)
	}
	for err == nil && !j.back.IsZero() && n > 1 && len(entries) >= n && n < deepest && !leadsBackTo(entries[j.behind:], j.back) && (j.behind > 0 || ours(entries[0])) {
		n = min(4*n, deepest)
		entries, err = j.sink.sink.Tail(ctx, name, n)
	}
	if err != nil {
		return event.Position{}, nil, fmt.Errorf("read the tail: %w", err)
	}
	if j.depth > 1 {
		for _, e := range entries {
			if e.ID != "" {
				refs = append(refs, event.Ref{ID: e.ID, Replay: e.Replay})
			}
		}
	}
	return highestOf(entries), refs, nil
}

// deepTimeout bounds a tail read that leads far back.
const deepTimeout = 10 * time.Minute

// deepest is as many entries as are ever read back: more than the events beyond a checkpoint can be for any budget of memory that is
// usual.
const deepest = 1 << 20

// ours tells whether an outboxd has written the entry. Where somebody else has, no batch of an instance that was cut off spans it: each is appended
// to the end that the one before it has left.
func ours(e sink.Entry) bool { return !e.Position.IsZero() }

// leadsBackTo tells whether one of the entries was written when nothing behind the position had been disposed of.
func leadsBackTo(entries []sink.Entry, back event.Position) bool {
	for _, e := range entries {
		if !e.Position.IsZero() && !highestOf([]sink.Entry{e}).After(back) {
			return true
		}
	}
	return false
}

func highestOf(entries []sink.Entry) event.Position {
	var highest event.Position
	for _, e := range entries {
		if e.Position.After(highest) {
			highest = e.Position
		}
		if e.Frontier.After(highest) {
			highest = e.Frontier
		}
	}
	return highest
}

// publish encodes and publishes a batch. An event that cannot be encoded is rejected, and those of its destination behind
// it are not attempted.
func (p *publisher) publish(ctx context.Context, j *job) {
	started := time.Now()
	j.errs = append(j.errs[:0], make([]error, len(j.items))...)
	p.messages = p.messages[:0]
	p.encoder.Reset()
	for _, s := range j.spans {
		p.encode(j, s)
	}
	if len(p.messages) > 0 {
		p.place(j, j.sink.sink.Publish(ctx, p.messages))
	}
	oldest := j.items[0].Value.commitTime
	clear(p.messages)
	p.facts.published(j.sink.name, time.Since(started), time.Since(time.UnixMicro(oldest)), j.table)
}

func (p *publisher) encode(j *job, s span) {
	for i := s.from; i < s.to; i++ {
		m, err := p.encoder.Message(&j.items[i].Value.event, s.destination.name, j.frontier, int(j.items[i].Value.replay))
		if err != nil {
			j.errs[i] = &sink.Error{Class: sink.Rejected, FateKnown: true, Err: fmt.Errorf("encode: %w", err)}
			for ; i+1 < s.to; i++ {
				j.errs[i+1] = sink.ErrNotAttempted
			}
			return
		}
		p.messages = append(p.messages, m)
	}
}

// place puts the sink's results at the items that were sent: those without an error so far. A result of unknown fate before
// an event that could not be encoded comes first, so the rejection waits for its turn.
func (p *publisher) place(j *job, results []error) {
	if results == nil {
		return
	}
	next := 0
	for i := range j.items {
		if j.errs[i] == nil {
			j.errs[i] = results[next]
			next++
		}
	}
}
