package redis

import (
	"context"
	"net"

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
	if a.username == "" {
		a.username = cfg.Username
	}
	if a.password == "" {
		if a.password, err = cfg.password(); err != nil {
			return nil, err
		}
	}
	conns := &connections{open: make(map[*conn]struct{}), dialer: net.Dialer{Timeout: cfg.Timeout}}
	if a.tls {
		if conns.tls, err = cfg.TLS.Config(); err != nil {
			return nil, err
		}
	}
	c := &client{conns: conns}
	switch a.kind {
	case cluster:
		c.cluster = redis.NewClusterClient(clusterOptions(a, cfg, conns))
	case sentinel:
		o := sentinelOptions(a, cfg, conns)
		c.single = redis.NewFailoverClient(o)
		c.single.AddHook(dialHook{})
		// The client has its own copy for the master, and connects to sentinels by o. One that hangs is waited for up to four times before another's answer
		// counts, all within a dial of the master: twice for its answer, to end its subscription, and among all. With that whole time it would use up call after call.
		share := cfg.Timeout / 5
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout = share, share, share
	default:
		c.single = redis.NewClient(singleOptions(a, cfg, conns))
		c.single.AddHook(dialHook{})
	}
	return c, nil
}

// The options say three things alike: nothing is sent twice (MaxRetries), a call ends with its context (ContextTimeoutEnabled and
// no earlier timeout), and the protocol is RESP 2, which every server speaks and in which nothing arrives unasked.

func singleOptions(a address, cfg Config, conns *connections) *redis.Options {
	o := &redis.Options{
		Addr: a.hosts[0], DB: a.db, Username: a.username, Password: a.password, Dialer: conns.dial, Protocol: 2,
		MaxRetries: -1, DialerRetries: 1, DialTimeout: cfg.Timeout, ReadTimeout: -1, WriteTimeout: -1, ContextTimeoutEnabled: true,
		PoolSize: cfg.PoolSize, PoolTimeout: cfg.Timeout, PipelinePoolSize: -1, ReadBufferSize: bufferBytes, WriteBufferSize: bufferBytes,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if a.kind == unixSocket {
		o.Network = "unix"
	}
	return o
}

func sentinelOptions(a address, cfg Config, conns *connections) *redis.FailoverOptions {
	return &redis.FailoverOptions{
		MasterName: a.master, SentinelAddrs: a.hosts, SentinelUsername: a.sentinelUsername, SentinelPassword: a.sentinelPassword,
		DB: a.db, Username: a.username, Password: a.password, Dialer: conns.dial, Protocol: 2,
		MaxRetries: -1, DialerRetries: 1, DialTimeout: cfg.Timeout, ReadTimeout: -1, WriteTimeout: -1, ContextTimeoutEnabled: true,
		PoolSize: cfg.PoolSize, PoolTimeout: cfg.Timeout, PipelinePoolSize: -1, ReadBufferSize: bufferBytes, WriteBufferSize: bufferBytes,
		DisableIdentity: true,
	}
}

func clusterOptions(a address, cfg Config, conns *connections) *redis.ClusterOptions {
	return &redis.ClusterOptions{
		Addrs: a.hosts, Username: a.username, Password: a.password, Dialer: conns.dial, Protocol: 2,
		// Who holds what is looked up without a context's end: by one look-up at a time, which a node that hangs must not hold for ever.
		ReadTimeout: cfg.Timeout, WriteTimeout: cfg.Timeout,
		MaxRetries: -1, DialerRetries: 1, DialTimeout: cfg.Timeout, ContextTimeoutEnabled: true,
		PoolSize: cfg.PoolSize, PoolTimeout: cfg.Timeout, PipelinePoolSize: -1, ReadBufferSize: bufferBytes, WriteBufferSize: bufferBytes,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		NewClient: func(o *redis.Options) *redis.Client {
			node := redis.NewClient(o)
			node.AddHook(dialHook{})
			return node
		},
	}
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
