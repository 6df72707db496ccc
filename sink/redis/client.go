package redis

import (
	"cmp"
	"context"
	"net"
	"time"

	redis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// bufferBytes is the size of each connection's read and write buffer.
const bufferBytes = 64 << 10

// client is a connection pool: to one server (which Sentinel may name), or to the nodes of a cluster.
type client struct {
	single  *redis.Client
	cluster *redis.ClusterClient // nil unless it is one
	conns   *connections
}

// open makes the pool. It does not connect.
func open(cfg Config) (*client, error) {
	a, err := parseURL(cfg.URL)
	if err != nil {
		return nil, err
	}
	a.username = cmp.Or(a.username, cfg.Username)
	if a.password == "" {
		if a.password, err = cfg.password(); err != nil {
			return nil, err
		}
	}
	conns := &connections{open: make(map[*conn]struct{}), dialer: net.Dialer{Timeout: cfg.dialTimeout()}}
	if a.tls {
		if conns.tls, err = cfg.TLS.Config(); err != nil {
			return nil, err
		}
	}
	c := &client{conns: conns}
	switch o := options(a, cfg, conns); a.kind {
	case cluster:
		c.cluster = redis.NewClusterClient(clusterOptions(o, cfg))
	case sentinel:
		failover := o.Failover()
		c.single = redis.NewFailoverClient(failover)
		c.single.AddHook(dialHook{})
		// The client has its own copy for the master, and connects to sentinels by this one. One that hangs is waited for up to four times before another's answer
		// counts, all within a dial of the master: twice for its answer, to end its subscription, and among all. With that whole time it would use up call after call.
		share := cfg.dialTimeout() / 5
		failover.DialTimeout, failover.ReadTimeout, failover.WriteTimeout = share, share, share
	default:
		single := o.Simple()
		if a.kind == unixSocket {
			single.Network = "unix"
		}
		c.single = redis.NewClient(single)
		c.single.AddHook(dialHook{})
	}
	return c, nil
}

// idleTimeout is how long a connection is kept that nobody uses. By TLS the pool does not see that the server has closed one, and the call that uses it next fails.
const idleTimeout = 30 * time.Second

// dialTimeout is how long a connection may take. The pool makes it behind the call's back, so a call whose own time ended first would never learn that nobody is
// there.
func (c Config) dialTimeout() time.Duration { return c.Timeout / 2 }

// options are what all kinds of client have in common: nothing is sent twice (MaxRetries), a call ends with its context (ContextTimeoutEnabled and
// no earlier timeout), and the protocol is RESP 2, which every server speaks and in which nothing arrives unasked.
func options(a address, cfg Config, conns *connections) *redis.UniversalOptions {
	return &redis.UniversalOptions{
		Addrs: a.hosts, DB: a.db, Username: a.username, Password: a.password,
		MasterName: a.master, SentinelUsername: a.sentinelUsername, SentinelPassword: a.sentinelPassword,
		Dialer: conns.dial, Protocol: 2,
		MaxRetries: -1, DialerRetries: 1, DialTimeout: cfg.dialTimeout(), ReadTimeout: -1, WriteTimeout: -1, ContextTimeoutEnabled: true,
		PoolSize: cfg.PoolSize, PoolTimeout: cfg.Timeout, ConnMaxIdleTime: idleTimeout, PipelinePoolSize: -1,
		ReadBufferSize: bufferBytes, WriteBufferSize: bufferBytes,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

func clusterOptions(o *redis.UniversalOptions, cfg Config) *redis.ClusterOptions {
	c := o.Cluster()
	// Who holds what is looked up without a context's end: by one look-up at a time, which a node that hangs must not hold for ever.
	c.ReadTimeout, c.WriteTimeout = cfg.Timeout, cfg.Timeout
	c.DisableRoutingPolicies = true // by which it would ask any node for COMMAND first, for up to 5 s, while every other call waits
	c.NewClient = func(o *redis.Options) *redis.Client {
		node := redis.NewClient(o)
		node.AddHook(dialHook{})
		return node
	}
	return c
}

// node returns the server that holds the key.
func (c *client) node(ctx context.Context, key string) (*redis.Client, error) {
	if c.cluster == nil {
		return c.single, nil
	}
	return c.cluster.MasterForKey(ctx, key)
}

// process runs a command wherever its key belongs, and follows a cluster that sends it elsewhere.
func (c *client) process(ctx context.Context, cmd redis.Cmder) error {
	if c.cluster == nil {
		return c.single.Process(ctx, cmd)
	}
	return c.cluster.Process(ctx, cmd)
}

// lookAgain makes a cluster client look up, in the background and at most five times a second, who holds what.
func (c *client) lookAgain() {
	if c.cluster != nil {
		c.cluster.ReloadState(context.Background())
	}
}

func (c *client) close() error {
	if c.cluster != nil {
		return c.cluster.Close()
	}
	return c.single.Close()
}

// dialHook marks the error of a connection that was never made: nothing was sent over it.
type dialHook struct{}

func (dialHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := next(ctx, network, addr)
		if err != nil {
			return nil, &connectError{err}
		}
		return c, nil
	}
}

func (dialHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (dialHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// connectError says that there was no connection.
type connectError struct{ err error }

func (e *connectError) Error() string { return "connect: " + e.err.Error() }
func (e *connectError) Unwrap() error { return e.err }
