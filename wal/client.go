package wal

import (
	"context"
	"fmt"
	"maps"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// After Client.Keepalive a silent connection is probed so often, so many times; then it is broken.
const (
	probeInterval = 10 * time.Second
	probes        = 3
)

// sqlASCII is the encoding of databases in which text is any bytes.
const sqlASCII = "SQL_ASCII"

// Client is how connections are made, beside what the URL says. The zero value leaves all of it to pgx and the system.
type Client struct {
	ApplicationName string        // where the URL names none; default "outboxd"
	ConnectTimeout  time.Duration // to one address
	Keepalive       time.Duration // of silence, before TCP probes the other end
}

// ConnConfig reads the URL for an ordinary connection.
func (c Config) ConnConfig() (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(c.URL)
	if err != nil {
		return nil, fmt.Errorf("read database.url: %w", err)
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = applicationName
		if c.Client.ApplicationName != "" {
			config.RuntimeParams["application_name"] = c.Client.ApplicationName
		}
	}
	if c.Client.ConnectTimeout > 0 {
		config.ConnectTimeout = c.Client.ConnectTimeout
	}
	if c.Client.Keepalive > 0 {
		probed := net.KeepAliveConfig{Enable: true, Idle: c.Client.Keepalive, Interval: probeInterval, Count: probes}
		config.DialFunc = (&net.Dialer{KeepAliveConfig: probed}).DialContext
	}
	config.AfterConnect = passOn
	return config, nil
}

// passOn lets a database of the encoding SQL_ASCII send and take text as it is. Else the server looks at each text whether it is UTF-8, in the log as
// well, and the first that is not would end every session.
// Source: pg_server_to_any in PostgreSQL's src/backend/utils/mb/mbutils.c
func passOn(ctx context.Context, conn *pgconn.PgConn) error {
	if conn.ParameterStatus("server_encoding") != sqlASCII {
		return nil
	}
	if _, err := conn.Exec(ctx, "SET client_encoding = '"+sqlASCII+"'").ReadAll(); err != nil {
		return fmt.Errorf("set client_encoding: %w", err)
	}
	return nil
}

// SessionConfig is ConnConfig for a connection of a session: it reads rows as the log carries them, and the server too finds out when the
// other end has vanished, so that a lock does not stay with it for hours.
func (c Config) SessionConfig() (*pgx.ConnConfig, error) {
	config, err := c.ConnConfig()
	if err != nil {
		return nil, err
	}
	SetParameters(config.RuntimeParams, TextFormat)
	if c.Client.Keepalive > 0 {
		for name, value := range map[string]time.Duration{"tcp_keepalives_idle": c.Client.Keepalive, "tcp_keepalives_interval": probeInterval} {
			config.RuntimeParams[name] = strconv.Itoa(max(1, int(value/time.Second)))
		}
		config.RuntimeParams["tcp_keepalives_count"] = strconv.Itoa(probes)
	}
	return config, nil
}

// CloseConn closes an ordinary connection, also when ctx has ended. Of one on which a statement was broken off it waits until the server has been asked to end
// that: it would notice by itself only at the end, and some read a whole table.
func CloseConn(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	err := conn.Close(ctx)
	select {
	case <-conn.PgConn().CleanupDone():
	case <-ctx.Done():
	}
	return err
}

// SetParameters sets parameters of a session, in the place of what the URL or the environment (PGTZ) says: names of parameters are the same for the server
// in any case of their letters, and of two that are sent it takes the last.
func SetParameters(session, fixed map[string]string) {
	maps.DeleteFunc(session, func(given, _ string) bool {
		for name := range fixed {
			if strings.EqualFold(name, given) {
				return true
			}
		}
		return false
	})
	maps.Copy(session, fixed)
}

// LiftLimits switches off limits that the role or the database sets for its ordinary statements and connections: a session waits for its lock,
// listens and streams for as long as it lives, reads all that is parked when it opens, and a new slot waits for every open transaction. And where row
// security would keep rows from it, it gets an error: a row that it does not see would count as settled.
func LiftLimits(ctx context.Context, conn *pgconn.PgConn) error {
	// Not every server knows all of them.
	_, err := conn.Exec(ctx, `SELECT set_config(name, CASE name WHEN 'row_security' THEN 'off' ELSE '0' END, false) FROM pg_settings
		WHERE name IN ('row_security', 'statement_timeout', 'transaction_timeout', 'idle_session_timeout', 'idle_in_transaction_session_timeout')`).ReadAll()
	if err != nil {
		return fmt.Errorf("lift the connection's time limits: %w", err)
	}
	return nil
}
