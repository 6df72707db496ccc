package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/testenv"
)

// demoDatabase is where the demo's tables are.
type demoDatabase struct {
	title       string // "PostgreSQL 15.4"
	url         string
	tableSchema string // of the outbox and the application's tables
	schema      string // of outboxd's own
	name        string // of slot and publication
	psql        string // program
}

// look is a command that shows the outbox.
func (db *demoDatabase) look() string {
	table := "outbox"
	if db.tableSchema != "public" {
		table = db.tableSchema + "." + table
	}
	address := strings.TrimSuffix(demoPublicURL(db.url), "?sslmode=disable")
	return fmt.Sprintf(`%s '%s' -c "SELECT tenant_id, status, count(*) FROM %s GROUP BY 1, 2"`, db.psql, address, table)
}

// openDatabase finds or starts a server, and makes a database or schemas for the demo.
func (d *demo) openDatabase(ctx context.Context) (*demoDatabase, error) {
	db := &demoDatabase{tableSchema: "public", schema: "outboxd", name: "outboxd_demo_" + d.id, psql: "psql"}
	server := d.o.postgres
	if server == "" {
		own, err := testenv.StartPostgres(ctx, testenv.PostgresOptions{Fsync: true, Progress: d.app.err})
		if err != nil {
			return nil, fmt.Errorf("start PostgreSQL (or use yours with --pg): %w", err)
		}
		d.cleanups.add("stop PostgreSQL", own.Close)
		server, db.name = own.URL, "outboxd_demo"
		if path := filepath.Join(own.Bin, "psql"); !installed("psql") && installed(path) {
			db.psql = path
		}
	}
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	err = d.makeDatabase(ctx, conn, server, db)
	return db, errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
}

func installed(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

func (d *demo) makeDatabase(ctx context.Context, conn *pgx.Conn, server string, db *demoDatabase) error {
	var version, walLevel, current string
	var mayCreate bool
	err := conn.QueryRow(ctx, `SELECT split_part(current_setting('server_version'), ' ', 1), current_setting('wal_level'),
		current_database(), rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user`).Scan(&version, &walLevel, &current, &mayCreate)
	if err != nil {
		return fmt.Errorf("ask PostgreSQL about itself: %w", err)
	}
	if walLevel != "logical" {
		return fmt.Errorf("PostgreSQL has wal_level %s: set it to logical (ALTER SYSTEM SET wal_level = logical) and restart the server", walLevel)
	}
	db.title, db.url = "PostgreSQL "+version, server
	if mayCreate {
		return d.createDatabase(ctx, conn, server, db)
	}
	db.tableSchema, db.schema = db.name, db.name+"_own"
	if _, err := conn.Exec(ctx, `CREATE SCHEMA `+db.tableSchema); err != nil {
		return fmt.Errorf("create a schema, as the role may not create databases (ALTER ROLE ... CREATEDB): %w", err)
	}
	d.cleanups.add("remove schemas, slot and publication "+db.name, func(ctx context.Context) error {
		return demoConnection(ctx, server, func(conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, `DROP PUBLICATION IF EXISTS `+db.name+`; DROP SCHEMA IF EXISTS `+db.schema+`, `+db.tableSchema+` CASCADE`)
			return errors.Join(dropSlot(ctx, conn, db.name), err)
		})
	})
	d.say("%-15s schemas %s and %s in database %s, removed afterwards", db.title, db.tableSchema, db.schema, current)
	return nil
}

func (d *demo) createDatabase(ctx context.Context, conn *pgx.Conn, server string, db *demoDatabase) error {
	u, err := url.Parse(server)
	if err != nil {
		return errors.New("read the URL of PostgreSQL: it is no URL") // the error would show the password
	}
	u.Path = "/" + db.name
	db.url = u.String()
	if _, err := conn.Exec(ctx, `CREATE DATABASE `+db.name+` TEMPLATE template0`); err != nil {
		return fmt.Errorf("create database %s: %w", db.name, err)
	}
	if d.o.postgres == "" {
		d.say("%-15s its own, %s", db.title, demoPublicURL(db.url))
		return nil // the server goes with all it holds
	}
	d.cleanups.add("drop database "+db.name, func(ctx context.Context) error {
		return demoConnection(ctx, server, func(conn *pgx.Conn) error { return dropDemoDatabase(ctx, conn, db.name) })
	})
	d.cleanups.add("drop slot "+db.name, func(ctx context.Context) error { // from its own database: DropSlot drops no other's
		return demoConnection(ctx, db.url, func(conn *pgx.Conn) error { return dropSlot(ctx, conn, db.name) })
	})
	d.say("%-15s database and slot %s, dropped afterwards", db.title, db.name)
	return nil
}

// demoConnection runs do with a connection of its own.
func demoConnection(ctx context.Context, url string, do func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	return errors.Join(do(conn), conn.Close(ctx))
}

func dropDemoDatabase(ctx context.Context, conn *pgx.Conn, name string) error {
	// Somebody may look at it with psql. Only his session is in the way, and DROP ... WITH (FORCE) came with 13.
	_, err := conn.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1`, name)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, `DROP DATABASE IF EXISTS `+name)
	return err
}

// demoPublicURL is a URL without its password.
func demoPublicURL(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "URL"
	}
	if u.User != nil {
		u.User = url.User(u.User.Username())
	}
	return u.String()
}
