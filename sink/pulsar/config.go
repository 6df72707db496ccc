package pulsar

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/outboxd/outboxd/sink"
)

// Names of the compressions that Config.Compression takes.
const (
	CompressionNone = "none"
	CompressionLZ4  = "lz4"
	CompressionZSTD = "zstd"
	CompressionZLib = "zlib"
)

// Defaults of Config.
const (
	DefaultName         = "outboxd"
	DefaultMaxProducers = 200
	DefaultPendingBytes = 32 << 20
	DefaultAckStall     = time.Second
	DefaultTimeout      = 30 * time.Second
)

// Config says how to reach an Apache Pulsar cluster. Only URL is required.
type Config struct {
	// URL is the service URL, pulsar://host:port, or pulsar+ssl://host:port for TLS. Several hosts are separated by commas.
	// It holds no credentials.
	URL string

	// Name returns what the outboxds of one outbox have in common: the beginning of their producers' names, without @. Whoever produces
	// to a destination under the same name is an older instance, and is cut off; others are waited for. It is asked at each new
	// producer, because the database may have to be asked for it first. Default: always "outboxd".
	Name func() string

	// Token is the client's JSON web token; TokenFile is a file that holds it, read again at each connection. At most
	// one of them is set. Default: none.
	Token     string
	TokenFile string

	// Username and Password are for basic authentication. Both are set or none. Default: none.
	Username string
	Password string

	// TLS is used for pulsar+ssl:// and for https:// in AdminURL.
	TLS sink.TLS

	// Compression is how batches are compressed: none, lz4, zstd or zlib. Default: none.
	Compression string

	// MaxProducers is how many producers stay open, besides 64 that have published nothing yet. Beyond it the one that was idle longest is closed, and its
	// destination is refused until its tail was read again, which slows it down, so it should exceed the number of destinations
	// that are in use at a time. Default: 200. A producer costs 4 goroutines and about 40 KB.
	MaxProducers int

	// MaxMessageBytes is the size, of key, body and headers, above which a message is rejected without being sent.
	// Default: 0, only the broker's own limit (5 MiB as Pulsar is delivered), which it tells at each connection.
	MaxMessageBytes int64

	// EntryPerKey ends an entry where the key changes. Pulsar gives an entry whole to one consumer of a Key_Shared subscription, by the key of its first
	// message. Each entry costs the wait for an acknowledgement. Default: false, an entry holds what a Publish has for its topic.
	EntryPerKey bool

	// PendingBytes is how many bytes of messages, and 2 KiB for each that the client needs, may wait for an acknowledgement, over
	// all topics. What is larger waits alone. The client holds each byte about three times. Default: 32 MiB.
	PendingBytes int64

	// AckStall is how long acknowledgements may stand still before a batch counts as lost from sight: its fate is
	// unknown, its producer is closed, and the destination waits for Tail. Default: 1 s. While other destinations are
	// acknowledged, one batch gets three times as long.
	AckStall time.Duration

	// Timeout bounds each call of the Sink that has no earlier deadline. Default: 30 s.
	Timeout time.Duration

	// AdminURL is the address of the admin REST API, http://host:8080 or https://host:8443. Needed by Create, Policies, BrokerSettings and Remove.
	AdminURL string

	// Create makes tenants and namespaces that are missing, through AdminURL. Default: false, a missing one is an
	// error that names the command which mends it.
	Create bool
}

// WithDefaults returns c with every unset field at its default.
func (c Config) WithDefaults() Config {
	if c.Name == nil {
		c.Name = func() string { return DefaultName }
	}
	c.Compression = cmp.Or(c.Compression, CompressionNone)
	c.MaxProducers = cmp.Or(c.MaxProducers, DefaultMaxProducers)
	c.PendingBytes = cmp.Or(c.PendingBytes, DefaultPendingBytes)
	c.AckStall = cmp.Or(c.AckStall, DefaultAckStall)
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	return c
}

// Validate returns every problem of c, joined, or nil. It reads no file and connects to nothing.
func (c Config) Validate() error {
	return errors.Join(c.validateURLs(), c.validateCredentials(), c.validateLimits())
}

func (c Config) validateURLs() error {
	var problems []error
	tls := strings.HasPrefix(c.URL, "pulsar+ssl://")
	switch {
	case c.URL == "":
		problems = append(problems, errors.New("url is missing: set it to pulsar://host:6650"))
	case !tls && !strings.HasPrefix(c.URL, "pulsar://"):
		problems = append(problems, errors.New("url must begin with pulsar:// or pulsar+ssl://"))
	case strings.Contains(c.URL, "@"):
		problems = append(problems, errors.New("url must hold no credentials: use token, token_file or username and password"))
	case strings.TrimLeft(c.URL, "pulsar+:/") == "":
		problems = append(problems, errors.New("url names no host"))
	}
	if c.AdminURL != "" {
		u, err := url.Parse(c.AdminURL)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || u.User != nil {
			problems = append(problems, errors.New("admin_url must be http://host:port or https://host:port, without credentials"))
		}
	}
	if c.Create && c.AdminURL == "" {
		problems = append(problems, errors.New("create needs admin_url: tenants and namespaces are made through the admin REST API"))
	}
	return errors.Join(problems...)
}

func (c Config) validateCredentials() error {
	var problems []error
	ways := 0
	for _, set := range []bool{c.Token != "", c.TokenFile != "", c.Username != "" || c.Password != ""} {
		if set {
			ways++
		}
	}
	if ways > 1 {
		problems = append(problems, errors.New("set only one of token, token_file, and username with password"))
	}
	if (c.Username == "") != (c.Password == "") {
		problems = append(problems, errors.New("username and password must be set together"))
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		problems = append(problems, errors.New("tls.cert_file and tls.key_file must be set together"))
	}
	secured := strings.HasPrefix(c.URL, "pulsar+ssl://") || strings.HasPrefix(c.AdminURL, "https://")
	if c.TLS != (sink.TLS{}) && !secured {
		problems = append(problems, errors.New("tls is set but neither url begins with pulsar+ssl:// nor admin_url with https://"))
	}
	return errors.Join(problems...)
}

func (c Config) validateLimits() error {
	var problems []error
	switch c.Compression {
	case CompressionNone, CompressionLZ4, CompressionZSTD, CompressionZLib:
	default:
		problems = append(problems, fmt.Errorf("compression is %q: use none, lz4, zstd or zlib", c.Compression))
	}
	for _, l := range []struct {
		name string
		bad  bool
	}{
		{"max_producers must be at least 1", c.MaxProducers < 1},
		{"max_message_bytes must not be negative", c.MaxMessageBytes < 0},
		{"pending_bytes must be at least 1", c.PendingBytes < 1},
		{"ack_stall must be positive", c.AckStall <= 0},
		{"timeout must be longer than ack_stall", c.Timeout <= c.AckStall},
	} {
		if l.bad {
			problems = append(problems, errors.New(l.name))
		}
	}
	return errors.Join(problems...)
}

// token returns the token in force, or "" when there is none.
func (c Config) token() (string, error) {
	token, err := sink.Secret(c.Token, c.TokenFile)
	if err != nil {
		return "", fmt.Errorf("read token_file: %w", err)
	}
	return token, nil
}
