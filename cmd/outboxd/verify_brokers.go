package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9/logging"

	"github.com/outboxd/outboxd/internal/workload"
	"github.com/outboxd/outboxd/wal"
)

const (
	verifyFirstLook = 15 * time.Second // at the destinations of one sink, before anything is written
	verifyLastLook  = 10 * time.Minute // at everything that has arrived there
	verifyRemoval   = 30 * time.Second // of one destination
)

// openBrokers connects to each broker and reads what lies there already, so that a fault shows before anything is written.
func (v *verifier) openBrokers(ctx context.Context) error {
	logging.Disable() // the client would write over the progress
	names := map[string][]string{}
	var sinks []string
	for _, p := range v.allPlaces() {
		if names[p.Sink] == nil {
			sinks = append(sinks, p.Sink)
		}
		names[p.Sink] = append(names[p.Sink], p.Destination)
	}
	for _, sink := range sinks {
		b, err := openBroker(sink, v.cfg.Sinks[sink], "outboxd-verify-"+v.id, names[sink])
		if err != nil {
			return fmt.Errorf("open sink %s: %w", sink, err)
		}
		v.brokers = append(v.brokers, b)
		looking, cancel := context.WithTimeout(ctx, verifyFirstLook)
		err = b.reader.ReadAll(looking, func(workload.Received) {})
		cancel()
		if err != nil {
			return fmt.Errorf("nothing was written, as sink %s cannot be read: %w", sink, err)
		}
	}
	return nil
}

// readAll reads everything once more, from the beginning, into a new audit.
func (v *verifier) readAll(ctx context.Context) (*workload.Audit, error) {
	ctx, cancel := context.WithTimeout(ctx, verifyLastLook)
	defer cancel()
	audit := v.newAudit()
	for _, b := range v.brokers {
		if err := b.reader.ReadAll(ctx, func(r workload.Received) { audit.Add(b.sink, r) }); err != nil {
			return nil, fmt.Errorf("read everything back from sink %s: %w", b.sink, err)
		}
	}
	return audit, nil
}

// removeDestinations deletes the streams and topics that bear the id, and says what stays.
func (v *verifier) removeDestinations(ctx context.Context) (removed int, left []string) {
	for _, b := range v.brokers {
		for _, name := range b.names {
			switch {
			case !strings.Contains(name, v.id):
				left = append(left, b.sink+" "+name+": it is not verify's alone, and its entries stay")
			case b.remove == nil:
				left = append(left, b.sink+" "+name+": it can be deleted where sinks."+b.sink+".admin_url is set")
			default:
				removing, cancel := context.WithTimeout(ctx, verifyRemoval)
				err := b.remove(removing, name)
				cancel()
				if err != nil {
					left = append(left, b.sink+" "+name+": "+err.Error())
					continue
				}
				removed++
			}
		}
	}
	return removed, left
}

// close ends the connections.
func (v *verifier) close(ctx context.Context) error {
	var failed []error
	for _, b := range v.brokers {
		failed = append(failed, b.reader.Close())
		closing, cancel := context.WithTimeout(ctx, closeLimit)
		failed = append(failed, b.hangUp(closing))
		cancel()
	}
	if v.conn != nil {
		failed = append(failed, wal.CloseConn(ctx, v.conn))
	}
	return errors.Join(failed...)
}
