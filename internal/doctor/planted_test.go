package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/outboxd/outboxd/checkpoint"
	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/sink/pulsar"
	"github.com/outboxd/outboxd/wal"
)

// What the tests of judgement say of made-up values is found here where it is planted in real servers.

func TestASlotThatComesNearItsLimitIsFound(t *testing.T) {
	server := testenv.NewPostgres(t, testenv.PostgresOptions{Settings: []string{"max_replication_slots = 1", "full_page_writes = off", "max_wal_size = 2GB"}})
	r := bare(t, server)
	r.migrate()
	lease := r.stream()
	findings := r.examine()
	wantFinding(t, findings, "max_replication_slots", Info, "all 1 slots are in use", "max_replication_slots = 6")
	wantFinding(t, findings, "full_page_writes", Warning, "off", "ALTER SYSTEM RESET full_page_writes")
	if server.Major < 13 {
		wantFinding(t, findings, "max_slot_wal_keep_size", Info, "no limit", "upgrade to PostgreSQL 13")
		return
	}
	r.limit("256MB")
	r.want("max_slot_wal_keep_size", Info, "parked from half of it on", "")
	r.cfg.MaxRetainedWAL = 1 << 20
	r.want("max_slot_wal_keep_size", OK, "256.0 MiB", "")

	r.cfg.MaxRetainedWAL = 0
	r.limit("64MB")
	r.exec(`CREATE TABLE noise AS SELECT repeat(md5(g::text), 40) AS t FROM generate_series(1, 15000) g`)
	r.fill("is lost after", Warning)
	r.fill("is lost with the next checkpoint", Error)

	r.limit("1GB")
	record := checkpoint.Record{SystemID: "1", Adopt: &checkpoint.Adoption{Snapshot: "1:1:"}}
	if _, err := checkpoint.NewEpoch(t.Context(), r.conn, lease, record, time.Now()); err != nil {
		t.Fatal(err)
	}
	r.exec(`UPDATE outboxd.checkpoint SET system_identifier = (SELECT system_identifier::text FROM pg_control_system()),
		confirmed_lsn = (SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = $1)`, r.cfg.WAL.Slot)
	r.want("checkpoint", Info, "are being taken from the table", "")
}

// limit sets max_slot_wal_keep_size and waits until the server goes by it.
func (r *rig) limit(size string) {
	r.Helper()
	r.exec(`ALTER SYSTEM SET max_slot_wal_keep_size = '` + size + `'`)
	r.exec(`SELECT pg_reload_conf()`)
	r.eventually("the server goes by "+size, func() bool {
		var is string
		if err := r.conn.QueryRow(r.Context(), `SELECT current_setting('max_slot_wal_keep_size')`).Scan(&is); err != nil {
			r.Fatal(err)
		}
		return is == size
	})
}

// fill writes log until doctor says so of the slot.
func (r *rig) fill(saw string, level Level) {
	r.Helper()
	for range 40 {
		findings, err := checkSlot(r.Context(), &database{Config: &r.cfg, conn: r.conn})
		if err != nil {
			r.Fatal(err)
		}
		for _, f := range findings {
			if f.Check == "slot_wal" && f.Level == level && strings.Contains(f.Saw, saw) {
				return
			}
		}
		r.exec(`INSERT INTO noise SELECT repeat(md5(g::text), 40) FROM generate_series(1, 4000) g`) // 6 MB, too short to be compressed
	}
	r.Errorf("no finding %q of the slot", saw)
}

