package workload

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	redisPage  = 1000 // entries of one call
	redisBlock = 200 * time.Millisecond
)

// RedisReader reads streams.
type RedisReader struct {
	client  *redis.Client
	streams []string
	prefix  string
}

var _ Reader = (*RedisReader)(nil)

// NewRedisReader reads the streams of these names, or, when there are none, all whose names begin with prefix. url is redis:// or
// rediss://, of one server.
func NewRedisReader(url, prefix string, streams ...string) (*RedisReader, error) {
	o, err := redis.ParseURL(url)
	if err != nil {
		return nil, fmt.Errorf("read the URL of Redis: %w", err)
	}
	return &RedisReader{client: redis.NewClient(o), prefix: prefix, streams: streams}, nil
}

// NewRedisReaderOn reads the streams of these names over the client, which it closes.
func NewRedisReaderOn(client *redis.Client, streams ...string) *RedisReader {
	return &RedisReader{client: client, streams: streams}
}

// Close ends the connections.
func (r *RedisReader) Close() error { return r.client.Close() }

// Streams returns the names of the streams that there are, sorted. A key of another type is an error.
func (r *RedisReader) Streams(ctx context.Context) ([]string, error) {
	if len(r.streams) > 0 {
		return r.streams, nil
	}
	found := map[string]bool{}
	keys := r.client.Scan(ctx, 0, escapeGlob(r.prefix)+"*", redisPage).Iterator()
	for keys.Next(ctx) {
		found[keys.Val()] = true
	}
	if err := keys.Err(); err != nil {
		return nil, fmt.Errorf("list streams %s*: %w", r.prefix, err)
	}
	return slices.Sorted(maps.Keys(found)), nil
}

func escapeGlob(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}

// ReadAll reads every entry of every stream.
func (r *RedisReader) ReadAll(ctx context.Context, handle func(Received)) error {
	streams, err := r.Streams(ctx)
	if err != nil {
		return err
	}
	for _, stream := range streams {
		last := "-"
		for last != "" {
			entries, err := r.client.XRangeN(ctx, stream, last, "+", redisPage).Result()
			if err != nil {
				return fmt.Errorf("read stream %s: %w", stream, err)
			}
			last = ""
			for _, e := range entries {
				handle(fromRedis(stream, e))
				last = "(" + e.ID
			}
		}
	}
	return nil
}

// Follow reads the streams as they grow.
func (r *RedisReader) Follow(ctx context.Context, handle func(Received), trouble func(error)) {
	last := map[string]string{}
	var looked time.Time
	for ctx.Err() == nil {
		err := r.refresh(ctx, last, &looked)
		if err == nil {
			err = r.follow(ctx, last, handle)
		}
		if err != nil && ctx.Err() == nil {
			trouble(err)
			Sleep(ctx, retryInterval)
		}
	}
}

// refresh adds the streams that are new to last, not more often than lookInterval.
func (r *RedisReader) refresh(ctx context.Context, last map[string]string, looked *time.Time) error {
	if time.Since(*looked) < lookInterval {
		return nil
	}
	streams, err := r.Streams(ctx)
	if err != nil {
		return err
	}
	*looked = time.Now()
	for _, stream := range streams {
		if last[stream] == "" {
			last[stream] = "0-0"
		}
	}
	return nil
}

// follow waits for entries and handles them.
func (r *RedisReader) follow(ctx context.Context, last map[string]string, handle func(Received)) error {
	if len(last) == 0 {
		Sleep(ctx, redisBlock)
		return nil
	}
	names := slices.Sorted(maps.Keys(last))
	args := slices.Clone(names)
	for _, name := range names {
		args = append(args, last[name])
	}
	found, err := r.client.XRead(ctx, &redis.XReadArgs{Streams: args, Count: redisPage, Block: redisBlock}).Result()
	if errors.Is(err, redis.Nil) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %d streams: %w", len(names), err)
	}
	for _, s := range found {
		for _, e := range s.Messages {
			handle(fromRedis(s.Stream, e))
			last[s.Stream] = e.ID
		}
	}
	return nil
}

func fromRedis(stream string, e redis.XMessage) Received {
	field := func(name string) string {
		value, _ := e.Values[name].(string)
		return value
	}
	body := field("payload")
	if len(e.Values) == 1 { // some tools write one field, whose name is the key
		for name := range e.Values {
			body = field(name)
		}
	}
	ms, _, _ := strings.Cut(e.ID, "-")
	at, err := strconv.ParseInt(ms, 10, 64)
	r := understand(message{
		id: field("id"), tenant: field("tenant_id"), topic: field("topic"),
		aggregateType: field("aggregate_type"), aggregateID: field("aggregate_id"), body: []byte(body),
	}, stream, e.ID, time.UnixMilli(at))
	if err != nil {
		r.Fault = "its entry id is not a time"
	}
	return r
}

// Delete deletes the streams.
func (r *RedisReader) Delete(ctx context.Context) error {
	streams, err := r.Streams(ctx)
	if err != nil || len(streams) == 0 {
		return err
	}
	if err := r.client.Del(ctx, streams...).Err(); err != nil {
		return fmt.Errorf("delete %d streams: %w", len(streams), err)
	}
	return nil
}

// Break makes the streams refuse every entry, as a value of another type that somebody has put in their places does.
func (r *RedisReader) Break(ctx context.Context) error {
	for _, stream := range r.streams {
		if err := r.client.Set(ctx, stream, "no stream", 0).Err(); err != nil {
			return fmt.Errorf("put a value in the place of stream %s: %w", stream, err)
		}
	}
	return nil
}

// Version returns the server's version; empty where it does not tell.
func (r *RedisReader) Version(ctx context.Context) (string, error) {
	text, err := r.client.Info(ctx, "server").Result()
	if err != nil {
		return "", fmt.Errorf("ask Redis for its version: %w", err)
	}
	for line := range strings.Lines(text) {
		if version, ok := strings.CutPrefix(line, "redis_version:"); ok {
			return strings.TrimSpace(version), nil
		}
	}
	return "", nil
}

// Count returns how many entries the streams hold.
func (r *RedisReader) Count(ctx context.Context) (sum int64, err error) {
	streams, err := r.Streams(ctx)
	if err != nil {
		return 0, err
	}
	lengths := make([]*redis.IntCmd, len(streams))
	_, err = r.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, stream := range streams {
			lengths[i] = p.XLen(ctx, stream)
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("count the entries of %d streams: %w", len(streams), err)
	}
	for _, length := range lengths {
		sum += length.Val()
	}
	return sum, nil
}

// CPU is the processor time that the server says it has used; false where it does not tell.
func (r *RedisReader) CPU(ctx context.Context) (used time.Duration, ok bool) {
	text, err := r.client.Info(ctx, "cpu").Result()
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name == "used_cpu_user" || name == "used_cpu_sys" {
			seconds, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return 0, false
			}
			used, ok = used+time.Duration(seconds*float64(time.Second)), true
		}
	}
	return used, ok
}
