package wal

import (
	"context"
	"errors"
	"fmt"
)

// checkSlot checks that the slot can be streamed from, now and by this program.
func (v *verifier) checkSlot(ctx context.Context) error {
	slot, err := readSlot(ctx, v.conn, v.cfg.Slot, v.server.Major())
	if errors.Is(err, ErrSlotMissing) {
		if !v.cfg.Create {
			v.fail(CheckSlot, fmt.Sprintf("slot %q does not exist", v.cfg.Slot),
				"outboxd slot create, or after the publication exists: SELECT pg_create_logical_replication_slot("+quoteLiteral(v.cfg.Slot)+", '"+plugin+"')")
		}
		return nil
	}
	if err != nil {
		return err
	}
	v.server.Slot = slot
	drop := "name another slot in the configuration, or SELECT pg_drop_replication_slot(" + quoteLiteral(slot.Name) + ")"
	switch {
	case slot.Plugin == "":
		v.fail(CheckSlot, fmt.Sprintf("slot %q is a physical one, want a logical one", slot.Name), drop)
		return nil
	case slot.Plugin != plugin:
		v.fail(CheckSlot, fmt.Sprintf("slot %q uses the plugin %q, want %q", slot.Name, slot.Plugin, plugin), drop)
	}
	if slot.Database != v.server.Database {
		v.fail(CheckSlot, fmt.Sprintf("slot %q belongs to database %q, this is %q", slot.Name, slot.Database, v.server.Database),
			"name another slot, or the other database, in the configuration")
	}
	if slot.TwoPhase {
		v.fail(CheckSlot, fmt.Sprintf("slot %q was made with two_phase: it sends transactions when they are prepared, and not when they are committed", slot.Name),
			drop+" and have it made without two_phase")
	}
	if slot.Temporary {
		v.fail(CheckSlot, fmt.Sprintf("slot %q is temporary and ends with the session that made it", slot.Name), "name another slot in the configuration")
	}
	switch {
	case slot.Lost():
		v.fail(CheckSlotLost, fmt.Sprintf("slot %q was invalidated by the server%s", slot.Name, lostReason(slot)),
			"SELECT pg_drop_replication_slot("+quoteLiteral(slot.Name)+") and have it made anew; "+slot.Prevention())
	case slot.WALStatus == "unreserved":
		v.warn("slot %q is about to be lost: the server may remove the WAL it needs at the next checkpoint (max_slot_wal_keep_size)", slot.Name)
		fallthrough
	default:
		v.checkSlotFree(slot)
	}
	return nil
}

// checkSlotFree checks that nobody streams from the slot. A temporary one is always held by the session that made it.
func (v *verifier) checkSlotFree(slot *Slot) {
	if slot.Active && !slot.Temporary {
		v.fail(CheckSlotActive, fmt.Sprintf("slot %q is in use by process %d", slot.Name, slot.ActivePID),
			fmt.Sprintf("stop the other instance, or SELECT pg_terminate_backend(%d)", slot.ActivePID))
	}
}

func lostReason(slot *Slot) string {
	if slot.InvalidationReason == "" {
		return ""
	}
	return " (" + slot.InvalidationReason + ")"
}
