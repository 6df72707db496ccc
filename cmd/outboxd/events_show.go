package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/internal/config"
	"github.com/outboxd/outboxd/internal/encrypt"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/park"
)

func newEventsShowCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show everything that is known of one event",
		Long: `Show where an event stands at each of its destinations and what blocks it there, its row in the outbox table, and
what people did to it. The fields of encrypt.fields are shown encrypted, and as asterisks where there is no key.`,
		Example: `  outboxd events show 0198c1f2-7a51-7bcd-8f0e-3d5a9c1b2e4f --config outboxd.yaml
  outboxd events show 0198c1f2-7a51-7bcd-8f0e-3d5a9c1b2e4f --payload --output json --config outboxd.yaml`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return usage(cmd, "name one event by its id")
			}
			return nil
		},
	}
	payload := cmd.Flags().Bool("payload", false, "print the payload too")
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.withRows(cmd, config.NeedDatabase, func(ctx context.Context, conn *pgx.Conn, cfg *config.Config) error {
			report, err := showEvent(ctx, conn, cfg, args[0])
			if err != nil {
				return err
			}
			if !*payload {
				report.Payload = nil
			} else if err := report.encrypt(cfg); err != nil {
				return err
			}
			if output.value == "json" {
				return a.printJSON(report)
			}
			return a.printEvent(report)
		})
	}
	return cmd
}

// eventReport is the JSON form of what is known of an event.
type eventReport struct {
	ID            string        `json:"id"`
	Tenant        string        `json:"tenant"`
	Topic         string        `json:"topic"`
	AggregateType string        `json:"aggregate_type,omitempty"`
	AggregateID   string        `json:"aggregate_id,omitempty"`
	Key           string        `json:"key"`
	OccurredAt    string        `json:"occurred_at,omitempty"`
	SchemaID      string        `json:"schema_id,omitempty"`
	SchemaVersion string        `json:"schema_version,omitempty"`
	Metadata      any           `json:"metadata,omitempty"`
	PayloadBytes  int           `json:"payload_bytes"`
	Payload       any           `json:"payload,omitempty"`
	Deliveries    []shownRow    `json:"deliveries"`
	Row           *outboxReport `json:"outbox_row,omitempty"`
	RowFault      string        `json:"outbox_fault,omitempty"` // why the outbox table could not be read
	Audit         []auditReport `json:"audit"`
	payloadText   []byte        // as it is in the table
	metadataText  []byte
	event         *event.Event
}

// shownRow is a delivery with what it waits for.
type shownRow struct {
	delivery
	Committed *time.Time  `json:"committed_at,omitempty"`
	Blocker   *blocker    `json:"blocked_by,omitempty"`
	Beside    placeReport `json:"destination_state"`
}

// placeReport is how much is parked at a destination.
type placeReport struct {
	Waiting int `json:"waiting"`
	Dead    int `json:"dead"`
}

// outboxReport is the event's row in the outbox table.
type outboxReport struct {
	Status     string     `json:"status,omitempty"`
	RetryCount int        `json:"retry_count"`
	RetryAfter *time.Time `json:"retry_after,omitempty"`
	Error      string     `json:"error_message,omitempty"`
	CreatedAt  *time.Time `json:"created_at,omitempty"`
}

type auditReport struct {
	At          time.Time `json:"at"`
	Action      string    `json:"action"`
	Sink        string    `json:"sink"`
	Destination string    `json:"destination"`
	Role        string    `json:"by_role"`
	Note        string    `json:"note,omitempty"`
}

func showEvent(ctx context.Context, conn *pgx.Conn, cfg *config.Config, id string) (*eventReport, error) {
	schema, slot := cfg.Database.Schema, cfg.Database.Slot
	table, fault := outbox.Describe(ctx, conn, outboxConfig(cfg))
	if fault == nil {
		ids, err := spelled(ctx, conn, table, []string{id})
		if err != nil {
			return nil, err
		}
		id = ids[0]
	}
	rows, err := park.List(ctx, conn, schema, slot, park.Filter{IDs: []string{id}, WithPayload: true}, park.Cursor{}, listMost)
	if err != nil {
		return nil, err
	}
	lines, err := park.Audit(ctx, conn, schema, slot, id)
	if err != nil {
		return nil, err
	}
	r := &eventReport{ID: id, Deliveries: make([]shownRow, 0, len(rows)), Audit: make([]auditReport, 0, len(lines))}
	stands := readOutboxRow(ctx, conn, r, table, fault)
	switch {
	case len(rows) > 0:
		r.describe(&rows[0].Event)
	case stands != nil:
		r.describe(stands)
	case len(lines) == 0:
		return nil, unknownEvent(cfg, r)
	}
	for i := range rows {
		shown, err := showRow(ctx, conn, cfg, &rows[i])
		if err != nil {
			return nil, err
		}
		r.Deliveries = append(r.Deliveries, shown)
	}
	for _, l := range lines {
		r.Audit = append(r.Audit, auditReport{l.At.UTC(), l.Action, l.Destination.Sink, l.Destination.Name, l.Role, l.Note})
	}
	return r, nil
}

