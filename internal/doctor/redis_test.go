package doctor

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/sink/redis"
)

// examineSink makes the checks of one sink.
func examineSink(t *testing.T, s Sink, waiting ...park.Destination) []Finding {
	t.Helper()
	return s.examine(t.Context(), &Config{Timeout: 10 * time.Second}, waiting)
}

func redisAt(url string, change ...func(*Sink)) Sink {
	s := Sink{Name: "redis", Redis: &redis.Config{URL: url}, Templates: []string{"outbox:{tenant}:{topic}:{shard}"}}
	for _, c := range change {
		c(&s)
	}
	return s
}

func redisDo(t *testing.T, url string, args ...any) {
	t.Helper()
	options, err := goredis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	c := goredis.NewClient(options)
	defer c.Close() //nolint:errcheck // of the test
	if err := c.Do(t.Context(), args...).Err(); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
}

func TestAHealthyRedisHasNoFindings(t *testing.T) {
	server := testenv.NewRedis(t, testenv.RedisOptions{Settings: []string{"appendonly yes"}})
	findings := examineSink(t, redisAt(server.URL))
	if worst(findings) != OK {
		t.Errorf("a healthy Redis:\n%s", text(findings))
	}
	wantFinding(t, findings, "destination", OK, "outbox:outboxd-doctor:outboxd-doctor:0 accepts", "")
	c := goredis.NewClient(&goredis.Options{Addr: server.Addr})
	defer c.Close() //nolint:errcheck // of the test
	if n := c.DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("doctor left %d keys", n)
	}
}

