package config

import (
	"fmt"
	"io"
	"strings"
)

const referenceHead = `# Configuration

<!-- Made from the code by "go generate ./internal/config"; changes made here are lost. -->

Settings are laid over each other; each layer wins over the one before:

1. the defaults below,
2. a preset: ` + "`preset: NAME`, `OUTBOXD_PRESET`" + ` or ` + "`--preset NAME`" + `, see [Presets](#presets),
3. parameters of the database's address that are settings here, see [The database URL](#the-database-url),
4. the YAML file of ` + "`--config FILE`" + ` (or ` + "`OUTBOXD_CONFIG`" + `),
5. the names of existing deployments in the environment, see [Variables of a polling projector](#variables-of-a-polling-projector),
6. the environment: ` + "`OUTBOXD_`" + ` and the setting's path in upper case, dots and hyphens as underscores
   (` + "`batch.max_messages`" + ` is ` + "`OUTBOXD_BATCH_MAX_MESSAGES`" + `); lists are written as YAML,
7. flags: ` + "`--set PATH=VALUE`, `--database-url URL`, `--log-level LEVEL`, `--preset NAME`" + `.

` + "`--env-file FILE`" + ` adds variables from a file of ` + "`NAME=VALUE`" + ` lines to the environment. A variable that the process's own environment has wins, an
empty one too. Values stand in single or double quotes where they hold spaces, quotes or a # behind a space; ` + "`export`" + ` before the name is fine; a dollar is a
dollar.

` + "`outboxd config`" + ` prints the result as a file with the place that each value came from, and ` + "`outboxd config --explain`" + ` every setting with its
value, its source and its meaning, as a table or as JSON. Secrets are masked.

All of it is strict. An unknown key, an unknown ` + "`OUTBOXD_`" + ` variable, a key given twice, and a value of the wrong type or outside its
range are errors, reported all at once with file, line and column.

- **Durations** are written with a unit: ` + "`500ms`, `5s`, `10m`, `24h`" + `.
- **Sizes** are bytes, or have a unit: ` + "`512KiB`, `32MiB`, `1GiB`" + ` (powers of 1024), ` + "`500kB`, `1GB`" + ` (powers of 1000).
- **Text** that looks like a number or like true and false needs quotes in the file.

## Example

` + "```yaml\n" + Example + "```\n" + `
### A table of another shape

Columns are named in ` + "`database.columns`" + `; an empty name says that there is none. A table without a status needs ` + "`on_sent: delete`" + ` or ` + "`keep`" + `, one without a
tenant ` + "`database.default_tenant`" + `. The table that Debezium's event router reads (` + "`id`, `aggregatetype`, `aggregateid`, `type`, `payload`" + `):

` + "```yaml\n" + otherShape + "```\n" + `
All rows of a table without a status count as due at the first start and after a lost slot, and what became of an event shows in ` + "`outboxd events`" + ` alone. Where the application deletes
each row in the transaction that inserts it, events come from the log as ever, but nothing can make up for a lost slot. Without ` + "`created_at`" + ` a cleanup has no age to go by: hence the empty schedule.
`

// Example is a configuration file that shows the most common settings.
const Example = `database:
  url: postgres://outboxd@db.internal:5432/shop?sslmode=verify-full
sinks:
  redis:
    url: rediss://cache.internal:6379/0
  pulsar:
    url: pulsar+ssl://pulsar.internal:6651
    token_file: /run/secrets/pulsar-token
routes:                         # the first that matches wins
  - match: {tenant: "acme", topic: "order.*"}
    to:
      - {sink: pulsar, destination: "persistent://{tenant}/outbox/{topic}"}
      - {sink: redis, destination: "orders:{tenant}"}
  - to:
      - {sink: redis, destination: "outbox:{tenant}:{topic}"}
on_sent: mark
memory: {budget: 64MiB}
log: {level: info, format: json}
`

// otherShape is a configuration file for the table of Debezium's event router.
const otherShape = `database:
  url: postgres://outboxd@db.internal:5432/shop?sslmode=verify-full
  table: public.outboxevent
  columns:
    topic: type
    aggregate_type: aggregatetype
    aggregate_id: aggregateid
    tenant_id: ""
    occurred_at: ""
    schema_id: ""
    schema_version: ""
    metadata: ""
    status: ""
  default_tenant: shop
sinks:
  redis: {url: "rediss://cache.internal:6379/0"}
routes:
  - to: [{sink: redis, destination: "outbox.event.{aggregate_type}"}]
on_sent: delete
cleanup: {schedule: ""}
`

// WriteReference writes the reference of all settings as Markdown.
func WriteReference(w io.Writer) error {
	var b strings.Builder
	b.WriteString(referenceHead)
	writeLegacy(&b)
	writePresets(&b)
	var top []*node
	for _, n := range schema.children {
		if n.kind != kindSection && n.kind != kindSinks && n.kind != kindList {
			top = append(top, n)
		}
	}
	b.WriteString("\n## Top level\n\n")
	rows(&b, "", top)
	for _, n := range schema.children {
		switch n.kind {
		case kindSection:
			sectionReference(&b, "##", n, n.name)
		case kindSinks:
			sinksReference(&b, n)
		case kindList:
			sectionReference(&b, "##", n, n.name+"[]")
		}
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write reference: %w", err)
	}
	return nil
}

// sectionReference writes the heading, the table and the sections below.
func sectionReference(b *strings.Builder, heading string, n *node, path string) {
	fmt.Fprintf(b, "\n%s %s\n\n", heading, path)
	if doc := n.tag.Get("doc"); doc != "" {
		b.WriteString(doc + "\n\n")
	}
	var values []*node
	for _, c := range n.children {
		if c.kind != kindSection && c.kind != kindList {
			values = append(values, c)
		}
	}
	if len(values) > 0 {
		rows(b, path+".", values)
	}
	for _, c := range n.children {
		switch c.kind {
		case kindSection:
			sectionReference(b, heading+"#", c, join(path, c.name))
		case kindList:
			sectionReference(b, heading+"#", c, join(path, c.name)+"[]")
		}
	}
}

func sinksReference(b *strings.Builder, n *node) {
	fmt.Fprintf(b, "\n## %s\n\n%s\n", n.name, n.tag.Get("doc"))
	for _, kind := range sinkKinds {
		sectionReference(b, "###", sinkSchemas[kind], "sinks."+kind)
	}
}

func rows(b *strings.Builder, path string, settings []*node) {
	b.WriteString("| setting | type | default | meaning |\n|---|---|---|---|\n")
	for _, n := range settings {
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", path+n.name, n.typeText(), n.defaultText(), n.tag.Get("doc")+n.environmentText())
	}
}

// typeText says in a few words what may be written.
func (n *node) typeText() string {
	if e := n.enum(); e != nil {
		return "`" + strings.Join(e, "`, `") + "`"
	}
	text := n.kind.describe()
	switch n.kind {
	case kindSecret:
		text = "text, secret"
	case kindDuration:
		text = "duration"
	case kindSize:
		text = "size"
	}
	if low, high := n.tag.Get("min"), n.tag.Get("max"); high != "" {
		text += ", " + low + " to " + high
	}
	return text
}

func (n *node) defaultText() string {
	switch {
	case n.tag.Get("default") != "":
		return "`" + n.tag.Get("default") + "`"
	case n.required():
		return "required"
	default:
		return "empty"
	}
}

func (n *node) environmentText() string {
	if names := n.legacyNames(); names != nil {
		return " Also `" + strings.Join(names, "`, `") + "`."
	}
	return ""
}
