package workload

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/google/uuid"
)

// AggregateType is the aggregate type of every event that has an aggregate id.
const AggregateType = "order"

// What happens to an order: its first event is order.created, and no other one.
var topics = [...]string{"order.created", "order.paid", "order.shipped"}

// Topics returns the topics that a Producer writes to.
func Topics() []string { return topics[:] }

var tenantNames = [...]string{"acme", "globex", "initech", "umbrella", "hooli", "stark", "wayne", "tyrell", "cyberdyne", "wonka"}

// Tenants returns the names of n tenants.
func Tenants(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = tenantNames[i%len(tenantNames)]
		if round := i / len(tenantNames); round > 0 {
			names[i] = fmt.Sprintf("%s-%d", names[i], round+1)
		}
	}
	return names
}

// eventID is what the id of an event says: which run of a Producer wrote it, the index of its key, and its number among that key's.
// Its text is a UUID of version 8, whose content is the application's own (RFC 9562, section 5.8).
type eventID struct {
	run uint64 // 48 bits
	key uint32 // 30 bits
	seq uint32
}

const (
	maxRun = 1<<48 - 1
	maxKey = 1<<30 - 1
)

func (id eventID) String() string {
	var u uuid.UUID
	binary.BigEndian.PutUint64(u[:8], id.run<<16|0x8000)
	binary.BigEndian.PutUint64(u[8:], 1<<63|uint64(id.key)<<32|uint64(id.seq))
	return u.String()
}

func parseEventID(s string) (eventID, error) {
	u, err := uuid.Parse(s)
	if err != nil {
		return eventID{}, err
	}
	high, low := binary.BigEndian.Uint64(u[:8]), binary.BigEndian.Uint64(u[8:])
	id := eventID{run: high >> 16, key: uint32(low >> 32 & maxKey), seq: uint32(low)} //nolint:gosec // masked and cut on purpose
	if id.String() != u.String() {
		return eventID{}, errors.New("it is not the id of an event of this workload")
	}
	return id, nil
}

// payload is the body of an event.
type payload struct {
	ID        string `json:"event_id"`
	Tenant    string `json:"tenant"`
	Topic     string `json:"topic"`
	Order     string `json:"order,omitempty"` // aggregate id; empty for an event without one
	Seq       uint32 `json:"seq"`
	Cents     int64  `json:"cents"`
	WrittenAt int64  `json:"written_at"` // microseconds since 1970
	Filler    string `json:"filler,omitempty"`
	Sum       string `json:"sum"` // over all the others
}

func (p *payload) checksum() string {
	h := crc32.NewIEEE()
	_, _ = fmt.Fprintf(h, "%q %q %q %q %d %d %d %q", p.ID, p.Tenant, p.Topic, p.Order, p.Seq, p.Cents, p.WrittenAt, p.Filler) // a hash takes all
	return hex.EncodeToString(h.Sum(nil))
}

func (p *payload) encode() ([]byte, error) {
	p.Sum = p.checksum()
	return json.Marshal(p)
}

func decodePayload(body []byte) (payload, error) {
	var p payload
	if err := json.Unmarshal(body, &p); err != nil {
		return p, fmt.Errorf("its payload is not JSON of this workload: %w", err)
	}
	if want := p.checksum(); p.Sum != want {
		return p, fmt.Errorf("its payload has checksum %q and should have %s", p.Sum, want)
	}
	return p, nil
}

// message is what a broker's client read, before it is understood.
type message struct {
	id, tenant, topic, aggregateType, aggregateID string
	key                                           *string // the broker's own message key, nil where it has none
	body                                          []byte
}

// Received is an event as a broker has it.
type Received struct {
	ID          string
	Tenant      string
	Topic       string
	Key         string // aggregate id; empty for an event without one
	Seq         uint32
	CommittedAt time.Time // taken just before COMMIT, see the package comment
	ReceivedAt  time.Time // of the entry, in whole milliseconds: Redis's own time, on Pulsar when the client sent it
	SeenAt      time.Time // when the reader had it
	Destination string    // stream, or topic with its partition
	Entry       string    // the broker's own id of the entry
	Fault       string    // what is wrong with the content; empty for nothing
	Body        []byte    // the payload as it arrived

	event eventID
}

// Latency is the time from just before the COMMIT to ReceivedAt, never negative.
func (r *Received) Latency() time.Duration { return max(0, r.ReceivedAt.Sub(r.CommittedAt)) }

// EndToEnd is the time from just before the COMMIT to SeenAt. It means something only while the reader follows.
func (r *Received) EndToEnd() time.Duration { return max(0, r.SeenAt.Sub(r.CommittedAt)) }

// understand checks the content of m by itself.
func understand(m message, destination, entry string, at time.Time) Received {
	r := Received{
		ID: m.id, Tenant: m.tenant, Topic: m.topic, Key: m.aggregateID,
		ReceivedAt: at, SeenAt: time.Now(), Destination: destination, Entry: entry, Body: m.body,
	}
	var err error
	if r.event, err = parseEventID(m.id); err != nil {
		r.Fault = fmt.Sprintf("its id %q: %v", m.id, err)
		return r
	}
	r.Seq = r.event.seq
	p, err := decodePayload(m.body)
	if err != nil {
		r.Fault = err.Error()
		return r
	}
	r.CommittedAt = time.UnixMicro(p.WrittenAt)
	r.Fault = m.disagreement(&p)
	return r
}

// disagreement names the first piece of metadata that does not belong to the payload.
func (m *message) disagreement(p *payload) string {
	aggregateType, key := "", p.Tenant+"/#"+p.ID
	if p.Order != "" {
		aggregateType, key = AggregateType, p.Tenant+"/"+AggregateType+"/"+p.Order
	}
	if m.key == nil {
		m.key = &key
	}
	id, err := parseEventID(p.ID)
	if err != nil || id.seq != p.Seq {
		return fmt.Sprintf("its payload's event id %q and number %d disagree", p.ID, p.Seq)
	}
	for _, f := range []struct{ name, has, want string }{
		{"id", m.id, p.ID},
		{"tenant_id", m.tenant, p.Tenant},
		{"topic", m.topic, p.Topic},
		{"aggregate_type", m.aggregateType, aggregateType},
		{"aggregate_id", m.aggregateID, p.Order},
		{"message key", *m.key, key},
	} {
		if f.has != f.want {
			return fmt.Sprintf("its %s is %q and should be %q", f.name, f.has, f.want)
		}
	}
	return ""
}
