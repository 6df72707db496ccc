package main

import (
	"strings"
	"testing"
)

const testKey = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4="

// Whatever becomes of an event, nothing but the outbox table and outboxd's own hold its secret in clear.
func TestEncryptedFieldsReachNobodyInClear(t *testing.T) {
	t.Parallel()
	o := newOperator(t, "ENCRYPTION_KEY="+testKey, "LOG_LEVEL=trace")
	o.start(smallMessages)
	insert := func(filling int) (id string) {
		err := o.conn.QueryRow(t.Context(), `INSERT INTO outbox (tenant_id, aggregate_type, aggregate_id, topic, occurred_at, payload)
			VALUES ('acme', 'user', $1::int::text, 'user.changed', now(), jsonb_build_object('user', jsonb_build_object('password', 'hunter2'), 'text', repeat('x', $1)))
			RETURNING id`, filling).Scan(&id)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	sent := insert(10)
	o.eventuallyIn("acme", sent)
	refused := insert(4000)
	eventually(t, "the second one is dead", func() bool { return o.status(refused) == "DEAD" })
	if n := o.count(`SELECT count(*) FROM outbox WHERE error_message LIKE '%hunter2%'`); n > 0 {
		t.Error("an error_message holds the secret")
	}
	o.run(0, "events", "replay", sent)
	o.eventuallyIn("acme", sent, sent+"+")
	o.stop()
	o.start()
	o.run(0, "events", "retry", refused)
	o.eventuallyIn("acme", sent, sent+"+", refused)

	entries, err := o.redis.XRange(t.Context(), o.prefix+":acme", "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		payload, _ := e.Values["payload"].(string)
		if strings.Contains(payload, "hunter2") || !strings.Contains(payload, `{"password": "gAAAAA`) {
			t.Errorf("the stream holds %s", payload)
		}
		if out, _ := o.run(0, "decrypt", payload); !strings.HasSuffix(out, `x", "user": {"password": "hunter2"}}`+"\n") {
			t.Errorf("decrypted: %s", out)
		}
	}
	for _, id := range []string{sent, refused} {
		for _, format := range []string{"text", "json"} {
			if out, _ := o.run(0, "events", "show", id, "--payload", "--output", format); strings.Contains(out, "hunter2") || !strings.Contains(out, "gAAAAA") {
				t.Errorf("events show prints %s", out)
			}
			out, _ := o.run(0, "events", "show", id, "--payload", "--output", format, "--set", "encrypt.keys=")
			if strings.Contains(out, "hunter2") || !strings.Contains(out, "******") {
				t.Errorf("events show without a key prints %s", out)
			}
		}
	}
	if out, _ := o.run(0, "events", "show", sent, "--payload", "--set", "encrypt.fields="); !strings.Contains(out, "hunter2") {
		t.Errorf("events show with no fields prints %s", out)
	}
	o.stop()
	if log := o.log.String(); strings.Contains(log, "hunter2") || strings.Contains(log, testKey) {
		t.Error("the log holds the secret or the key")
	}
}

// In a column of text there may be anything. What cannot be taken apart waits for a person, and what comes behind it does not.
func TestPayloadThatCannotBeEncryptedIsNotPublished(t *testing.T) {
	t.Parallel()
	o := newOperator(t, "ENCRYPTION_KEY="+testKey)
	if _, err := o.conn.Exec(t.Context(), `ALTER TABLE outbox ALTER payload TYPE text`); err != nil {
		t.Fatal(err)
	}
	o.start()
	insert := func(payload string) (id string) {
		err := o.conn.QueryRow(t.Context(), `INSERT INTO outbox (tenant_id, aggregate_type, aggregate_id, topic, occurred_at, payload)
			VALUES ('acme', 'user', md5($1::text), 'user.changed', now(), $1::text) RETURNING id`, payload).Scan(&id)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	refused, sent := insert(`{"password": "hunter2"`), insert(`{"password": "hunter3"}`)
	o.eventuallyIn("acme", sent)
	eventually(t, "the first one is dead", func() bool { return o.status(refused) == "DEAD" })
	if n := o.count(`SELECT count(*) FROM outbox WHERE error_message LIKE '%the payload is no JSON%' AND error_message NOT LIKE '%hunter%'`); n != 1 {
		t.Error("the row does not say why, or shows the secret")
	}
	if out, _ := o.run(0, "events", "show", refused, "--payload"); strings.Contains(out, "hunter2") || !strings.Contains(out, "not shown: ") {
		t.Errorf("events show prints %s", out)
	}
}
