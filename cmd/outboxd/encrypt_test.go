package main

import (
	"strings"
	"testing"
)

const testKey = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4="

// Whatever becomes of an event, nothing but the outbox table and outboxd's own hold its secret in clear.
func TestEncryptedFieldsReachNobodyInClear(t *testing.T) {
	o := newOperator(t, "ENCRYPTION_KEY="+testKey, "LOG_LEVEL=trace", smallMessages)
	o.start()
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
	o.run(0, "events", "replay", sent)
	o.eventuallyIn("acme", sent, sent+"+")

	entries, err := o.redis.XRange(t.Context(), o.prefix+":acme", "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		payload, _ := e.Values["payload"].(string)
		if strings.Contains(payload, "hunter2") || !strings.Contains(payload, `{"password": "gAAAAA`) {
			t.Errorf("the stream holds %s", payload)
		}
		if out, _ := o.run(0, "decrypt", payload); out != `{"text": "xxxxxxxxxx", "user": {"password": "hunter2"}}`+"\n" {
			t.Errorf("decrypted: %s", out)
		}
	}
	for _, id := range []string{sent, refused} {
		for _, format := range []string{"text", "json"} {
			if out, _ := o.run(0, "events", "show", id, "--payload", "--output", format); strings.Contains(out, "hunter2") || !strings.Contains(out, "gAAAAA") {
				t.Errorf("events show prints %s", out)
			}
		}
	}
	if n := o.count(`SELECT count(*) FROM outbox WHERE error_message LIKE '%hunter2%'`); n > 0 {
		t.Error("an error_message holds the secret")
	}
	o.stop()
	if log := o.log.String(); strings.Contains(log, "hunter2") || strings.Contains(log, testKey) {
		t.Error("the log holds the secret or the key")
	}
}
