package relay

import (
	"github.com/outboxd/outboxd/lane"
)

// finished takes a job's results.
func (c *core) finished(j *job) {
	j.sink.ended(j)
	switch j.kind {
	case jobResolve:
		c.resolved(j)
	case jobTail:
		c.tailRead(j)
	case jobPublish:
		c.published(j)
	}
	j.sink.reuse(j)
}

func (c *core) resolved(j *job) {
	t := j.target
	if j.err != nil {
		c.fail(&t.failure, j.err)
		return
	}
	c.succeed(&t.failure)
	t.split(j.names, c.start, c.epochs.newest())
	waiting := t.waiting
	t.waiting = nil
	for _, e := range waiting {
		t.push(c, e)
	}
}

func (c *core) tailRead(j *job) {
	d := j.spans[0].destination
	if j.err != nil {
		d.lane.TailFailed()
		c.fail(&d.failure, j.err)
		return
	}
	err := d.lane.TailRead(j.highest, func(i lane.Item[*entry]) {
		c.facts.count(d.sink.name, resultFound, 1)
		c.disposed(i.Value)
	})
	if err != nil {
		c.fail(&d.failure, err)
		return
	}
	if d.lane.Len() == 0 {
		c.succeed(&d.failure)
	}
	d.enqueue()
}

func (c *core) published(j *job) {
	for _, s := range j.spans {
		c.publishedTo(s.destination, j.items[s.from:s.to], j.errs[s.from:s.to])
	}
}

// publishedTo takes the results of one destination: a prefix of nils, then the first error.
func (c *core) publishedTo(d *destination, items []lane.Item[*entry], errs []error) {
	landed := 0
	for landed < len(errs) && errs[landed] == nil {
		landed++
	}
	var err error
	known := true
	if landed < len(errs) {
		err = errs[landed]
		known = fateKnown(err)
	}
	d.lane.Published(landed, known, func(i lane.Item[*entry]) { c.disposed(i.Value) })
	c.facts.count(d.sink.name, resultDelivered, landed)
	switch {
	case err == nil:
		c.succeed(&d.failure)
	case isRejected(err):
		c.facts.count(d.sink.name, resultRejected, 1)
		d.dead = true
		c.stop(items[landed].Value, d.label(), err)
	default:
		c.fail(&d.failure, err)
		return
	}
	d.enqueue()
}

// makeResults makes the channel of results with room for every job that can be in flight, so that no publisher waits.
func (c *core) makeResults() {
	room := 0
	for _, s := range c.sinks {
		for _, n := range s.concurrency {
			room += n
		}
	}
	c.results = make(chan *job, room)
}
