package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// debeziumServer is a Debezium Server that runs.
type debeziumServer struct {
	*child
	broker removable
	began  time.Time
	slot   string
	drop   func() error // the slot
}

func (d *debeziumServer) pid() int { return d.cmd.Process.Pid }

// end kills it, as a clean end has nothing to do with the figures, and removes what it read and wrote.
func (d *debeziumServer) end() error {
	if d.child != nil {
		d.kill()
		<-d.ended
	}
	return errors.Join(d.broker.Delete(context.Background()), d.broker.Close(), d.drop())
}

// CheckDebezium tells whether Debezium Server is in the folder, as its archive unpacks.
func CheckDebezium(folder string) error {
	switch {
	case folder == "":
		return errors.New("name the folder of Debezium Server")
	case len(debeziumRunners(folder)) == 0:
		return fmt.Errorf("%s holds no debezium-server-*runner.jar: name the folder of Debezium Server, as its archive unpacks", folder)
	}
	return nil
}

func debeziumRunners(folder string) []string {
	runners, _ := filepath.Glob(filepath.Join(folder, "debezium-server-*runner.jar")) // the pattern is well-formed
	return runners
}

// startDebezium starts one with its EventRouter, tuned as well as we know. See https://debezium.io/documentation/reference/stable/operations/debezium-server.html.
func startDebezium(ctx context.Context, f *Field, name, heap string) (d *debeziumServer, err error) {
	prefix, folder := f.Name+"-"+name+"-", filepath.Join(f.Folder, name)
	d = &debeziumServer{}
	if d.broker, err = f.reader(prefix); err != nil {
		return nil, err
	}
	if d.slot, d.drop, err = f.copySlot(ctx, strings.ReplaceAll(name, "-", "_")); err != nil {
		return nil, errors.Join(err, d.broker.Close())
	}
	if err = writeDebezium(f, folder, d.slot, prefix); err == nil {
		d.began = time.Now()
		d.child, err = launch(ctx, filepath.Join(f.Folder, name+".log"), debeziumCommand(ctx, f.Debezium, folder, heap))
	}
	if err != nil {
		return nil, errors.Join(err, d.end())
	}
	return d, nil
}

// debezium lets Debezium Server drain the backlog.
func debezium(ctx context.Context, f *Field, name, heap string) (run Run, err error) {
	d, err := startDebezium(ctx, f, name, heap)
	if err != nil {
		return run, err
	}
	defer func() { err = errors.Join(err, d.end()) }()
	before := Known(d.broker.CPU(ctx))
	watched, err := Watch(ctx, d.broker, d.began, int64(f.Backlog.Rows), d.failure, f.Seen)
	if err != nil {
		return run, d.explain(err)
	}
	run = NewRun(name, watched, f.Backlog.Payload)
	run.CPU = CPUPerMillion{
		Tool:      PerMillion(Known(CPU(d.pid())), run.Entries),
		Walsender: PerMillion(f.walsender(ctx, d.slot), run.Entries),
		Broker:    PerMillion(Used(before, Known(d.broker.CPU(ctx))), run.Entries),
	}
	run.Memory = MemoryOf(d.pid())
	return run, nil
}

// debeziumCommand needs Java 21 or later: that of JAVA_HOME, or of PATH.
func debeziumCommand(ctx context.Context, program, folder, heap string) *exec.Cmd {
	java := "java"
	if home := os.Getenv("JAVA_HOME"); home != "" {
		java = filepath.Join(home, "bin", "java")
	}
	classes := append(debeziumRunners(program), filepath.Join(program, "lib", "*"))
	cmd := exec.CommandContext(ctx, java, "--add-opens", "java.base/java.lang=ALL-UNNAMED", "-Xmx"+heap, "-XX:+UseParallelGC",
		"-Djava.io.tmpdir="+folder, "-cp", strings.Join(classes, ":"), "io.debezium.server.Main")
	cmd.Dir = folder
	return cmd
}

// writeDebezium writes its configuration. poll.interval.ms is what it waits for more when there is nothing.
func writeDebezium(f *Field, folder, slot, prefix string) error {
	host, port, err := address(f.Database)
	if err != nil {
		return err
	}
	schema, table := f.Backlog.Table[0], f.Backlog.Table[1]
	lines := []string{
		"debezium.source.connector.class=io.debezium.connector.postgresql.PostgresConnector",
		"debezium.source.offset.storage.file.filename=" + filepath.Join(folder, "offsets.dat"),
		"debezium.source.offset.flush.interval.ms=1000",
		"debezium.source.database.hostname=" + host, "debezium.source.database.port=" + port,
		"debezium.source.database.user=postgres", "debezium.source.database.password=none",
		"debezium.source.database.dbname=" + cmp.Or(strings.TrimPrefix(databasePath(f.Database), "/"), "postgres"),
		"debezium.source.topic.prefix=bench", "debezium.source.plugin.name=pgoutput", "debezium.source.snapshot.mode=no_data",
		"debezium.source.slot.name=" + slot, "debezium.source.publication.name=" + f.Publication,
		"debezium.source.publication.autocreate.mode=disabled",
		"debezium.source.table.include.list=" + schema + `\\.` + table,
		"debezium.source.max.batch.size=8192", "debezium.source.max.queue.size=32768", "debezium.source.poll.interval.ms=1",
		"debezium.transforms=outbox",
		"debezium.transforms.outbox.type=io.debezium.transforms.outbox.EventRouter",
		"debezium.transforms.outbox.table.field.event.id=id", "debezium.transforms.outbox.table.field.event.key=aggregate_id",
		"debezium.transforms.outbox.table.field.event.type=aggregate_type", "debezium.transforms.outbox.table.field.event.payload=payload",
		"debezium.transforms.outbox.route.by.field=topic", "debezium.transforms.outbox.route.topic.replacement=" + prefix + `\\${routedByValue}`,
		"debezium.format.key.schemas.enable=false", "debezium.format.value.schemas.enable=false",
		"debezium.format.header.schemas.enable=false", // Pulsar's messages have them as properties
		"quarkus.http.port=0", "quarkus.log.level=WARN", "quarkus.log.console.json=false",
	}
	lines = append(lines, f.debeziumSink()...)
	if err := os.MkdirAll(filepath.Join(folder, "config"), 0o700); err != nil {
		return err
	}
	text := strings.Join(lines, "\n") + "\n"
	return os.WriteFile(filepath.Join(folder, "config", "application.properties"), []byte(text), 0o600)
}

func (f *Field) debeziumSink() []string {
	if f.Admin != "" {
		return []string{"debezium.sink.type=pulsar", "debezium.sink.pulsar.client.serviceUrl=" + f.Broker}
	}
	host, port, err := address(f.Broker)
	if err != nil {
		panic(err) // the reader has connected by it
	}
	return []string{
		"debezium.sink.type=redis", "debezium.sink.redis.address=" + host + ":" + port, "debezium.sink.redis.batch.size=500",
		"debezium.sink.redis.memory.limit.mb=0", "debezium.sink.redis.message.format=compact",
	}
}