func TestASlotThatTheServerMayDropOrDoesNotSynchroniseIsFound(t *testing.T) {
	server := testenv.NewPostgres(t, testenv.PostgresOptions{Version: 18, Settings: []string{"idle_replication_slot_timeout = 1h"}})
	r := bare(t, server)
	r.migrate()
	r.stream()
	r.cfg.Failover = true
	findings := r.examine()
	wantFinding(t, findings, "idle_replication_slot_timeout", Warning, "is 1h", "= 0")
	wantFinding(t, findings, "slot_failover", Warning, "not synchronised to standbys", "outboxd slot drop")
	r.exec(`ALTER SYSTEM SET idle_replication_slot_timeout = '7d'`)
	r.exec(`SELECT pg_reload_conf()`)
	r.eventually("the server goes by the longer time", func() bool {
		f := r.examine()
		return strings.Contains(text(f), "idle_replication_slot_timeout is 168h")
	})
	r.want("idle_replication_slot_timeout", Info, "168h", "")
}

func TestASlotThatWasIdleForTooLongIsFoundWithWhatPreventsIt(t *testing.T) {
	server := testenv.NewPostgres(t, testenv.PostgresOptions{Version: 18, Settings: []string{"idle_replication_slot_timeout = 1s"}})
	r := bare(t, server)
	r.migrate()
	r.exec(`CREATE PUBLICATION outboxd FOR TABLE outbox WITH (publish = 'insert')`)
	r.exec(`SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, r.cfg.WAL.Slot)
	r.eventually("the server has invalidated it", func() bool {
		r.exec(`CHECKPOINT`)
		slot, err := wal.SlotStatus(r.Context(), r.conn, r.cfg.WAL.Slot)
		return err == nil && slot.Lost()
	})
	r.want("slot_lost", Error, "(lost idle_timeout)", "idle_replication_slot_timeout = 0")
	_, err := wal.Verify(r.Context(), r.conn, r.cfg.WAL)
	if err == nil || !strings.Contains(err.Error(), "idle_replication_slot_timeout = 0") {
		t.Errorf("at the start is said %v", err)
	}
}

func TestAnOldServerIsFound(t *testing.T) {
	r := bare(t, testenv.NewPostgres(t, testenv.PostgresOptions{Version: 12}))
	findings := r.examine()
	wantFinding(t, findings, "version", Info, "PostgreSQL 12 gets no more corrections", "upgrade PostgreSQL")
	wantFinding(t, findings, "max_slot_wal_keep_size", Info, "this server has no limit", "upgrade to PostgreSQL 13")
}

func TestABloatedTableIsFound(t *testing.T) {
	r := setup(t)
	r.exec(`ALTER TABLE outbox ALTER COLUMN payload SET STORAGE PLAIN, SET (autovacuum_enabled = false)`)
	r.exec(`INSERT INTO outbox (tenant_id, aggregate_type, aggregate_id, topic, occurred_at, payload)
		SELECT 'acme', 'order', g::text, 't', now(), jsonb_build_object('x', repeat('x', 7000)) FROM generate_series(1, $1) g`, bloatBytes/8192+100)
	r.exec(`DELETE FROM outbox WHERE aggregate_id::int <= $1`, bloatBytes/8192)
	r.exec(`ANALYZE outbox`)
	r.want("bloat", Info, "public.outbox takes 64", "VACUUM FULL public.outbox")
}

func TestATableWithoutRetryColumnsLacksAnIndexOnTheStatus(t *testing.T) {
	r := setup(t)
	r.exec(`ALTER TABLE outbox DROP COLUMN retry_after`)
	r.want("index_missing", Info, "no index begins with the status", "CREATE INDEX CONCURRENTLY")
}

func TestWhatTheRoleMayNotSeeIsSaid(t *testing.T) {
	r := setup(t)
	role := r.role("LOGIN REPLICATION")
	r.exec(`GRANT USAGE ON SCHEMA outboxd TO ` + role)
	r.as(role)
	r.want("slot", Warning, "not checked: ", "migrate sql --role NAME")
}

func TestWhatARedisDidToItsDataIsFound(t *testing.T) {
	server := testenv.NewRedis(t, testenv.RedisOptions{Settings: []string{"appendfsync no", "user writer on >secret ~* +@all -config"}})
	writer := redisAt(server.URL, func(s *Sink) { s.Redis.Username, s.Redis.Password = "writer", "secret" })
	wantFinding(t, examineSink(t, writer), "persistence", Info, "cannot be seen (CONFIG)", "appendonly yes")
	redisDo(t, server.URL, "CONFIG", "SET", "appendonly", "yes")
	wantFinding(t, examineSink(t, redisAt(server.URL)), "persistence", Warning, "appendfsync no", "appendfsync everysec")

	redisDo(t, server.URL, "SET", "large", strings.Repeat("x", 1<<20))
	redisDo(t, server.URL, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
	redisDo(t, server.URL, "CONFIG", "SET", "maxmemory", "1mb")
	(&rig{T: t}).eventually("Redis has removed a key", func() bool {
		return strings.Contains(text(examineSink(t, redisAt(server.URL))), "evicted: "+server.Addr+" has removed 1 keys")
	})
	redisDo(t, server.URL, "CONFIG", "SET", "maxmemory", "0")

	redisDo(t, server.URL, "CLIENT", "PAUSE", "600000", "WRITE")
	s := redisAt(server.URL)
	wantFinding(t, s.examine(t.Context(), &Config{Timeout: 2 * time.Second}, nil), "destination", Warning, "no answer about stream", "longer --timeout")
	redisDo(t, server.URL, "CLIENT", "UNPAUSE")
}

// A folder in the place of its file keeps root, too, from writing a snapshot.
func TestARedisThatCannotWriteIsFound(t *testing.T) {
	server := testenv.NewRedis(t, testenv.RedisOptions{Settings: []string{"dbfilename taken"}})
	if err := os.MkdirAll(filepath.Join(server.Dir, "taken"), 0o755); err != nil {
		t.Fatal(err)
	}
	redisDo(t, server.URL, "SET", "a", "key")
	redisDo(t, server.URL, "BGSAVE")
	(&rig{T: t}).eventually("the snapshot has failed", func() bool {
		for _, f := range examineSink(t, redisAt(server.URL)) {
			if f.Check == "persistence" && f.Level == Error && strings.Contains(f.Saw, "could not write a snapshot") && strings.Contains(f.Mend, "make room") {
				return true
			}
		}
		return false
	})
}

func TestCertificatesThatDoNotServeAreFound(t *testing.T) {
	certFile, keyFile := certificate(t, openFolder(t), "redis", 100*day)
	port := strings.TrimPrefix(testenv.FreeAddress(t), "127.0.0.1:")
	server := testenv.NewRedis(t, testenv.RedisOptions{Settings: []string{
		"tls-port " + port, "tls-cert-file " + certFile, "tls-key-file " + keyFile, "tls-ca-cert-file " + certFile, "tls-auth-clients no", "appendonly yes",
	}})
	secured := func(addr string) Sink {
		return redisAt("rediss://"+addr, func(s *Sink) { s.Redis.TLS = sink.TLS{CAFile: certFile} })
	}
	plain := secured(server.Addr)
	wantFinding(t, plain.examine(t.Context(), &Config{Timeout: 300 * time.Millisecond}, nil), "tls", Warning, "was not seen", "listens there with TLS")
	now = func() time.Time { return time.Now().Add(-200 * day) }
	defer func() { now = time.Now }()
	wantFinding(t, examineSink(t, secured("127.0.0.1:"+port)), "tls", Error, "is not valid before", "set the clocks right")
}

func TestSettingsThatRunRefusesAreFound(t *testing.T) {
	wantFinding(t, examineSink(t, redisAt("http://127.0.0.1")), "config", Error, "want redis://", "correct the settings of sinks.redis")
	s := Sink{Name: "pulsar", Pulsar: &pulsar.Config{URL: "http://127.0.0.1"}}
	wantFinding(t, examineSink(t, s, park.Destination{}), "config", Error, "pulsar://", "correct the settings of sinks.pulsar")
}
