package main

import (
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/testenv"
)

// Two instances reach one server through its name, its address, a proxy: on Pulsar each must know the other's producers.
func TestAnOutboxHasOneNameAtEveryAddressOfItsServer(t *testing.T) {
	database := testenv.Postgres(t).Database(t)
	byName, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	byName.Host = "localhost:" + byName.Port()
	name := nameAt(t, database, "orders")
	if other := nameAt(t, byName.String(), "orders"); byName.String() == database || other != name {
		t.Errorf("%s at %s, %s at %s", name, database, other, byName)
	}
	for what, other := range map[string]string{
		"another slot":     nameAt(t, database, "payments"),
		"another database": nameAt(t, testenv.Postgres(t).Database(t), "orders"),
		"another server":   nameAt(t, testenv.NewPostgres(t, testenv.PostgresOptions{}).Database(t), "orders"),
	} {
		if other == name {
			t.Errorf("%s has the same name, %s", what, name)
		}
	}
}

func nameAt(t *testing.T, database, slot string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context()) //nolint:errcheck // it has only read
	var name outboxName
	if err := name.learn(t.Context(), conn, slot); err != nil {
		t.Fatal(err)
	}
	return name.get()
}
