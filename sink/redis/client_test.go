package redis

import (
	"testing"
	"time"
)

// What the pool does by itself is over before a call that waits for it, whatever the address leads to.
func TestEveryKindOfClientGivesUpInTime(t *testing.T) {
	for _, url := range []string{"redis://h", "unix:///run/redis.sock", "redis+sentinel://h/orders", "redis+cluster://h"} {
		cfg := Config{URL: url}.WithDefaults()
		c, err := open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		var dial, idle time.Duration
		var retries int
		if c.cluster != nil {
			o := c.cluster.Options()
			dial, idle, retries = o.DialTimeout, o.ConnMaxIdleTime, o.MaxRetries
		} else {
			o := c.single.Options()
			dial, idle, retries = o.DialTimeout, o.ConnMaxIdleTime, o.MaxRetries
		}
		if dial >= cfg.Timeout || idle != idleTimeout || retries > 0 {
			t.Errorf("%s: a connection is waited for for %s, kept idle for %s, and %d commands are sent again", url, dial, idle, retries)
		}
		if err := c.close(); err != nil {
			t.Error(err)
		}
	}
}
