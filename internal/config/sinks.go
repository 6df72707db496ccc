package config

import (
	"maps"
	"reflect"
	"slices"
	"strings"
)

// The kinds of sinks.
const (
	KindRedis  = "redis"
	KindPulsar = "pulsar"
	KindStdout = "stdout"
)

var sinkKinds = []string{KindRedis, KindPulsar, KindStdout}

// Sink is one broker: the field of its kind is set, the others are nil.
type Sink struct {
	Kind   string
	Redis  *Redis
	Pulsar *Pulsar
	Stdout *Stdout
}

// settings returns the struct of the sink's kind.
func (s Sink) settings() reflect.Value {
	switch s.Kind {
	case KindRedis:
		return reflect.ValueOf(*s.Redis)
	case KindPulsar:
		return reflect.ValueOf(*s.Pulsar)
	default:
		return reflect.ValueOf(*s.Stdout)
	}
}

// Redis is a Redis server, Sentinel group or Cluster.
type Redis struct {
	Type            string   `yaml:"type" enum:"redis,pulsar,stdout" doc:"redis. Needed only where the sink's name does not say it."`
	URL             URL      `yaml:"url" env:"REDIS_URL" required:"true" doc:"redis://user:password@host:6379/0; redis+sentinel://host1:26379,host2:26379/MASTER/0; redis+cluster://host1:6379,host2:6379; unix:///path/to/socket. With rediss in the place of redis the connection is secured by TLS, to sentinels too. The sentinels' own user and password are the parameters sentinel_username and sentinel_password of the URL, a secret as the password of the user: give the URL by the environment or --env-file then."`
	Username        string   `yaml:"username" doc:"ACL user, where the URL names none."`
	Password        Secret   `yaml:"password" doc:"Password, where the URL holds none."`
	PasswordFile    string   `yaml:"password_file" doc:"File that holds the password; it is read at the start."`
	TLS             TLS      `yaml:"tls" doc:"TLS settings, for the addresses that begin with rediss."`
	Fenced          bool     `yaml:"fenced" default:"true" doc:"Append only where nobody else has appended. false does not look: a small batch costs Redis a third less, but a cut-off instance's last batch may land late."`
	MaxLen          int      `yaml:"maxlen" default:"0" min:"0" max:"1000000000" doc:"Trim each stream to about so many entries, at least 1000, and many more than come to it between two checkpoints; 0 keeps all."`
	MaxMessageBytes Size     `yaml:"max_message_bytes" default:"64MiB" min:"1KiB" max:"512MiB" doc:"A larger message is rejected without being sent. Redis's own limit is proto-max-bulk-len."`
	Timeout         Duration `yaml:"timeout" default:"10s" min:"100ms" max:"10m" doc:"How long one command or batch may take, of which connecting may take half."`
}

// Pulsar is an Apache Pulsar cluster.
type Pulsar struct {
	Type            string   `yaml:"type" enum:"redis,pulsar,stdout" doc:"pulsar. Needed only where the sink's name does not say it."`
	URL             URL      `yaml:"url" env:"PULSAR_SERVICE_URL" required:"true" doc:"pulsar://host:6650, or pulsar+ssl://host:6651 for TLS; several hosts are separated by commas."`
	Token           Secret   `yaml:"token" doc:"JSON web token of the client."`
	TokenFile       string   `yaml:"token_file" doc:"File that holds the token; it is read again at each connection."`
	Username        string   `yaml:"username" doc:"User for basic authentication, where there is no token."`
	Password        Secret   `yaml:"password" doc:"Password for basic authentication."`
	TLS             TLS      `yaml:"tls" doc:"TLS settings, for pulsar+ssl:// and https://."`
	Compression     string   `yaml:"compression" default:"none" enum:"none,lz4,zstd" doc:"How batches are compressed."`
	MaxProducers    int      `yaml:"max_producers" default:"200" min:"1" max:"10000" doc:"Producers that stay open, besides 64 that have published nothing yet; beyond that the one that was idle longest is closed. Choose more than the topics (partitions counted) in use at a time: with fewer, each batch reads its topic's end first."`
	MaxMessageBytes Size     `yaml:"max_message_bytes" default:"0" min:"0" max:"512MiB" doc:"A larger message is rejected without being sent; 0 asks the broker for its limit."`
	EntryPerKey     bool     `yaml:"entry_per_key" default:"false" doc:"An entry holds events of one key only, which Key_Shared subscriptions need for the order of a key. Each change of the key then waits for an acknowledgement, and a batch has timeout for all of them: lower batch.max_messages where acknowledgements take tens of milliseconds."`
	PendingBytes    Size     `yaml:"pending_bytes" default:"32MiB" min:"1MiB" max:"4GiB" doc:"Bytes that wait for an acknowledgement, over all topics. The client holds each about three times."`
	AckStall        Duration `yaml:"ack_stall" default:"1s" min:"100ms" max:"1m" doc:"When no acknowledgement has come for so long, the producer is closed and the topic's end is read."`
	Timeout         Duration `yaml:"timeout" default:"30s" min:"100ms" max:"10m" doc:"How long connecting, making a producer or publishing a batch may take; longer than ack_stall."`
	AdminURL        URL      `yaml:"admin_url" doc:"Address of the admin REST API, http://host:8080; needed by create."`
	Create          bool     `yaml:"create" default:"false" doc:"Create tenants and namespaces that are missing. Needs admin_url."`
}

// Stdout writes JSON lines.
type Stdout struct {
	Type string `yaml:"type" enum:"redis,pulsar,stdout" doc:"stdout. Needed only where the sink's name does not say it."`
}

// TLS is how a connection is secured.
type TLS struct {
	CAFile     string `yaml:"ca_file" doc:"PEM file of the authorities to trust, instead of the system's."`
	CertFile   string `yaml:"cert_file" doc:"PEM file of the client's certificate."`
	KeyFile    string `yaml:"key_file" doc:"PEM file of the client's key."`
	ServerName string `yaml:"server_name" doc:"Name that the server's certificate must bear, where it is not the host of the URL."`
	Insecure   bool   `yaml:"insecure" default:"false" doc:"Accept any certificate. For trying things out only: it protects against nobody."`
}

// kindOfName returns the kind that a sink's name says ("redis", "redis-eu", "pulsar_2"), or "".
func kindOfName(name string) string {
	for _, kind := range sinkKinds {
		rest, ok := strings.CutPrefix(name, kind)
		if ok && (rest == "" || rest[0] == '-' || rest[0] == '_') {
			return kind
		}
	}
	return ""
}

// defaultDestination is where everything goes when there is no route.
func defaultDestination(kind string) string {
	switch kind {
	case KindPulsar:
		return "persistent://{tenant}/outbox/{topic}"
	case KindRedis:
		return "outbox:{tenant}:{topic}"
	default:
		return "{tenant}/{topic}"
	}
}

// sortedNames returns the sinks' names in order.
func sortedNames(sinks map[string]Sink) []string { return slices.Sorted(maps.Keys(sinks)) }
