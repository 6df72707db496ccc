package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/internal/config"
	"github.com/outboxd/outboxd/park"
)

const (
	listLimit   = 50
	listMost    = 10_000
	reasonWidth = 60 // characters of a reason in a list
)

func newEventsListCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List parked events",
		Long: `List parked events in the order of their positions, one line for each destination of an event.

When there are more than --limit, the last line names what continues the list.`,
		Example: `  outboxd events list --config outboxd.yaml
  outboxd events list --status dead --tenant acme --older-than 24h --config outboxd.yaml
  outboxd events list --status waiting --sink redis --reason timeout --output json --config outboxd.yaml`,
		Args: noArguments,
	}
	flags := addParkedFlags(cmd, park.Waiting, park.Dead, park.Skipped, park.Done)
	limit := cmd.Flags().Int("limit", listLimit, "show about this `NUMBER` of deliveries; those of one event stay together")
	after := cmd.Flags().String("after", "", "go on behind this `CURSOR`, which the page before has named")
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		filter, _, err := flags.filter(cmd, nil)
		if err != nil {
			return err
		}
		if *limit < 1 || *limit > listMost {
			return usage(cmd, "--limit %d is out of range: choose 1 to %d", *limit, listMost)
		}
		cursor, err := parseCursor(*after)
		if err != nil {
			return usage(cmd, "--after %s is no cursor (%v): take it from the end of the page before", *after, err)
		}
		return a.withRows(cmd, config.NeedDatabase, func(ctx context.Context, conn *pgx.Conn, cfg *config.Config) error {
			rows, more, err := listPage(ctx, conn, cfg, filter, cursor, *limit)
			if err != nil {
				return err
			}
			return a.printPage(output.value, rows, more)
		})
	}
	return cmd
}

// listPage returns the next rows, limit or a few more: rows of one event stay together, so that a cursor stands between events. more says
// that there are rows behind them.
func listPage(
	ctx context.Context, conn *pgx.Conn, cfg *config.Config, f park.Filter, after park.Cursor, limit int,
) (rows []park.Row, more bool, err error) {
	for size := limit + 1; ; size *= 2 {
		rows, err = park.List(ctx, conn, cfg.Database.Schema, cfg.Database.Slot, f, after, size)
		if err != nil || len(rows) <= limit {
			return rows, false, err
		}
		end := limit
		for end < len(rows) && cursorBehind(&rows[end]) == cursorBehind(&rows[limit-1]) {
			end++
		}
		if end < len(rows) || len(rows) < size {
			return rows[:end], end < len(rows), nil
		}
	}
}

func cursorBehind(r *park.Row) park.Cursor {
	return park.Cursor{Position: r.Event.Position, ID: string(r.Event.ID), Replay: r.Replay}
}

// cursorText is a cursor in one word.
func cursorText(c park.Cursor) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%s %d %s", c.Position, c.Replay, c.ID))
}

// parseCursor reads what cursorText makes; no text is the beginning.
func parseCursor(text string) (c park.Cursor, err error) {
	if text == "" {
		return c, nil
	}
	plain, err := base64.RawURLEncoding.DecodeString(text)
	parts := strings.SplitN(string(plain), " ", 3)
	if err != nil || len(parts) != 3 {
		return c, errors.New("it is not whole")
	}
	c.ID = parts[2]
	if c.Replay, err = strconv.Atoi(parts[1]); err != nil {
		return c, errors.New("it is not whole")
	}
	c.Position, err = event.ParsePosition(parts[0])
	return c, err
}

// page is the JSON form of a list.
type page struct {
	Events []delivery `json:"events"`
	Next   string     `json:"next,omitempty"` // for --after
}

func (a *app) printPage(output string, rows []park.Row, more bool) error {
	p := page{Events: make([]delivery, len(rows))}
	for i := range rows {
		p.Events[i] = newDelivery(&rows[i])
	}
	if more {
		p.Next = cursorText(cursorBehind(&rows[len(rows)-1]))
	}
	if output == "json" {
		return a.printJSON(p)
	}
	if len(rows) == 0 {
		return a.print("no event is parked that matches\n")
	}
	if err := table(a.out, listRows(p.Events, time.Now())); err != nil || !more {
		return err
	}
	return a.print("there are more: --after %s\n", p.Next)
}

func listRows(events []delivery, now time.Time) [][]string {
	rows := [][]string{{"ID", "STATE", "TENANT", "TOPIC", "AGGREGATE", "DESTINATION", "ATTEMPTS", "DUE", "AGE", "REASON"}}
	replays := slices.ContainsFunc(events, func(d delivery) bool { return d.Replay > 0 })
	if replays {
		rows[0] = slices.Insert(rows[0], 1, "REPLAY")
	}
	for i := range events {
		d := &events[i]
		row := []string{
			cell(d.ID), string(d.State), cell(d.Tenant), cell(d.Topic), d.aggregate(), d.place(),
			strconv.Itoa(d.Attempts), d.dueIn(now), span(now.Sub(d.ParkedAt)), cut(d.reason(), reasonWidth),
		}
		if replays {
			row = slices.Insert(row, 1, d.replayNumber())
		}
		rows = append(rows, row)
	}
	return rows
}
