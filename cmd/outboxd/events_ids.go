package main

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/lease"
	"github.com/outboxd/outboxd/outbox"
)

// spelled returns the ids as the table's events have them. One that is none of the table's type names nothing and stays as it is.
func spelled(ctx context.Context, conn *pgx.Conn, t *outbox.Table, ids []string) ([]string, error) {
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
	return lease.HasCode(err, lease.InvalidTextRepresentation, lease.NumericValueOutOfRange)
}
