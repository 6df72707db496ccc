package config

import (
	"fmt"
	"slices"
	"strings"
)

const legacyHead = `
## Variables of a polling projector

The environment of an existing deployment is enough, without a file: then all events go to Redis where ` + "`REDIS_URL`" + ` is set, to Pulsar where
` + "`PULSAR_SERVICE_URL`" + ` is, and to both where both are. An empty variable counts as not set. Durations are seconds, with or without a
fraction. The ` + "`OUTBOXD_`" + ` variable of the same setting wins.

| variable | setting |
|---|---|
`

const legacyTail = `
` + "`METRICS_PORT`" + ` is a port alone. ` + "`LOG_LEVEL`" + ` may be one of Python's: WARNING is warn, CRITICAL is error. ` + "`ENCRYPTION_KEY`" + `
means the same here. A name with the prefix ` + "`" + legacyPrefix + "`" + ` that stands in neither table is ignored with a warning that names
the nearest one.

These are ignored, with a warning in the log of ` + "`run`" + ` and on the standard error of ` + "`config`" + `:

| variable | why it has no meaning |
|---|---|
`

const addressText = `
### The database URL

A driver in the scheme (` + "`postgresql+asyncpg://`" + `) is left out. Of the parameters of libpq, pgx knows sslmode, sslcert, sslkey, sslrootcert, sslpassword,
sslsni, target_session_attrs, host, port, passfile, service and servicefile; others go to the server as settings of the session. These are read as settings
of outboxd; where the setting itself is given as well, it wins:

| parameter | setting |
|---|---|
`

// writeLegacy writes what the names of existing deployments mean.
func writeLegacy(b *strings.Builder) {
	b.WriteString(legacyHead)
	paths := map[string][]string{}
	var names []string
	note := func(n *node, path string) {
		for _, name := range n.legacyNames() {
			if paths[name] == nil {
				names = append(names, name)
			}
			paths[name] = append(paths[name], "`"+path+"`")
		}
	}
	for _, s := range leaves(schema, "") {
		note(s.node, s.path)
	}
	for _, kind := range sinkKinds {
		for _, s := range leaves(sinkSchemas[kind], "sinks."+kind) {
			note(s.node, s.path)
		}
	}
	for _, name := range names {
		fmt.Fprintf(b, "| `%s` | %s |\n", name, strings.Join(paths[name], ", "))
	}
	b.WriteString(legacyTail)
	for _, w := range withoutMeaning {
		fmt.Fprintf(b, "| `%s` | %s |\n", w.name, w.why)
	}
	b.WriteString(addressText)
	for _, one := range lifted {
		driver := ""
		if one.driver {
			driver = " (of asyncpg)"
		}
		fmt.Fprintf(b, "| `%s`%s | `%s` |\n", one.parameter, driver, one.path)
	}
	fmt.Fprintf(b, "\nOf asyncpg, `ssl` is `sslmode` and `server_settings` a JSON object of parameters. Ignored with a warning: `%s`.\n",
		strings.Join(slices.Sorted(slices.Values(ofDrivers)), "`, `"))
}

const presetsHead = `
## Presets

A preset is laid over the defaults; everything that is given in another way wins over it. What concerned only polling (the sleeps, the pool, the commit
batch) is mapped to what serves the same wish.
`

func writePresets(b *strings.Builder) {
	b.WriteString(presetsHead)
	for _, p := range presets {
		fmt.Fprintf(b, "\n**%s**: %s.\n\n| setting | value | for |\n|---|---|---|\n", p.name, p.purpose)
		for _, v := range p.values {
			value := "empty"
			if v.value != "" {
				value = "`" + v.value + "`"
			}
			fmt.Fprintf(b, "| `%s` | %s | %s |\n", v.path, value, v.wish)
		}
	}
}
