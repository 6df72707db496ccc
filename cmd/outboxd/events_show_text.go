package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/outboxd/outboxd/internal/human"
	"github.com/outboxd/outboxd/park"
)

func (a *app) printEvent(r *eventReport) error {
	if err := table(a.out, eventRows(r)); err != nil {
		return err
	}
	now := time.Now()
	for i := range r.Deliveries {
		if err := a.print("\n"); err != nil {
			return err
		}
		if err := table(a.out, a.shownRows(&r.Deliveries[i], now)); err != nil {
			return err
		}
	}
	if len(r.Audit) > 0 {
		rows := [][]string{{"AT", "ACTION", "DESTINATION", "BY", "NOTE"}}
		for _, l := range r.Audit {
			rows = append(rows, []string{moment(l.At), l.Action, placeOf(l.Sink, l.Destination), cell(l.Role), cell(l.Note)})
		}
		if err := a.print("\n"); err != nil {
			return err
		}
		if err := table(a.out, rows); err != nil {
			return err
		}
	}
	if r.Payload == nil {
		return nil
	}
	return a.print("\n%s\n", r.payloadText)
}

func eventRows(r *eventReport) [][]string {
	rows := [][]string{{"event", cell(r.ID)}}
	if r.event != nil {
		d := delivery{AggregateType: r.AggregateType, AggregateID: r.AggregateID}
		rows = append(rows, [][]string{
			{"tenant", cell(r.Tenant)},
			{"topic", cell(r.Topic)},
			{"aggregate", d.aggregate()},
			{"key", cell(r.Key)},
			{"occurred at", cell(r.OccurredAt)},
			{"schema", cell(r.SchemaID + " " + r.SchemaVersion)},
			{"metadata", cell(string(r.metadataText))},
			{"payload", human.Bytes(int64(r.PayloadBytes))},
		}...)
	}
	switch o := r.Row; {
	case o != nil:
		rows = append(rows, []string{"outbox row", o.text()})
	case r.RowFault != "":
		rows = append(rows, []string{"outbox row", "not read: " + cell(r.RowFault)})
	default:
		rows = append(rows, []string{"outbox row", "none"})
	}
	if len(r.Deliveries) == 0 {
		rows = append(rows, []string{"parked", "no"})
	}
	return rows
}

func (o *outboxReport) text() string {
	text := cell(o.Status)
	if o.CreatedAt != nil {
		text += ", created " + moment(*o.CreatedAt)
	}
	if o.RetryCount > 0 {
		text += ", retry count " + strconv.Itoa(o.RetryCount)
	}
	if o.RetryAfter != nil {
		text += ", retry after " + moment(*o.RetryAfter)
	}
	if o.Error != "" {
		text += ": " + cell(o.Error)
	}
	return text
}

func (a *app) shownRows(s *shownRow, now time.Time) [][]string {
	state := map[park.State]colour{park.Waiting: yellow, park.Dead: red}[s.State]
	text := string(s.State)
	if state != "" {
		text = a.paint(state, text)
	}
	if s.HoldsBack {
		text += ", holds back the later events of its key"
	}
	rows := [][]string{{"destination", s.place()}, {"state", text}}
	if s.Replay > 0 {
		rows = append(rows, []string{"replay", strconv.Itoa(s.Replay)})
	}
	rows = append(rows, [][]string{
		{"attempts", strconv.Itoa(s.Attempts)},
		{"due", s.dueIn(now)},
		{"parked", moment(s.ParkedAt) + ", " + span(now.Sub(s.ParkedAt)) + " ago"},
		{"position", s.Position},
		{"reason", s.reason()},
	}...)
	if b := s.Blocker; b != nil {
		rows = append(rows, []string{"blocked by", fmt.Sprintf("event %s of its key, which is %s: %s", cell(b.ID), b.State, cell(b.Reason))})
	}
	if s.Sink != "" {
		rows = append(rows, []string{"parked there", fmt.Sprintf("%s waiting, %s dead", number(s.Beside.Waiting), number(s.Beside.Dead))})
	}
	return rows
}
