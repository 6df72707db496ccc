package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/outboxd/outboxd/internal/human"
	"github.com/outboxd/outboxd/sink/redis"
)

// redisSink is what the checks of one Redis share.
type redisSink struct {
	*Sink
	sink  *redis.Sink
	names []string // destinations that are known
	lost  bool     // it did not answer
}

var redisChecks = []check[*redisSink]{
	{"tls", checkRedisTLS},
	{"server", checkRedisServers},
	{"destination", checkStreams},
}

func examineRedis(ctx context.Context, s *Sink, cfg *Config, names []string) (findings []Finding) {
	c := *s.Redis
	c.Timeout = min(max(cfg.Timeout, 1), c.WithDefaults().Timeout)
	opened, err := redis.New(c)
	if err != nil {
		return []Finding{found(Error, "config", err.Error(), "outboxd run refuses to start", "correct the settings of sinks."+s.Name)}
	}
	r := &redisSink{Sink: s, sink: opened, names: names}
	for _, c := range redisChecks {
		findings = append(findings, runCheck(ctx, cfg.Timeout, c, r)...)
	}
	if err := opened.Close(ctx); err != nil {
		findings = append(findings, found(Info, "connection", err.Error(), "", ""))
	}
	return findings
}

func checkRedisTLS(ctx context.Context, r *redisSink) ([]Finding, error) {
	addrs, config := r.sink.Secured()
	findings := checkCertificates(ctx, addrs, config)
	return append(findings, certificateFile("outboxd at Redis", r.Redis.TLS.CertFile)...), nil
}

func checkRedisServers(ctx context.Context, r *redisSink) ([]Finding, error) {
	servers, err := r.sink.Servers(ctx)
	if err != nil {
		return r.noServer(err)
	}
	var findings []Finding
	for i := range servers {
		findings = append(findings, serverFindings(&servers[i])...)
	}
	return findings, nil
}

func (r *redisSink) noServer(err error) ([]Finding, error) {
	text := err.Error()
	why := "events are parked, or wait in the log"
	switch {
	case strings.Contains(text, "NOPERM"):
		return []Finding{found(Warning, "server", "not checked: "+text, "memory policy, persistence and version are not seen", "ACL SETUSER NAME +info +time (for a database other than 0 also +select), or look at them yourself")}, nil
	case strings.Contains(text, "WRONGPASS"), strings.Contains(text, "NOAUTH"):
		r.lost = true
		return []Finding{found(Error, "connection", "Redis refuses the login: "+text, why, "correct user and password (in the url, or sinks."+r.Name+".username and password)")}, nil
	}
	r.lost = true
	if _, expired := expiredIn(err); expired {
		return nil, nil // told with its date
	}
	return []Finding{found(Error, "connection", "no answer from Redis: "+text, why, "see that Redis runs and listens there, and that sinks."+r.Name+".url is right")}, nil
}

func serverFindings(s *redis.Server) []Finding {
	findings := []Finding{versionFinding(s)}
	if s.Info["role"] == "slave" {
		findings = append(findings, found(Error, "role", s.Addr+" is a replica", "it refuses writes", "name the master in the sink's url, or use redis+sentinel:// or redis+cluster://"))
	}
	findings = append(findings, memoryFindings(s)...)
	findings = append(findings, persistenceFindings(s)...)
	return append(findings, clockFinding("Redis "+s.Addr, s.Time, s.Before, s.After))
}

// versionFinding: streams came with 5, and 6.2 is the oldest that still gets corrections.
// Before 7 a script's writes are not refused for want of replicas.
// Source: https://redis.io/docs/latest/operate/oss_and_stack/install/, and redis/redis#10160
func versionFinding(s *redis.Server) Finding {
	version := s.Info["redis_version"]
	parts := strings.SplitN(version+".0.0", ".", 3)
	major, _ := strconv.Atoi(parts[0]) // 0 where it is no number, which is told as too old
	minor, _ := strconv.Atoi(parts[1])
	switch {
	case major < 5:
		return found(Error, "version", "Redis "+version+" at "+s.Addr, "it has no streams", "upgrade to Redis 7 or later")
	case major < 7 && s.Info["min_slaves_good_slaves"] != "": // INFO has it where min-replicas-to-write is set
		return found(Warning, "version", "Redis "+version+" at "+s.Addr+" does not hold what scripts append to min-replicas-to-write",
			"while too few replicas are in step it acknowledges events that a failover loses", "upgrade to Redis 7 or later, or set fenced: false on the sink")
	case major < 6 || major == 6 && minor < 2:
		return found(Warning, "version", "Redis "+version+" at "+s.Addr, "it gets no corrections any more", "upgrade to Redis 7 or later")
	default:
		return ok("version", "Redis %s at %s", version, s.Addr)
	}
}

