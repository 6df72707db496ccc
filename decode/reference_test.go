package decode_test

import (
	"bytes"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/outboxd/outboxd/decode"
	"github.com/outboxd/outboxd/event"
)

// reference reads the same stream with pglogrepl's parser, and says where the decoder differs.
type reference struct {
	schema, table string
	columns       decode.Columns
	relations     map[uint32]*pglogrepl.RelationMessage
	begin         *pglogrepl.BeginMessage
	ordinal       uint32
}

func newReference(schema, table string, columns decode.Columns) *reference {
	return &reference{schema: schema, table: table, columns: columns, relations: map[uint32]*pglogrepl.RelationMessage{}}
}

// compare parses a message that the decoder accepted as m.
func (r *reference) compare(data []byte, m *decode.Message) error {
	parsed, err := parse(data)
	if err != nil {
		return fmt.Errorf("the decoder accepts %s, the parser does not: %w", m.Kind, err)
	}
	want := decode.Message{Kind: decode.Kind(parsed.Type())}
	switch p := parsed.(type) {
	case *pglogrepl.BeginMessage:
		r.begin, r.ordinal = p, 0
		want.Xid, want.CommitLSN, want.CommitTime = p.Xid, event.LSN(p.FinalLSN), micros(m.CommitTime, p.CommitTime)
	case *pglogrepl.CommitMessage:
		want.CommitLSN, want.EndLSN = event.LSN(p.CommitLSN), event.LSN(p.TransactionEndLSN)
		want.CommitTime = micros(m.CommitTime, p.CommitTime)
	case *pglogrepl.RelationMessage:
		r.relations[p.RelationID] = p
		want.Outbox = r.isOutbox(p.RelationID)
	case *pglogrepl.InsertMessage:
		if want.Outbox = r.isOutbox(p.RelationID); want.Outbox {
			r.ordinal++
			want.Event = r.event(p)
		}
	case *pglogrepl.UpdateMessage:
		want.Outbox = r.isOutbox(p.RelationID)
	case *pglogrepl.DeleteMessage:
		want.Outbox = r.isOutbox(p.RelationID)
	case *pglogrepl.TruncateMessage:
		for _, id := range p.RelationIDs {
			want.Outbox = want.Outbox || r.isOutbox(id)
		}
	}
	return difference(m, &want)
}

// parse survives the parser's own panics.
func parse(data []byte) (m pglogrepl.Message, err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("the parser panics: %v", fault)
		}
	}()
	return pglogrepl.Parse(data)
}

// micros returns t in microseconds: got, when that is t as far as the parser can tell, which counts in nanoseconds and so wraps
// round outside the years 1678 to 2262.
func micros(got int64, t time.Time) int64 {
	if got*1000 == t.UnixNano() {
		return got
	}
	return t.UnixMicro()
}

func (r *reference) isOutbox(id uint32) bool {
	rel := r.relations[id]
	schema := rel.Namespace
	if schema == "" {
		schema = "pg_catalog"
	}
	return schema == r.schema && rel.RelationName == r.table
}

func (r *reference) event(p *pglogrepl.InsertMessage) event.Event {
	values := map[string][]byte{}
	for i, c := range p.Tuple.Columns {
		if c.DataType == pglogrepl.TupleDataTypeText {
			values[r.relations[p.RelationID].Columns[i].Name] = c.Data
		}
	}
	c := r.columns
	return event.Event{
		Xid: r.begin.Xid, Position: event.Position{Commit: event.LSN(r.begin.FinalLSN), Ordinal: r.ordinal},
		ID: values[c.ID], TenantID: values[c.TenantID], Topic: values[c.Topic],
		AggregateType: values[c.AggregateType], AggregateID: values[c.AggregateID], OccurredAt: values[c.OccurredAt],
		SchemaID: values[c.SchemaID], SchemaVersion: values[c.SchemaVersion],
		Payload: values[c.Payload], Metadata: values[c.Metadata], Status: values[c.Status],
	}
}

// difference says in what got is not want; NULL and the empty string are two things.
func difference(got, want *decode.Message) error {
	wantFields := eventFields(&want.Event)
	for name, value := range eventFields(&got.Event) {
		other := *wantFields[name]
		if !bytes.Equal(*value, other) || (*value == nil) != (other == nil) {
			return fmt.Errorf("%s: %s is %.60q (NULL: %v), the parser reads %.60q (NULL: %v)",
				got.Kind, name, *value, *value == nil, other, other == nil)
		}
	}
	g, w := *got, *want
	g.Event, w.Event = event.Event{}, event.Event{}
	gotHead, wantHead := fmt.Sprintf("%+v", g), fmt.Sprintf("%+v", w)
	gotEvent := fmt.Sprintf("xid %d at %s", got.Event.Xid, got.Event.Position)
	wantEvent := fmt.Sprintf("xid %d at %s", want.Event.Xid, want.Event.Position)
	if gotHead != wantHead || gotEvent != wantEvent {
		return fmt.Errorf("got %s, %s; the parser reads %s, %s", gotHead, gotEvent, wantHead, wantEvent)
	}
	return nil
}
