package main

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outboxd/outboxd/internal/config"
	"github.com/outboxd/outboxd/outbox"
)

// spelled returns the ids as what is parked spells them. One that is none of the table's type names nothing and stays as it is, and so do all where the
// table cannot be looked at.
func spelled(ctx context.Context, conn *pgx.Conn, cfg *config.Config, ids []string) ([]string, error) {
	if len(ids) == 0 {
		return ids, nil
	}
	t, err := outbox.Describe(ctx, conn, outboxConfig(cfg))
	if err != nil {
		return ids, nil // a person who may not read the table still acts on what is parked
	}
	known := slices.Clone(ids)
	for i, id := range ids {
		one, err := t.Spelled(ctx, conn, id)
		switch {
		case err == nil:
			known[i] = one
		case !isMalformed(err):
			return nil, err
		}
	}
	return known, nil
}

// isMalformed tells whether the server says that a value is not of the type it should be, such as an id that is no UUID.
func isMalformed(err error) bool {
	const invalidText, outOfRange = "22P02", "22003"
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (e.Code == invalidText || e.Code == outOfRange)
}
