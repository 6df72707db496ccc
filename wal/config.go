package wal

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Config names what a session reads and how it connects. URL, Schema, Table, Slot and Publication are required.
type Config struct {
	// URL is a pgx connection string for ordinary SQL connections. [Open] and [CreateSlot] add to it what a
	// replication connection needs; sslmode, several hosts and target_session_attrs work as in pgx.
	URL string

	Client Client // how connections are made

	Schema, Table string   // the outbox table, unquoted, in their exact case
	Columns       []string // columns that the table must have and the log must carry, unquoted

	Slot        string // [a-z0-9_]{1,63}
	Publication string // any identifier, unquoted

	// Rows is the condition that a row belongs to this shard of the table, on its unqualified columns: the row filter of the publication. Empty
	// where the table is not split. It needs PostgreSQL 15.
	Rows string
	// Others are what instances of other layouts of the same table would be called: [Verify] refuses to work beside one of them.
	Others []Names

	// Beside are slots that are to be made and read together with this one: those of the other shards. [Verify] wants room for all of them.
	Beside []string

	Create   bool // [Setup] makes a publication and a slot that are missing
	Failover bool // a new slot is synchronized to standbys; PostgreSQL 17 and later, ignored before

	// SystemID is the system identifier that the caller's checkpoint was written for. When it is not empty,
	// [Open] refuses any other server with [ErrReplaced].
	SystemID string

	// Timeline is the one that the caller's checkpoint was made on. Where the server is on another one, [Open] and [CreateSlotSnapshot] read how it
	// came to that, over the same connection. 0: they do not.
	Timeline int32

	// Started is when the server of the caller's other connections was started, as [Started] says it. Where it is not empty, replication connections
	// to any other server are refused with [ErrOtherServer].
	Started string

	// StatusInterval is how often the caller will call [Stream.Confirm] at least. [Verify] refuses one that the
	// server's wal_sender_timeout does not bear. Zero leaves that unchecked.
	StatusInterval time.Duration
}

// Names are those of another instance.
type Names struct {
	Slot   string
	Schema string // of its own tables

	Publication string
	Layout      string // for people: "shards.count: 4"
}

// applicationName is what pg_stat_replication shows when the URL does not name another.
const applicationName = "outboxd"

// maxIdentifierBytes is NAMEDATALEN - 1; PostgreSQL cuts longer identifiers off with a notice only.
const maxIdentifierBytes = 63

var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

// validate finds what is wrong with the names before any server is asked. Every problem is one error.
func (c Config) validate() error {
	problems := []error{checkSlotName(c.Slot)}
	names := append([]string{c.Schema, c.Table, c.Publication}, c.Columns...)
	for _, name := range names {
		if name == "" || len(name) > maxIdentifierBytes || strings.ContainsRune(name, 0) {
			problems = append(problems, fmt.Errorf("identifier %q: want 1 to %d bytes without a zero byte", name, maxIdentifierBytes))
		}
	}
	return errors.Join(problems...)
}

func checkSlotName(name string) error {
	if !slotName.MatchString(name) {
		return fmt.Errorf("slot name %q: want 1 to 63 of a-z, 0-9 and _", name)
	}
	return nil
}

// TextFormat are the settings of a session that reads rows in the same text form as the log carries them.
var TextFormat = map[string]string{
	"client_encoding":    "UTF8",
	"TimeZone":           "UTC",
	"DateStyle":          "ISO",
	"IntervalStyle":      "postgres",
	"bytea_output":       "hex",
	"extra_float_digits": "1", // shortest text that reads back exactly; 12 and later
}

// fixedParameters pin the text form of every value that the log carries, whatever the role's or the database's settings
// say. client_min_messages lets the warning of a missing publication through (see [ErrPublicationMissing]).
var fixedParameters = withTextFormat(map[string]string{
	"replication":         "database",
	"client_min_messages": "warning",
	"lock_timeout":        "0", // a new slot waits for open transactions by their locks
})

func withTextFormat(parameters map[string]string) map[string]string {
	maps.Copy(parameters, TextFormat)
	return parameters
}

// replicationConfig returns how a replication connection is made.
func (c Config) replicationConfig() (*pgconn.Config, error) {
	parsed, err := c.SessionConfig()
	if err != nil {
		return nil, err
	}
	config := &parsed.Config
	SetParameters(config.RuntimeParams, fixedParameters)
	return config, nil
}

// relation is the table's quoted name.
func (c Config) relation() string { return pgx.Identifier{c.Schema, c.Table}.Sanitize() }

// member is the table as a publication lists it.
func (c Config) member() string {
	if c.Rows == "" {
		return c.relation()
	}
	return c.relation() + " WHERE (" + c.Rows + ")"
}

// table is the table's name for people.
func (c Config) table() string { return c.Schema + "." + c.Table }

func quoteName(name string) string { return pgx.Identifier{name}.Sanitize() }

func quoteLiteral(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
