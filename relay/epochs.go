package relay

import "github.com/outboxd/outboxd/event"

// epochs tells which epoch a commit belongs to. A slot's epoch is raised by one where the server's timeline changed: a promoted standby may
// lack what the primary committed last, and uses those log positions again, for other events. Destinations may hold the lost ones;
// under one epoch the new ones would be taken for them. What was committed before the change keeps its epoch, so it is still recognized.
//
// Everything follows from the record and from the server's own history, so each session finds the same epochs.
type epochs struct {
	first  uint32      // of the record, on the timeline where it was made
	starts []event.LSN // of the timelines since then, oldest first
}

func (e epochs) at(commit event.LSN) uint32 {
	epoch := e.first
	for _, start := range e.starts {
		if commit >= start {
			epoch++
		}
	}
	return epoch
}

// newest is the epoch of what is committed now.
func (e epochs) newest() uint32 { return e.first + uint32(len(e.starts)) }
