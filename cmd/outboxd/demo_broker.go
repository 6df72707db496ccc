package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9/logging"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/internal/workload"
)

// demoBroker is where the demo's events go.
type demoBroker struct {
	title    string // "Redis 7.0.15"
	settings string // YAML of the sink, without its name
	template string // of the destinations
	reader   workload.Reader
	look     []string // commands that show what arrived
}

// destination is the place of an event by the template.
func (b *demoBroker) destination(tenant, topic string) string {
	return strings.NewReplacer("{tenant}", tenant, "{topic}", topic).Replace(b.template)
}

// destinations are all of them.
func (b *demoBroker) destinations(tenants []string) []string {
	var all []string
	for _, tenant := range tenants {
		for _, topic := range workload.Topics() {
			all = append(all, b.destination(tenant, topic))
		}
	}
	return all
}

func (d *demo) openBroker(ctx context.Context) (*demoBroker, error) {
	if d.o.sink.value == "pulsar" {
		return d.openPulsar(ctx)
	}
	return d.openRedis(ctx)
}

func (d *demo) openRedis(ctx context.Context) (*demoBroker, error) {
	b := &demoBroker{template: "outbox:{tenant}:{topic}"}
	address, embedded, err := d.o.redis, false, error(nil)
	if address != "" {
		b.template = "outboxd-demo-" + d.id + ":{tenant}:{topic}"
	} else if address, embedded, err = d.startRedis(ctx); err != nil {
		return nil, err
	}
	b.settings = "{url: " + quoteYAML(address) + "}"
	logging.Disable() // the client would write over the screen
	reader, err := workload.NewRedisReader(address, "", b.destinations(workload.Tenants(d.o.tenants))...)
	if err != nil {
		return nil, err
	}
	b.reader = reader
	d.cleanups.add("disconnect from Redis", func(context.Context) error { return reader.Close() })
	switch {
	case embedded:
		b.title = "Redis (embedded)"
		d.say("%-15s no redis-server is installed: using an embedded one (miniredis), %s", "Redis", address)
	default:
		version, err := reader.Version(ctx)
		if err != nil {
			return nil, err
		}
		b.title = strings.TrimSpace("Redis " + version)
	}
	if d.o.redis != "" {
		d.cleanups.add("delete the demo's streams", reader.Delete)
		d.say("%-15s streams outboxd-demo-%s:*, deleted afterwards", b.title, d.id)
	} else if !embedded {
		d.say("%-15s its own, %s", b.title, address)
	}
	b.look = []string{redisCommand(address) + " XREVRANGE " + b.destination(workload.Tenants(1)[0], workload.Topics()[1]) + " + - COUNT 2"}
	return b, nil
}

// startRedis starts a server, or an embedded one where there is none to start.
func (d *demo) startRedis(ctx context.Context) (address string, embedded bool, err error) {
	own, err := testenv.StartRedis(ctx, testenv.RedisOptions{})
	if err == nil {
		d.cleanups.add("stop Redis", own.Close)
		return own.URL, false, nil
	}
	if !errors.Is(err, testenv.ErrUnavailable) {
		return "", false, fmt.Errorf("start Redis (or use yours with --redis): %w", err)
	}
	mini := miniredis.NewMiniRedis()
	if err := mini.Start(); err != nil {
		return "", false, fmt.Errorf("start the embedded Redis: %w", err)
	}
	d.cleanups.add("stop the embedded Redis", func(context.Context) error {
		mini.Close()
		return nil
	})
	return "redis://" + mini.Addr() + "/0", true, nil
}

// redisCommand is redis-cli for the server of a URL. It asks for the password, if there is one.
func redisCommand(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" {
		return "redis-cli"
	}
	command := "redis-cli"
	if u.Hostname() != "127.0.0.1" && u.Hostname() != "localhost" {
		command += " -h " + u.Hostname()
	}
	if port := u.Port(); port != "" {
		command += " -p " + port
	}
	if db := strings.Trim(u.Path, "/"); db != "" && db != "0" {
		command += " -n " + db
	}
	if u.Scheme == "rediss" {
		command += " --tls"
	}
	if _, ok := u.User.Password(); ok {
		if name := u.User.Username(); name != "" {
			command += " --user " + name
		}
		command += " --askpass"
	}
	return command
}

func (d *demo) openPulsar(ctx context.Context) (*demoBroker, error) {
	b := &demoBroker{title: "Pulsar", template: "persistent://{tenant}/outbox/{topic}"}
	service, admin := d.o.pulsar, d.o.pulsarAdmin
	topics := workload.PulsarTopics{}
	if service != "" {
		b.template = "persistent://public/default/outboxd-demo-" + d.id + "-{tenant}_{topic}" // names of tenants have a -
		topics.Names = b.destinations(workload.Tenants(d.o.tenants))
		b.settings = "{url: " + quoteYAML(service) + "}"
	} else {
		d.say("%-15s starting (some 10 seconds; the first time it is downloaded)", "Pulsar")
		own, err := testenv.StartPulsar(ctx, testenv.PulsarOptions{Progress: d.app.err})
		if err != nil {
			return nil, fmt.Errorf("start Pulsar (or use yours with --pulsar): %w", err)
		}
		d.cleanups.add("stop Pulsar", own.Close)
		service, admin = own.URL, own.AdminURL
		for _, tenant := range workload.Tenants(d.o.tenants) {
			topics.Namespaces = append(topics.Namespaces, tenant+"/outbox")
		}
		b.settings = "{url: " + quoteYAML(service) + ", admin_url: " + quoteYAML(admin) + ", create: true}"
	}
	topics.AdminURL = admin
	reader, err := workload.NewPulsarReader(service, topics)
	if err != nil {
		return nil, err
	}
	b.reader = reader
	d.cleanups.add("disconnect from Pulsar", func(context.Context) error { return reader.Close() })
	return b, d.describePulsar(ctx, b, reader, service, admin)
}

// describePulsar says what is used, and what becomes of it.
func (d *demo) describePulsar(ctx context.Context, b *demoBroker, reader *workload.PulsarReader, service, admin string) error {
	first := strings.TrimPrefix(b.destination(workload.Tenants(1)[0], workload.Topics()[1]), "persistent://")
	if admin != "" {
		version, err := reader.Version(ctx)
		if err != nil {
			return err
		}
		b.title += " " + version
		b.look = []string{
			"curl -s " + demoPublicURL(admin) + "/admin/v2/persistent/" + first + "/stats",
			"curl -si '" + demoPublicURL(admin) + "/admin/v2/persistent/" + first + "/examinemessage?initialPosition=latest&messagePosition=1'",
		}
	}
	switch {
	case d.o.pulsar == "":
		d.say("%-15s its own, %s", b.title, service)
	case admin != "":
		d.cleanups.add("delete the demo's topics", reader.Delete)
		d.say("%-15s topics persistent://public/default/outboxd-demo-%s-*, deleted afterwards", b.title, d.id)
	default:
		d.say("%-15s topics persistent://public/default/outboxd-demo-%s-*; without --pulsar-admin they stay until the broker deletes idle ones",
			b.title, d.id)
	}
	return nil
}
