package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/workload"
	"github.com/outboxd/outboxd/migrations"
)

const (
	demoArrival = 30 * time.Second // for what is committed to arrive, when nothing arrives meanwhile
	demoCleanUp = time.Minute
)

// demo is everything that one demo is made of.
type demo struct {
	app  *app
	o    demoOptions
	id   string // in the names of all that it makes
	dir  string // configuration and log
	news io.Writer

	database *demoDatabase
	broker   *demoBroker
	producer *workload.Producer
	meter    *demoMeter
	child    *supervised

	cleanups cleanups
}

func newDemo(a *app, o demoOptions) (*demo, error) {
	d := &demo{app: a, o: o, id: strings.ToLower(rand.Text()[:8]), news: a.out}
	if o.output.value == "json" {
		d.news = a.err
	}
	var err error
	if d.dir, err = os.MkdirTemp("", "outboxd-demo-"); err != nil {
		return nil, fmt.Errorf("make a folder for the demo: %w", err)
	}
	return d, nil
}

// say tells what happens. A failed write would end the demo soon enough.
func (d *demo) say(format string, args ...any) { _, _ = fmt.Fprintf(d.news, format+"\n", args...) }

// cleanUp takes away everything, the latest first. After a failure outboxd's log stays.
func (d *demo) cleanUp(ctx context.Context, failure error) error {
	ctx, cancel := context.WithTimeout(ctx, demoCleanUp)
	defer cancel()
	failed := d.cleanups.run(ctx)
	if info, err := os.Stat(d.logFile()); failure != nil && err == nil && info.Size() > 0 {
		_, err := fmt.Fprintf(d.app.err, "outboxd's log is kept: %s\n", d.logFile())
		return errors.Join(failed, err, os.Remove(d.configFile()))
	}
	return errors.Join(failed, os.RemoveAll(d.dir))
}

func (d *demo) logFile() string    { return filepath.Join(d.dir, "outboxd.log") }
func (d *demo) configFile() string { return filepath.Join(d.dir, "outboxd.yaml") }

// prepare makes everything ready up to an outboxd that waits for events.
func (d *demo) prepare(ctx context.Context) error {
	var err error
	if d.database, err = d.openDatabase(ctx); err != nil {
		return err
	}
	if d.broker, err = d.openBroker(ctx); err != nil {
		return err
	}
	if err := d.migrate(ctx); err != nil {
		return err
	}
	d.producer, err = workload.NewProducer(workload.Config{
		URL: d.database.url, Schema: d.database.tableSchema, Outbox: pgx.Identifier{d.database.tableSchema, "outbox"},
		Tenants: workload.Tenants(d.o.tenants), Rate: d.o.rate,
	})
	if err != nil {
		return err
	}
	if err := d.producer.Setup(ctx); err != nil {
		return err
	}
	return d.startOutboxd(ctx)
}

func (d *demo) migrate(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, d.database.url)
	if err != nil {
		return fmt.Errorf("connect to the demo's database: %w", err)
	}
	_, err = migrations.Up(ctx, conn, migrations.Options{Schema: d.database.schema, TableSchema: d.database.tableSchema})
	return errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
}

// startOutboxd starts outboxd as a child process and waits until it streams.
func (d *demo) startOutboxd(ctx context.Context) error {
	addr, err := freeAddress(ctx, d.o.http)
	if err != nil {
		return err
	}
	if err := os.WriteFile(d.configFile(), []byte(d.configuration(addr)), 0o600); err != nil {
		return fmt.Errorf("write outboxd's configuration: %w", err)
	}
	if d.child, err = startSupervised(withoutSettings(d.app.environ), d.arguments(), addr, d.logFile()); err != nil {
		return err
	}
	d.cleanups.add("stop outboxd", func(context.Context) error { return d.child.stop() })
	d.say("%-15s process %d, http://%s/status, log in %s", "outboxd", d.child.pid.Load(), d.child.addr, d.logFile())
	return d.child.waitReady(ctx, readyTimeout)
}

// arguments are those of outboxd: its file, and what the demo was given.
func (d *demo) arguments() []string {
	return append([]string{"--config", d.configFile()}, d.app.settingFlags()...)
}

// configuration is outboxd's file.
func (d *demo) configuration(addr string) string {
	db, name := d.database, d.o.sink.value
	return fmt.Sprintf(`# made by outboxd demo
database:
  url: %s
  slot: %s
  publication: %s
  table: %s.outbox
  schema: %s
sinks:
  %s: %s
routes:
  - to:
      - {sink: %s, destination: %s}
http: {addr: %s}
log: {format: json}
`, quoteYAML(db.url), db.name, db.name, db.tableSchema, db.schema, name, d.broker.settings, name, quoteYAML(d.broker.template), quoteYAML(addr))
}
