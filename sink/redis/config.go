package redis

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/outboxd/outboxd/sink"
)

// Defaults of Config.
const (
	DefaultMaxMessageBytes = 64 << 20
	DefaultTimeout         = 10 * time.Second
	DefaultMaxStreams      = 50_000
	DefaultWatchFrom       = 200
)

// serverBulkLimit is Redis's default proto-max-bulk-len, and the most that a message may be configured to have.
const serverBulkLimit = 512 << 20

// Config says where Redis is and how it is written to.
type Config struct {
	// URL is the address, in one of these forms. A comma separates several hosts; user and password may be left out; a
	// reserved character in them is percent-encoded.
	//
	//	redis://user:password@host:6379/0
	//	unix://user:password@/path/to/socket?db=0
	//	redis+sentinel://user:password@host1:26379,host2:26379/MASTER/0
	//	redis+cluster://user:password@host1:6379,host2:6379
	//
	// With rediss in the place of redis the connection is secured by TLS, to the sentinels too. User and
	// password of the sentinels themselves are the parameters sentinel_username and sentinel_password.
	URL string

	Username string // ACL user, where the URL names none
	Password string // password, where the URL holds none

	// PasswordFile holds the password, in the place of Password; white space around it does not count.
	PasswordFile string

	// TLS applies to rediss, rediss+sentinel and rediss+cluster.
	TLS sink.TLS

	// Unfenced appends by MULTI/EXEC and compares no end. A small batch costs the server a third less,
	// but a late one of a cut connection or a cut-off instance may land behind what was read as the end.
	Unfenced bool

	// WatchFrom is from how many messages of one stream on WATCH, MULTI and EXEC append a batch in place of the script; 0 means 200. No argument goes through Lua then: a
	// message of 500 B and eight fields costs the server 2.9 us in place of 4.6 (Redis 7.0). But there is a second round trip, and the client has more to do (3.6 us in place of 2.5).
	WatchFrom int

	// MaxLen trims each stream to about so many entries with every batch; 0 keeps all. It must leave a whole batch
	// (sink.MaxBatch) in place, because the tail is what a restart goes by.
	MaxLen int

	// MaxMessageBytes is the size from which on a message is rejected without being sent; 0 means 64 MiB. The
	// server's own proto-max-bulk-len is respected as well, where the user may read it (CONFIG GET).
	MaxMessageBytes int

	// Timeout bounds each call, connecting included, which has half of it; of Tail, which may read far back, each of its parts of some 4 MB. 0 means 10 s.
	Timeout time.Duration

	// MaxStreams is how many streams' ends are remembered (about 200 bytes each); 0 means 50,000. The
	// tail of one that was forgotten is read again before the next publish.
	MaxStreams int

	// PoolSize is the largest number of connections to a server; 0 means ten for each CPU.
	PoolSize int
}

// WithDefaults returns c with the defaults in the place of zero values.
func (c Config) WithDefaults() Config {
	c.MaxMessageBytes = cmp.Or(c.MaxMessageBytes, DefaultMaxMessageBytes)
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	c.MaxStreams = cmp.Or(c.MaxStreams, DefaultMaxStreams)
	c.WatchFrom = cmp.Or(c.WatchFrom, DefaultWatchFrom)
	return c
}

// Validate returns every problem of c, joined. It reads no file and calls nobody. c has its defaults.
func (c Config) Validate() error {
	var problems []error
	add := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	a, err := parseURL(c.URL)
	if err != nil {
		problems = append(problems, err)
	}
	if c.TLS != (sink.TLS{}) && err == nil && !a.tls {
		add("tls is set but the URL does not ask for it: use rediss, rediss+sentinel or rediss+cluster")
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		add("tls: cert_file and key_file belong together: set both or none")
	}
	if c.Password != "" && c.PasswordFile != "" {
		add("password and password_file are set: keep one")
	}
	if c.MaxLen < 0 || c.MaxLen > 0 && c.MaxLen < sink.MaxBatch {
		add("maxlen is %d: want 0, or at least %d so that a batch stays whole", c.MaxLen, sink.MaxBatch)
	}
	if c.MaxMessageBytes < 1 || c.MaxMessageBytes > serverBulkLimit {
		add("max_message_bytes is %d: want 1 to %d", c.MaxMessageBytes, serverBulkLimit)
	}
	if c.Timeout < time.Millisecond {
		add("timeout is %s: want at least 1ms", c.Timeout)
	}
	if c.MaxStreams < 1 || c.WatchFrom < 1 || c.PoolSize < 0 {
		add("max streams is %d, watch from %d and pool size %d: want positive numbers", c.MaxStreams, c.WatchFrom, c.PoolSize)
	}
	return errors.Join(problems...)
}

// password returns what is configured apart from the URL.
func (c Config) password() (string, error) {
	password, err := sink.Secret(c.Password, c.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("read password_file: %w", err)
	}
	return password, nil
}
