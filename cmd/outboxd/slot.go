package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/outboxd/outboxd/internal/config"
	"github.com/outboxd/outboxd/internal/human"
	"github.com/outboxd/outboxd/wal"
)

func newSlotCommand(a *app) *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "slot",
		Short: "Show, make or drop the replication slot",
		Example: `  outboxd slot status --config outboxd.yaml
  outboxd slot create --config outboxd.yaml
  outboxd slot drop --config outboxd.yaml`,
	})
	cmd.AddCommand(newSlotStatusCommand(a), newSlotCreateCommand(a), newSlotDropCommand(a))
	return cmd
}

func newSlotStatusCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show where the slot stands and how much log it holds back",
		Example: `  outboxd slot status --config outboxd.yaml
  outboxd slot status --config outboxd.yaml --output json`,
		Args: noArguments,
	}
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.withDatabase(cmd, func(ctx context.Context, conn *pgx.Conn, cfg *config.Config) error {
			s, err := wal.SlotStatus(ctx, conn, cfg.Database.Slot)
			if errors.Is(err, wal.ErrSlotMissing) {
				return fmt.Errorf("%w: make it with outboxd slot create", err)
			}
			if err != nil {
				return err
			}
			if output.value == "json" {
				return a.printJSON(newSlotReport(s))
			}
			return table(a.out, a.slotRows(s))
		})
	}
	return cmd
}

// slotReport is the JSON form of a slot.
type slotReport struct {
	Name               string     `json:"name"`
	Plugin             string     `json:"plugin"`
	Database           string     `json:"database"`
	Active             bool       `json:"active"`
	ActivePID          int32      `json:"active_pid,omitempty"`
	RestartLSN         string     `json:"restart_lsn"`
	ConfirmedFlushLSN  string     `json:"confirmed_flush_lsn"`
	RetainedBytes      int64      `json:"retained_bytes"`
	SafeWALBytes       *int64     `json:"safe_wal_bytes,omitempty"`
	WALStatus          string     `json:"wal_status,omitempty"`
	Lost               bool       `json:"lost"`
	InvalidationReason string     `json:"invalidation_reason,omitempty"`
	InactiveSince      *time.Time `json:"inactive_since,omitempty"`
	Failover           bool       `json:"failover"`
}

func newSlotReport(s *wal.Slot) slotReport {
	return slotReport{
		Name: s.Name, Plugin: s.Plugin, Database: s.Database, Active: s.Active, ActivePID: s.ActivePID,
		RestartLSN: s.RestartLSN.String(), ConfirmedFlushLSN: s.ConfirmedFlush.String(), RetainedBytes: s.RetainedBytes,
		SafeWALBytes: s.SafeWALSize, WALStatus: s.WALStatus, Lost: s.Lost(), InvalidationReason: s.InvalidationReason,
		InactiveSince: s.InactiveSince, Failover: s.Failover,
	}
}

func (a *app) slotRows(s *wal.Slot) [][]string {
	state := a.paint(yellow, "idle")
	switch {
	case s.Lost():
		state = a.paint(red, strings.TrimSpace("lost "+s.InvalidationReason))
	case s.Active:
		state = a.paint(green, "active") + ", process " + strconv.Itoa(int(s.ActivePID))
	}
	rows := [][]string{
		{"slot", s.Name},
		{"state", state},
		{"database", s.Database},
		{"plugin", s.Plugin},
		{"confirmed", s.ConfirmedFlush.String()},
		{"restart", s.RestartLSN.String()},
		{"retained", human.Bytes(s.RetainedBytes)},
	}
	if s.WALStatus != "" {
		rows = append(rows, []string{"wal status", s.WALStatus})
	}
	if s.SafeWALSize != nil {
		rows = append(rows, []string{"until lost", human.Bytes(*s.SafeWALSize)})
	}
	if s.Failover {
		rows = append(rows, []string{"failover", "yes"})
	}
	return rows
}

func newSlotCreateCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make the publication and the slot that are missing",
		Long: `Make the publication and then the slot, where they are missing, after checking the server, the role and
the table. "run" does the same before its first session, unless it is told not to.

"run" makes its own slot where this one has no checkpoint yet, and where the slot before it was lost: only
then does it know which rows of the outbox table are older than the slot, and delivers those too.`,
		Example: `  outboxd slot create --config outboxd.yaml`,
		Args:    noArguments,
	}
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.withDatabase(cmd, func(ctx context.Context, conn *pgx.Conn, cfg *config.Config) error {
			server, err := wal.Setup(ctx, conn, walConfig(cfg, true))
			if err != nil {
				return err
			}
			return a.printCreated(output.value, cfg, server)
		})
	}
	return cmd
}

func (a *app) printCreated(output string, cfg *config.Config, s *wal.Server) error {
	if output == "json" {
		return a.printJSON(map[string]any{
			"publication": cfg.Database.Publication, "publication_created": s.CreatedPublication,
			"slot": cfg.Database.Slot, "slot_created": s.CreatedSlot, "warnings": append([]string{}, s.Warnings...),
		})
	}
	did := map[bool]string{true: "made", false: "was there"}
	rows := [][]string{
		{"publication", cfg.Database.Publication, did[s.CreatedPublication]},
		{"slot", cfg.Database.Slot, did[s.CreatedSlot]},
	}
	for _, w := range s.Warnings {
		rows = append(rows, []string{"warning", w})
	}
	return table(a.out, rows)
}

func newSlotDropCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "drop",
		Short: "Drop the slot and every position that it has confirmed",
		Long: `Drop the slot, so that the server no longer holds back log for it.

Events that are committed and not yet delivered are then only in the outbox table. The publication stays.
A slot that is in use is not dropped: stop outboxd first.`,
		Example: `  outboxd slot drop --config outboxd.yaml
  outboxd slot drop --config outboxd.yaml --yes`,
		Args: noArguments,
	}
	output := outputFlag(cmd)
	yes := cmd.Flags().Bool("yes", false, "do not ask")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.withDatabase(cmd, func(ctx context.Context, conn *pgx.Conn, cfg *config.Config) error {
			name := cfg.Database.Slot
			if !*yes {
				if err := a.confirm("this drops slot "+name+" with its position", name); err != nil {
					return err
				}
			}
			if err := wal.DropSlot(ctx, conn, name); err != nil {
				return err
			}
			if output.value == "json" {
				return a.printJSON(map[string]string{"dropped": name})
			}
			return a.print("dropped slot %s\n", name)
		})
	}
	return cmd
}