func TestFaultsOfRedisAreFound(t *testing.T) {
	server := testenv.NewRedis(t, testenv.RedisOptions{})
	findings := examineSink(t, redisAt(server.URL))
	wantFinding(t, findings, "persistence", Warning, "keeps nothing on disk", "CONFIG SET appendonly yes")

	redisDo(t, server.URL, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
	redisDo(t, server.URL, "CONFIG", "SET", "save", "3600 1")
	findings = examineSink(t, redisAt(server.URL))
	wantFinding(t, findings, "maxmemory_policy", Warning, "once maxmemory is set", "maxmemory-policy noeviction")
	wantFinding(t, findings, "persistence", Warning, "takes snapshots alone (save 3600 1)", "CONFIG SET appendonly yes")
	redisDo(t, server.URL, "CONFIG", "SET", "maxmemory", "100mb")
	wantFinding(t, examineSink(t, redisAt(server.URL)), "maxmemory_policy", Error, "allkeys-lru", "maxmemory-policy noeviction")

	redisDo(t, server.URL, "CONFIG", "SET", "maxmemory-policy", "noeviction")
	redisDo(t, server.URL, "CONFIG", "SET", "maxmemory", "100kb")
	findings = examineSink(t, redisAt(server.URL))
	wantFinding(t, findings, "memory", Warning, "of 100.0 KiB", "raise maxmemory")
	wantFinding(t, findings, "destination", Warning, "OOM", "raise maxmemory")
	redisDo(t, server.URL, "CONFIG", "SET", "maxmemory", "0")

	redisDo(t, server.URL, "SET", "orders", "no stream")
	named := redisAt(server.URL, func(s *Sink) { s.Destinations = []string{"orders"} })
	wantFinding(t, examineSink(t, named), "destination", Error, "WRONGTYPE", "RENAME")
	parked := examineSink(t, redisAt(server.URL), park.Destination{Sink: "redis", Name: "orders"}, park.Destination{Sink: "other", Name: "not-asked"})
	wantFinding(t, parked, "destination", Error, "stream orders accepts nothing", "RENAME")
	if strings.Contains(text(parked), "not-asked") {
		t.Errorf("another sink's destination was asked:\n%s", text(parked))
	}

	redisDo(t, server.URL, "REPLICAOF", "127.0.0.1", "1")
	wantFinding(t, examineSink(t, redisAt(server.URL)), "role", Error, "is a replica", "name the master")
}

func TestRightsAtRedisAreFound(t *testing.T) {
	server := testenv.NewRedis(t, testenv.RedisOptions{Settings: []string{
		"appendonly yes", "user reader on >secret ~* +@read +@connection +info +time", "user blind on >secret ~* +@all -info", "user writer on >secret ~outbox:* +@all -config",
	}})
	as := func(user string) Sink {
		return redisAt(server.URL, func(s *Sink) { s.Redis.Username, s.Redis.Password = user, "secret" })
	}
	wantFinding(t, examineSink(t, as("reader")), "destination", Warning, "NOPERM", "grant the ACL user")
	findings := examineSink(t, as("blind"))
	wantFinding(t, findings, "server", Warning, "NOPERM", "+info")
	wantFinding(t, findings, "destination", OK, "accepts", "")
	if findings = examineSink(t, as("writer")); worst(findings) != OK {
		t.Errorf("without CONFIG:\n%s", text(findings))
	}
	elsewhere := as("writer")
	elsewhere.Destinations = []string{"orders"}
	wantFinding(t, examineSink(t, elsewhere), "destination", Error, "NOPERM", "grant the ACL user")
	wrong := redisAt(server.URL, func(s *Sink) { s.Redis.Username, s.Redis.Password = "reader", "hunter2" })
	findings = examineSink(t, wrong)
	wantFinding(t, findings, "connection", Error, "WRONGPASS", "correct user and password")
	if strings.Contains(text(findings), "hunter2") {
		t.Errorf("the password is shown:\n%s", text(findings))
	}
}

// Who gives what doctor names gets a sink that works, and doctor says so of no less.
func TestRightsThatDoctorNamesAreThoseThatASessionNeeds(t *testing.T) {
	server := testenv.NewRedis(t, testenv.RedisOptions{})
	const orders = "outbox:orders"
	for name, change := range map[string]func(*redis.Config){
		"fenced":           func(*redis.Config) {},
		"unfenced":         func(c *redis.Config) { c.Unfenced = true },
		"another database": func(c *redis.Config) { c.URL = strings.TrimSuffix(c.URL, "/0") + "/3" },
	} {
		t.Run(name, func(t *testing.T) {
			grant := func(rights ...string) []Finding {
				t.Helper()
				redisDo(t, server.URL, "SCRIPT", "FLUSH")
				command := []any{"ACL", "SETUSER", "app", "reset", "on", ">secret", "~outbox:*", "+info", "+time"}
				for _, right := range rights {
					command = append(command, right)
				}
				redisDo(t, server.URL, command...)
				return examineSink(t, redisAt(server.URL, func(s *Sink) {
					s.Redis.Username, s.Redis.Password, s.Destinations = "app", "secret", []string{orders}
					change(s.Redis)
				}))
			}
			const word = "grant the ACL user"
			var named []string
			for _, f := range grant("+select") {
				if f.Check == "destination" && strings.Contains(f.Mend, word) {
					for _, right := range strings.Fields(f.Mend) {
						if strings.HasPrefix(right, "+") {
							named = append(named, strings.Trim(right, ","))
						}
					}
				}
			}
			wantFinding(t, grant(named...), "destination", OK, "accepts", "")
			needed := []string{"+xadd", "+xinfo|stream", "+xrevrange", "+xlen", "+evalsha", "+eval"}
			switch name {
			case "unfenced":
				needed = append(needed, "+multi", "+exec")
			case "another database":
				needed = append(needed, "+select")
			}
			for _, without := range needed {
				rest := slices.DeleteFunc(slices.Clone(named), func(right string) bool { return right == without })
				if len(rest) == len(named) {
					t.Errorf("%s is not named: %v", without, named)
				}
				wantFinding(t, grant(rest...), "destination", Error, "stream "+orders+" accepts nothing", word)
			}
		})
	}
}

func TestARedisThatIsDownIsOneError(t *testing.T) {
	findings := examineSink(t, redisAt("redis://"+testenv.FreeAddress(t)))
	wantFinding(t, findings, "connection", Error, "connection refused", "see that Redis runs")
	if Count(findings, Error) != 1 || Count(findings, Warning) != 0 {
		t.Errorf("findings:\n%s", text(findings))
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close() //nolint:errcheck // it is a listener of the test
	s := redisAt("redis://" + silent.Addr().String())
	began := time.Now()
	wantFinding(t, s.examine(t.Context(), &Config{Timeout: 300 * time.Millisecond}, nil), "connection", Error, "no answer from Redis", "see that Redis runs")
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("a silent server took %s", took)
	}
}

func TestARedisIsJudgedByItsVersionDiskAndMemory(t *testing.T) {
	info := func(pairs ...string) *redis.Server {
		s := &redis.Server{Addr: "a:1", Info: map[string]string{}}
		for i := 0; i < len(pairs); i += 2 {
			s.Info[pairs[i]] = pairs[i+1]
		}
		return s
	}
	for version, want := range map[string]Level{"4.0.14": Error, "": Error, "6.0.16": Warning, "6.2.1": OK, "7.0.15": OK, "8.2": OK} {
		if got := versionFinding(info("redis_version", version)).Level; got != want {
			t.Errorf("version %q: %s, want %s", version, got, want)
		}
	}
	for version, want := range map[string]Level{"6.2.1": Warning, "7.0.15": OK} {
		if f := versionFinding(info("redis_version", version, "min_slaves_good_slaves", "1")); f.Level != want {
			t.Errorf("version %q with min-replicas-to-write: %s, want %s", version, f.Level, want)
		}
	}
	no, everysec := "no", "everysec"
	s := info("aof_enabled", "1", "aof_last_write_status", "err", "rdb_last_bgsave_status", "ok")
	s.AppendFsync = &no
	wantFinding(t, persistenceFindings(s), "persistence", Error, "could not write its append-only file", "make room")
	wantFinding(t, persistenceFindings(s), "persistence", Warning, "appendfsync no", "appendfsync everysec")
	s.AppendFsync = &everysec
	wantFinding(t, persistenceFindings(s), "persistence", OK, "keeps an append-only file", "")
	wantFinding(t, persistenceFindings(info()), "persistence", Info, "cannot be seen", "appendonly yes")
	wantFinding(t, memoryFindings(info("evicted_keys", "3", "maxmemory_policy", "volatile-lru")), "evicted", Info, "3 keys", "")
	wantFinding(t, memoryFindings(info("maxmemory_policy", "volatile-lru")), "maxmemory_policy", OK, "volatile-lru", "")
}

func TestAClusterIsAskedAtEachMaster(t *testing.T) {
	server := testenv.NewRedis(t, testenv.RedisOptions{Settings: []string{"cluster-enabled yes", "appendonly yes"}})
	redisDo(t, server.URL, append([]any{"CLUSTER", "ADDSLOTSRANGE"}, 0, 16383)...)
	_, port, _ := strings.Cut(server.Addr, ":")
	r := &rig{T: t}
	s := redisAt(fmt.Sprintf("redis+cluster://127.0.0.1:%s", port))
	var findings []Finding
	r.eventually("the cluster is ready", func() bool {
		findings = s.examine(context.Background(), &Config{Timeout: time.Second}, nil)
		return worst(findings) == OK
	})
	wantFinding(t, findings, "persistence", OK, port, "")
}