func memoryFindings(s *redis.Server) []Finding {
	policy := s.Info["maxmemory_policy"]
	most, _ := strconv.ParseInt(s.Info["maxmemory"], 10, 64) // absent or no number: no limit
	used, _ := strconv.ParseInt(s.Info["used_memory"], 10, 64)
	var findings []Finding
	if strings.HasPrefix(policy, "allkeys-") {
		level, evicts := Error, ""
		if most == 0 {
			level, evicts = Warning, ", once maxmemory is set"
		}
		findings = append(findings, found(level, "maxmemory_policy", fmt.Sprintf("maxmemory-policy of %s is %s: Redis removes whole streams when memory is short%s", s.Addr, policy, evicts),
			"delivered events vanish before they are read, and with the end of a stream what outboxd goes by after a restart",
			"CONFIG SET maxmemory-policy noeviction; CONFIG REWRITE (streams: sinks.NAME.maxlen, or XTRIM by their readers)"))
	} else {
		findings = append(findings, ok("maxmemory_policy", "maxmemory-policy of %s is %s, which keeps streams", s.Addr, policy))
	}
	if most > 0 && used > most/10*9 {
		findings = append(findings, found(Warning, "memory", fmt.Sprintf("%s uses %s of %s", s.Addr, human.Bytes(used), human.Bytes(most)),
			"beyond that it refuses every event (OOM), or removes keys", "raise maxmemory, or trim streams (sinks.NAME.maxlen, XTRIM)"))
	}
	if evicted := s.Info["evicted_keys"]; evicted != "" && evicted != "0" {
		findings = append(findings, found(Info, "evicted", s.Addr+" has removed "+evicted+" keys for want of memory since it started", "", ""))
	}
	return findings
}

func persistenceFindings(s *redis.Server) (findings []Finding) {
	aof := s.Info["aof_enabled"] == "1"
	for _, written := range []struct{ field, what string }{{"aof_last_write_status", "its append-only file"}, {"rdb_last_bgsave_status", "a snapshot"}} {
		if status := s.Info[written.field]; status != "" && status != "ok" {
			findings = append(findings, found(Error, "persistence", s.Addr+" could not write "+written.what, "it refuses every write (MISCONF), or loses what it has accepted",
				"see its log, and make room on its disk"))
		}
	}
	const mend = "CONFIG SET appendonly yes; CONFIG REWRITE"
	switch {
	case aof && s.AppendFsync != nil && *s.AppendFsync == "no":
		findings = append(findings, found(Warning, "persistence", s.Addr+" leaves to the system when its append-only file reaches the disk (appendfsync no)",
			"a crash of its machine loses what was accepted in about 30 s", "CONFIG SET appendfsync everysec; CONFIG REWRITE"))
	case aof:
		findings = append(findings, ok("persistence", "%s keeps an append-only file", s.Addr))
	case s.Save == nil:
		findings = append(findings, found(Info, "persistence", s.Addr+" keeps no append-only file; whether it takes snapshots cannot be seen (CONFIG)",
			"a crash of Redis loses what it accepted since the last one", "CONFIG SET appendonly yes, or what the service calls it"))
	case *s.Save == "":
		findings = append(findings, found(Warning, "persistence", s.Addr+" keeps nothing on disk", "a restart of Redis loses every event that it has accepted", mend))
	default:
		findings = append(findings, found(Warning, "persistence", fmt.Sprintf("%s takes snapshots alone (save %s)", s.Addr, *s.Save),
			"a crash of Redis loses what it has accepted since the last one", mend))
	}
	return findings
}

// checkStreams asks whether the streams accept. Where none is known, an example's stands for them: nothing is written to it, either.
func checkStreams(ctx context.Context, r *redisSink) (findings []Finding, err error) {
	if r.lost {
		return nil, nil
	}
	for _, name := range r.names {
		findings = append(findings, r.probe(ctx, name))
	}
	if len(r.names) > 0 {
		return findings, nil
	}
	for _, name := range r.examples() {
		f := r.probe(ctx, name)
		if f.Level == Error {
			f.Level = Warning // no event goes there
			f.Saw += " (an example; outboxd doctor --destination " + r.Name + ":STREAM asks for a real one)"
		}
		findings = append(findings, f)
	}
	return findings, nil
}

func (r *redisSink) probe(ctx context.Context, name string) Finding {
	err := r.sink.Probe(ctx, name)
	if err == nil {
		return ok("destination", "stream %s accepts", name)
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return found(Warning, "destination", "no answer about stream "+name+" in time", "it is not known whether it accepts", "run doctor again with a longer --timeout")
	}
	return probeFailed("stream "+name, err)
}
