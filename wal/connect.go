package wal

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// plugin is the output plugin that every PostgreSQL since 10 carries.
const plugin = "pgoutput"

// closeTimeout bounds the goodbye to a server.
const closeTimeout = 2 * time.Second

// connect opens a replication connection and makes sure that its text output is what the decoder expects.
func connect(ctx context.Context, cfg Config) (*pgconn.PgConn, error) {
	config, err := cfg.replicationConfig()
	if err != nil {
		return nil, err
	}
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open replication connection: %w", classify(err))
	}
	for name := range fixedParameters {
		value := conn.ParameterStatus(name)
		if name == "client_encoding" && value == sqlASCII && conn.ParameterStatus("server_encoding") == sqlASCII {
			continue // passOn has set it
		}
		if err := checkParameter(name, value); err != nil {
			return nil, errors.Join(fmt.Errorf("open replication connection: %w", err), closeConn(conn))
		}
	}
	if err := LiftLimits(ctx, conn); err != nil {
		return nil, errors.Join(fmt.Errorf("open replication connection: %w", classify(err)), closeConn(conn))
	}
	if err := SameServer(ctx, conn, cfg.Started); err != nil {
		return nil, errors.Join(fmt.Errorf("open replication connection: %w", err), closeConn(conn))
	}
	return conn, nil
}

// checkParameter refuses a session whose reported setting is not the one that was asked for, as behind a proxy that
// drops startup parameters. Settings that the server does not report cannot be checked.
func checkParameter(name, value string) error {
	want, fixed := fixedParameters[name]
	if !fixed || value == "" || strings.HasPrefix(value, want) {
		return nil
	}
	return fmt.Errorf("the server reports %s %q, want %q: connect to PostgreSQL itself, not through a pooler", name, value, want)
}

func closeConn(conn *pgconn.PgConn) error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if err := conn.Close(ctx); err != nil {
		return fmt.Errorf("close replication connection: %w", err)
	}
	return nil
}

// queryRow runs one statement or replication command, which on a replication connection must be by the simple
// protocol, and returns its first row, nil when there is none.
func queryRow(ctx context.Context, conn *pgconn.PgConn, statement string) ([][]byte, error) {
	results, err := conn.Exec(ctx, statement).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(results) != 1 {
		return nil, fmt.Errorf("want one result, got %d", len(results))
	}
	if len(results[0].Rows) == 0 {
		return nil, nil
	}
	return results[0].Rows[0], nil
}

// connMajorVersion reads the version that the server reported at connect, like "15.8 (Debian 15.8-0+deb12u1)".
func connMajorVersion(conn *pgconn.PgConn) (int, error) {
	text := conn.ParameterStatus("server_version")
	digits := strings.TrimRight(text, " ")
	if i := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		digits = digits[:i]
	}
	major, err := strconv.Atoi(digits)
	if err != nil {
		return 0, fmt.Errorf("read server version %q: %w", text, err)
	}
	return major, nil
}

func majorVersion(ctx context.Context, conn *pgx.Conn) (int, error) {
	var number int
	if err := conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int").Scan(&number); err != nil {
		return 0, fmt.Errorf("read server version: %w", err)
	}
	return number / 10000, nil
}
