package workload

import (
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Config says what a Producer writes. The zero value of a field means its default; a share that is negative means none.
type Config struct {
	URL     string            // of the database; required
	Schema  string            // holds the tables orders and order_writers; default "public"
	Outbox  pgx.Identifier    // the outbox table; default {"public", "outbox"}
	Tenants []string          // default three
	Writers int               // connections that write at once; default 4
	Keys    int               // aggregates of each writer; default 50
	Rate    float64           // events written a second, rolled back ones included; default and negative: as fast as possible
	Random  uint64            // seed of everything that is random; default a random one
	Trouble func(error, bool) // told of an interruption, and whether a COMMIT was cut off; may be nil; called by several goroutines

	MaxEvents    int     // a transaction writes 1 to so many events; default 4
	PayloadBytes int     // at least so large a payload; default none
	Rollbacks    float64 // share of transactions that are rolled back; default 0.05
	Savepoints   float64 // share of transactions that roll back to a savepoint in their middle; default 0.05
	Keyless      float64 // share of events without an aggregate id; default 0.05
}

func (c Config) withDefaults() Config {
	if c.Schema == "" {
		c.Schema = "public"
	}
	if len(c.Outbox) == 0 {
		c.Outbox = pgx.Identifier{"public", "outbox"}
	}
	if len(c.Tenants) == 0 {
		c.Tenants = Tenants(3)
	}
	for _, f := range []struct {
		field *int
		value int
	}{{&c.Writers, 4}, {&c.Keys, 50}, {&c.MaxEvents, 4}} {
		if *f.field == 0 {
			*f.field = f.value
		}
	}
	for _, share := range []*float64{&c.Rollbacks, &c.Savepoints, &c.Keyless} {
		if *share == 0 {
			*share = 0.05
		}
	}
	return c
}

func (c *Config) validate() error {
	switch {
	case c.URL == "":
		return errors.New("the URL of the database is missing")
	case c.Writers < 1 || c.Keys < 1 || c.MaxEvents < 1:
		return fmt.Errorf("%d writers of %d keys with %d events a transaction: want 1 at least of each", c.Writers, c.Keys, c.MaxEvents)
	case c.Rollbacks > 1 || c.Savepoints > 1 || c.Keyless > 1:
		return errors.New("a share is larger than 1")
	}
	return nil
}

const (
	connectTimeout     = 5 * time.Second
	transactionTimeout = 15 * time.Second // a transaction runs to its end when the Producer is stopped
	pauseAfterTrouble  = 50 * time.Millisecond
)
