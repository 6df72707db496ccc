package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	goredis "github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/outboxd/outboxd/internal/config"
	"github.com/outboxd/outboxd/internal/doctor"
	"github.com/outboxd/outboxd/wal"
)

const doctorLong = `Look at the whole path of an event, from the server's settings to the brokers, and say what is wrong and how to mend it.

It changes nothing and publishes nothing, and may run while outboxd runs. What cannot be reached is reported, and the other checks go on.
Exit code 1 says that something is an error; warnings alone exit 0.

--fix does what is safe and does no harm when it was done already: make a missing publication or add the table to it, apply pending
steps of outboxd's own schema, make the index on retry_after, drop invalid indexes of outboxd's own. It touches no row, and everything
is checked again afterwards.`

func newDoctorCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look at the whole path of an event, and say how to mend what is wrong",
		Long:  doctorLong,
		Example: `  outboxd doctor --config outboxd.yaml
  outboxd doctor --fix --config outboxd.yaml
  outboxd doctor --destination pulsar:persistent://acme/outbox/order.created --config outboxd.yaml
  outboxd doctor --output json --config outboxd.yaml`,
		Args: noArguments,
	}
	fix := cmd.Flags().Bool("fix", false, "do what is safe of what is found")
	timeout := cmd.Flags().Duration("timeout", doctor.DefaultTimeout, "give each check so much `TIME`")
	destinations := cmd.Flags().StringArray("destination", nil, "ask the broker whether it accepts for this `SINK:NAME`; repeatable")
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *timeout < 10*time.Millisecond {
			return usage(cmd, "--timeout %s is too short: choose at least 10ms", *timeout)
		}
		cfg, _, err := a.load(cmd, config.NeedAll)
		if err != nil {
			return err
		}
		parts := cfg.Split()
		looks := make([]doctor.Config, len(parts))
		for i, part := range parts {
			looks[i] = doctorConfig(cmd.Context(), part, *timeout)
			looks[i].MaxConnections *= len(parts)
			for _, other := range parts {
				if other != part {
					looks[i].WAL.Beside = append(looks[i].WAL.Beside, other.Database.Slot)
				}
			}
			if len(parts) > 1 {
				looks[i].Name = fmt.Sprintf("shard %d: ", part.Shards.Number)
			}
			for _, d := range *destinations {
				if err := addDestination(looks[i].Sinks, d); err != nil {
					return usage(cmd, "--destination %s: %v", d, err)
				}
			}
		}
		goredis.SetLogger(redisLog{zerolog.Nop()}) // what matters of it is in the findings
		return a.examine(cmd.Context(), looks, *fix, output.value)
	}
	return cmd
}

// doctorConfig says what to look at.
func doctorConfig(ctx context.Context, cfg *config.Config, timeout time.Duration) doctor.Config {
	const besideTable = 5 // connections to watch, to settle, to park, for the next load, and of replication; see docs/operations.md
	look := doctor.Config{
		Connect: func(ctx context.Context, parameters map[string]string) (*pgx.Conn, error) {
			return connect(ctx, cfg, parameters)
		},
		WAL: walConfig(cfg, true), Outbox: outboxConfig(cfg), Migrations: migrationOptions(cfg, ""),
		MaxRetainedWAL: int64(cfg.Outage.MaxRetainedWAL), MaxConnections: cfg.Poll.MaxConcurrent + besideTable,
		StopWhenLost: cfg.Slot.OnLost == "stop", Failover: cfg.Database.Failover, Timeout: timeout,
	}
	name := askName(ctx, cfg, timeout)
	for _, r := range cfg.Routes {
		for _, to := range r.To {
			i := slices.IndexFunc(look.Sinks, func(s doctor.Sink) bool { return s.Name == to.Sink })
			if i < 0 {
				i = len(look.Sinks)
				look.Sinks = append(look.Sinks, doctorSink(to.Sink, cfg.Sinks[to.Sink], name))
			}
			look.Sinks[i].Templates = append(look.Sinks[i].Templates, to.Destination)
		}
	}
	return look
}

// askName returns what learns the outbox's name once, when Pulsar is looked at: by it the producers of its own instances are known. A database
// that does not say it leaves the name of nobody: what is wrong with it is found by the checks of the database.
func askName(ctx context.Context, cfg *config.Config, timeout time.Duration) func() string {
	return sync.OnceValue(func() string {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		var name outboxName
		if conn, err := connect(ctx, cfg, nil); err == nil {
			_ = name.learn(ctx, conn, cfg.Database.Slot)
			_ = wal.CloseConn(ctx, conn)
		}
		return name.get()
	})
}

func doctorSink(name string, s config.Sink, instance func() string) doctor.Sink {
	d := doctor.Sink{Name: name}
	switch {
	case s.Redis != nil:
		c := redisConfig(s.Redis)
		d.Redis = &c
	case s.Pulsar != nil:
		c := pulsarConfig(s.Pulsar, instance)
		d.Pulsar = &c
	}
	return d
}

func addDestination(sinks []doctor.Sink, text string) error {
	sink, name, ok := strings.Cut(text, ":")
	if !ok || name == "" {
		return errors.New("write it as SINK:NAME")
	}
	for i := range sinks {
		if sinks[i].Name == sink {
			sinks[i].Destinations = append(sinks[i].Destinations, name)
			return nil
		}
	}
	return fmt.Errorf("no route names a sink %s", sink)
}

// doctorReport is the JSON form.
type doctorReport struct {
	Errors   int              `json:"errors"`
	Warnings int              `json:"warnings"`
	Fixed    []doctor.Fixed   `json:"fixed,omitempty"`
	Findings []doctor.Finding `json:"findings"`
}

// examine prints the findings, after the fixes where they are asked for. Errors among them are a failure that the output explains.
func (a *app) examine(ctx context.Context, looks []doctor.Config, fix bool, output string) error {
	var findings []doctor.Finding
	var fixed []doctor.Fixed
	for _, look := range looks {
		found := doctor.Examine(ctx, look)
		if fix {
			if did := doctor.Mend(ctx, look, found); len(did) > 0 {
				fixed = append(fixed, did...)
				found = doctor.Examine(ctx, look)
			}
		}
		findings = append(findings, found...)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	r := doctorReport{doctor.Count(findings, doctor.Error), doctor.Count(findings, doctor.Warning), fixed, findings}
	var err error
	if output == "json" {
		err = a.printJSON(r)
	} else {
		err = a.printFindings(r)
	}
	if err != nil {
		return err
	}
	if r.Errors > 0 {
		return reported{errors.New("doctor found errors")}
	}
	return nil
}
