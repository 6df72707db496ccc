package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/internal/config"
	"github.com/outboxd/outboxd/internal/workload"
)

// verifier is everything that one verify is made of.
type verifier struct {
	app   *app
	o     verifyOptions
	cfg   *config.Config
	run   uint64
	id    string // of run, in the names of what it makes
	notes []string
	began time.Time

	tenants, topics []string
	routed          map[verifyEvent][]workload.Place
	keyless         bool

	load    *workload.Load
	conn    *pgx.Conn // looks at the slot
	brokers []*broker

	mu      sync.Mutex
	live    *workload.Audit // of what arrives; guarded by mu
	trouble string          // what a reader or a writer last complained of; guarded by mu
}

// verifyEvent is what decides where an event goes.
type verifyEvent struct {
	tenant, topic string
	keyed         bool
}

// newVerifier checks all that can be checked without asking a server.
func newVerifier(a *app, o verifyOptions, cfg *config.Config) (*verifier, error) {
	var random [8]byte
	_, _ = rand.Read(random[:])                                 // never fails
	run := max(1, binary.BigEndian.Uint64(random[:])&(1<<48-1)) // what a load takes
	if o.seed == 0 {
		o.seed = mathrand.Uint64() //nolint:gosec // only has to differ
	}
	v := &verifier{app: a, o: o, cfg: cfg, run: run, id: fmt.Sprintf("%012x", run), tenants: o.tenants, topics: o.topics, keyless: true}
	if len(v.topics) == 0 {
		for i := range 3 {
			v.topics = append(v.topics, fmt.Sprintf("outboxd-verify-%s-%d", v.id, i+1))
		}
	}
	if cfg.Database.Columns.TenantID == "" {
		v.tenants = []string{cfg.Database.DefaultTenant}
	}
	if cfg.Format != "raw" {
		return nil, fmt.Errorf("format is %s, and verify reads raw alone: let it and outboxd run with format: raw, on a test system for instance", cfg.Format)
	}
	if cfg.Shard().Split() && namesShard(cfg) {
		return nil, errors.New("with shards only PostgreSQL knows to which of them an event belongs, and verify not what {shard} stands for: " +
			"verify works with destinations without {shard}, so with shards.by: tenant, or without shards")
	}
	if err := v.route(); err != nil {
		return nil, err
	}
	return v, errors.Join(v.checkSinks(), v.checkEncryption())
}

func namesShard(cfg *config.Config) bool {
	for _, r := range cfg.Routes {
		for _, to := range r.To {
			if strings.Contains(to.Destination, "{shard}") {
				return true
			}
		}
	}
	return false
}

// route finds out where each event will go.
func (v *verifier) route() error {
	router, err := v.cfg.Router()
	if err != nil {
		return err
	}
	v.routed = map[verifyEvent][]workload.Place{}
	for _, tenant := range v.tenants {
		for _, topic := range v.topics {
			for _, keyed := range []bool{true, false} {
				ev := event.Event{TenantID: []byte(tenant), Topic: []byte(topic)}
				if keyed {
					ev.AggregateType = []byte(workload.AggregateType)
				}
				to, err := router.Route(&ev)
				if err != nil && !keyed {
					v.keyless = false
					v.notes = append(v.notes, "no events without an aggregate: "+err.Error())
					break
				}
				if err != nil {
					return fmt.Errorf("an event of tenant %s and topic %s would go nowhere, so nothing was written: %w; "+
						"name tenants and topics that the routes match with --tenants and --topic, or add a route for outboxd-verify-*", tenant, topic, err)
				}
				for _, d := range to {
					e := verifyEvent{tenant, topic, keyed}
					v.routed[e] = append(v.routed[e], workload.Place{Sink: d.Sink, Destination: d.Name})
				}
			}
		}
	}
	return nil
}

// places are where an event goes.
func (v *verifier) places(tenant, topic string, keyed bool) []workload.Place {
	return v.routed[verifyEvent{tenant, topic, keyed}]
}

// allPlaces are all of them, sorted.
func (v *verifier) allPlaces() (all []workload.Place) {
	for _, places := range v.routed {
		all = append(all, places...)
	}
	slices.SortFunc(all, func(a, b workload.Place) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(all)
}

// checkSinks refuses destinations that cannot be read, or not to their beginning.
func (v *verifier) checkSinks() error {
	for _, p := range v.allPlaces() {
		s := v.cfg.Sinks[p.Sink]
		if s.Stdout != nil {
			return fmt.Errorf("sink %s is of the kind stdout, which nothing can be read from: name tenants and topics of another route with --tenants and --topic", p.Sink)
		}
		if s.Redis != nil && s.Redis.MaxLen > 0 && (v.total() == 0 || v.total() > s.Redis.MaxLen) {
			return fmt.Errorf("sink %s keeps the last %d entries of a stream (maxlen), and what was trimmed would count as lost: write fewer with --events %d",
				p.Sink, s.Redis.MaxLen, s.Redis.MaxLen)
		}
	}
	return nil
}

// total is how many events will be written at most; 0 when that is not known.
func (v *verifier) total() int {
	if v.o.duration == 0 {
		return v.o.events
	}
	byTime := int(v.o.rate * v.o.duration.Seconds())
	if v.o.events > 0 && (byTime == 0 || v.o.events < byTime) {
		return v.o.events
	}
	return byTime
}

// checkEncryption refuses settings that would encrypt a part of the payloads.
func (v *verifier) checkEncryption() error {
	encrypter, err := newEncrypter(v.cfg)
	if err != nil || encrypter == nil {
		return err
	}
	sample := workload.SamplePayload()
	encrypted, err := encrypter.Append(nil, sample)
	if err != nil {
		return err
	}
	if !bytes.Equal(sample, encrypted) {
		return errors.New("encrypt.fields has a member of verify's payloads, which it could not check then: outboxd decrypt shows that encryption works")
	}
	return nil
}

// open asks the servers whether it can work, before anything is written.
func (v *verifier) open(ctx context.Context) (err error) {
	if v.conn, err = connect(ctx, v.cfg, nil); err != nil {
		return noConnection(ctx, err)
	}
	table, err := v.table(ctx)
	if err != nil {
		return err
	}
	prepared, err := v.inspect(ctx)
	if err != nil {
		return err
	}
	v.load, err = workload.NewLoad(workload.LoadConfig{
		Connect: func(ctx context.Context) (*pgx.Conn, error) { return connect(ctx, v.cfg, nil) },
		Outbox:  table, Run: v.run, Seed: v.o.seed, Tenants: v.tenants, Topics: v.topics, Events: v.o.events, Rate: v.o.rate,
		Keyless: v.keyless, Prepared: prepared, Trouble: v.complain,
	})
	if err != nil {
		return err
	}
	if err := v.openBrokers(ctx); err != nil {
		return err
	}
	if err := v.load.Try(ctx); err != nil {
		return fmt.Errorf("the outbox does not take verify's events; --database-url names a role that may insert: %w", err)
	}
	v.live = v.newAudit()
	return nil
}

func (v *verifier) newAudit() *workload.Audit {
	return workload.NewAudit(v.load.Ledger(), v.places, len(v.o.topics) > 0)
}