// encrypt puts tokens in the place of the payload's fields that are published as such. Where there is no key it puts asterisks there: outboxd may
// have one that the person at this terminal has not.
func (r *eventReport) encrypt(cfg *config.Config) error {
	fields, err := encrypt.ParseFields(cfg.Encrypt.Fields)
	if err != nil || fields.Empty() || r.payloadText == nil {
		return err
	}
	encrypter, err := newEncrypter(cfg)
	if err != nil {
		return err
	}
	if encrypter == nil && !json.Valid(r.payloadText) {
		return nil // has no fields
	}
	if encrypter == nil {
		encrypter = encrypt.NewMask(fields)
	}
	if r.payloadText, err = encrypter.Append(nil, r.payloadText); err != nil {
		r.payloadText = []byte("not shown: " + err.Error())
	}
	r.Payload = asJSON(r.payloadText)
	return nil
}

func unknownEvent(cfg *config.Config, r *eventReport) error {
	if r.RowFault != "" {
		return fmt.Errorf("event %s is not parked, and the outbox table cannot be looked at: %s", r.ID, r.RowFault)
	}
	return fmt.Errorf("event %s is neither parked for slot %s nor in %s: it was delivered and removed, or never there; outboxd events list shows what is parked",
		r.ID, cfg.Database.Slot, cfg.Database.Table)
}

// readOutboxRow adds the event's row in the outbox table, if it is there, and returns the event as it stands there. A fault, also one that err says the
// table to have, is part of the report: the parked rows matter more.
func readOutboxRow(ctx context.Context, conn *pgx.Conn, r *eventReport, o *outbox.Table, err error) *event.Event {
	var found []outbox.Row
	if err == nil {
		found, err = o.Read(ctx, conn, []string{r.ID})
	}
	switch {
	case isMalformed(err):
		return nil // of another type than the table's ids: it has no row
	case err != nil:
		r.RowFault = err.Error()
		return nil
	case len(found) == 0:
		return nil
	}
	row := &found[0]
	r.Row = &outboxReport{Status: row.Status, RetryCount: row.RetryCount, Error: row.Error}
	if !row.RetryAfter.IsZero() {
		r.Row.RetryAfter = &row.RetryAfter
	}
	if !row.CreatedAt.IsZero() {
		r.Row.CreatedAt = &row.CreatedAt
	}
	return &row.Event
}

func (r *eventReport) describe(e *event.Event) {
	r.event = e
	r.Tenant, r.Topic, r.AggregateType, r.AggregateID = string(e.TenantID), string(e.Topic), string(e.AggregateType), string(e.AggregateID)
	r.Key, r.OccurredAt = string(e.AppendKey(nil)), string(e.OccurredAt)
	r.SchemaID, r.SchemaVersion = string(e.SchemaID), string(e.SchemaVersion)
	r.metadataText, r.payloadText, r.PayloadBytes = e.Metadata, e.Payload, len(e.Payload)
	r.Metadata, r.Payload = asJSON(e.Metadata), asJSON(e.Payload)
}

// asJSON returns text that is JSON as it is, and any other as a string.
func asJSON(text []byte) any {
	switch {
	case text == nil:
		return nil
	case json.Valid(text):
		return json.RawMessage(text)
	default:
		return string(text)
	}
}

func showRow(ctx context.Context, conn *pgx.Conn, cfg *config.Config, row *park.Row) (shown shownRow, err error) {
	shown.delivery = newDelivery(row)
	if !row.Committed.IsZero() {
		committed := row.Committed.UTC()
		shown.Committed = &committed
	}
	d := row.Destination
	for _, one := range []struct {
		state park.State
		n     *int
	}{{park.Waiting, &shown.Beside.Waiting}, {park.Dead, &shown.Beside.Dead}} {
		here := park.Filter{States: []park.State{one.state}, Sink: d.Sink, Destination: d.Name}
		if d.Sink == "" {
			here = park.Filter{States: here.States, IDs: []string{shown.ID}} // no destination: only what is the event's own
		}
		if *one.n, err = park.Matching(ctx, conn, cfg.Database.Schema, cfg.Database.Slot, here); err != nil {
			return shown, err
		}
	}
	if row.State == park.Waiting {
		shown.Blocker, err = findBlocker(ctx, conn, cfg, row)
	}
	return shown, err
}
