package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"time"

	"github.com/outboxd/outboxd/internal/testenv"
)

const standbyPatience = time.Minute // for a standby to be made, on a busy machine

// standby is PostgreSQL's, of whichever server is the primary. It is made in the background, while other faults kill that one.
type standby struct {
	tell   func(format string, args ...any)
	ready  chan *testenv.PostgresServer // holds the one that every commit waits for
	cancel context.CancelFunc
	made   chan struct{} // closed when nobody makes one
}

// begin makes a standby of the primary, as often as it takes, and throws away what was the primary before; nil for none.
func (s *standby) begin(primary, old *testenv.PostgresServer) {
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel, s.made = cancel, make(chan struct{})
	go func() {
		defer close(s.made)
		if old != nil {
			if err := old.Close(ctx); err != nil {
				s.tell("throw the old primary away: %v", err)
			}
		}
		began := time.Now()
		made, err := primary.Standby(ctx)
		for err != nil && ctx.Err() == nil {
			time.Sleep(restartPause) // another fault has killed the primary
			made, err = primary.Standby(ctx)
		}
		if err == nil {
			s.tell("every commit waits for a standby, which took %s to make", time.Since(began).Round(time.Millisecond))
			s.ready <- made
		}
	}()
}

// take waits for the standby.
func (s *standby) take() (*testenv.PostgresServer, error) {
	select {
	case made := <-s.ready:
		return made, nil
	case <-time.After(standbyPatience):
		return nil, fmt.Errorf("there is no standby after %s", standbyPatience)
	}
}

// end ends what is being made, and the standby.
func (s *standby) end() error {
	s.cancel()
	<-s.made
	select {
	case made := <-s.ready:
		return made.Close(context.Background())
	default:
		return nil
	}
}

// failOver kills PostgreSQL for good. When that is healed its standby is promoted, and everybody is led there: before that, to a
// server that takes no writes yet, or behind it. What was committed at the beginning, perhaps on a server that was killed before the standby had
// it, is waited for; whatever is acknowledged later is on the standby.
func failOver(r *rig, random *rand.Rand) (string, heal, error) {
	next, err := r.successor(random)
	if err != nil {
		return "PostgreSQL", nil, err
	}
	old := r.postgres
	old.Kill()
	r.postgres = next
	order, steps := "promoted, then reached", []heal{r.promote, r.lead}
	if random.IntN(2) == 0 {
		order, steps = "reached, then promoted", []heal{r.lead, r.promote}
	}
	return "PostgreSQL, whose standby is " + order, func() error {
		for _, step := range steps {
			if err := step(); err != nil {
				return err
			}
		}
		r.standby.begin(r.postgres, old)
		return nil
	}, nil
}

// leaveBehind promotes PostgreSQL's standby while the old primary goes on, which nobody fences. The application is led to the new one at once: it
// could commit nothing on the old one, whose commits wait for a standby that has gone. Both instances of outboxd, or one, are led there when it is healed;
// until then they read the old one's log, publish what is in it, and write what will never have been.
func leaveBehind(r *rig, random *rand.Rand) (string, heal, error) {
	next, err := r.successor(random)
	if err != nil {
		return "PostgreSQL", nil, err
	}
	old := r.postgres
	r.postgres = next
	behind, who := r.instances, "both instances"
	if number := random.IntN(2 * len(r.instances)); number < len(r.instances) {
		behind, who = r.instances[number:number+1], r.instances[number].name
	}
	stays := time.Now().Add(time.Second + time.Duration(random.Int64N(int64(8*time.Second)))) // however long the standby was waited for
	return "PostgreSQL, the old one of which keeps " + who, func() error {
		time.Sleep(time.Until(stays))
		if err := errors.Join(r.promote(), r.lead()); err != nil {
			return err
		}
		r.standby.begin(r.postgres, old)
		return nil
	}, errors.Join(r.promote(), r.leadAllBut(behind))
}

// successor waits for the standby, and until it has what is committed now.
func (r *rig) successor(random *rand.Rand) (*testenv.PostgresServer, error) {
	next, err := r.standby.take()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), standbyPatience)
	defer cancel()
	if err := r.postgres.CaughtUp(ctx); err != nil {
		r.standby.ready <- next
		return nil, err
	}
	time.Sleep(time.Duration(random.Int64N(int64(time.Second)))) // under load
	return next, nil
}

func (r *rig) promote() error {
	ctx, cancel := context.WithTimeout(context.Background(), standbyPatience)
	defer cancel()
	return r.postgres.Promote(ctx)
}

// lead lets every address of PostgreSQL lead to the present one.
func (r *rig) lead() error { return r.leadAllBut(nil) }

// leadAllBut leaves some instances where they are.
func (r *rig) leadAllBut(behind []*instance) error {
	to, err := url.Parse(r.postgres.URL)
	if err != nil {
		return err
	}
	failed := []error{r.network.lead(applicationProxy, to.Host)}
	for _, i := range r.instances {
		if !slices.Contains(behind, i) {
			failed = append(failed, r.network.lead(proxyName(i.number, legPostgres), to.Host))
		}
	}
	return errors.Join(failed...)
}
