package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/lease"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/wal"
)

// database is what the checks of PostgreSQL share. One goroutine uses it.
type database struct {
	*Config
	conn    *pgx.Conn
	server  *wal.Server   // nil before it was verified, and where it could not be
	table   *outbox.Table // nil before it was described, and where it cannot be used
	parked  []park.Destination
	columns map[string]column // of the outbox table; nil where there is none
}

// databaseChecks are made in this order: later ones use what earlier ones have found.
var databaseChecks = []struct {
	area string
	check[*database]
}{
	{"postgres", check[*database]{"tls", checkDatabaseTLS}},
	{"postgres", check[*database]{"pooler", checkPooler}},
	{"postgres", check[*database]{"server", checkServer}},
	{"postgres", check[*database]{"settings", checkSettings}},
	{"postgres", check[*database]{"connections", checkConnections}},
	{"postgres", check[*database]{"clock", checkDatabaseClock}},
	{"postgres", check[*database]{"transactions", checkTransactions}},
	{"postgres", check[*database]{"prepared", checkPrepared}},
	{"schema", check[*database]{"migrations", checkMigrations}},
	{"schema", check[*database]{"rights", checkRights}},
	{"slot", check[*database]{"publication", checkPublication}},
	{"slot", check[*database]{"slot", checkSlot}},
	{"slot", check[*database]{"instances", checkInstances}},
	{"table", check[*database]{"table", checkTable}},
	{"table", check[*database]{"columns", checkColumns}},
	{"table", check[*database]{"partitions", checkPartitionKey}},
	{"table", check[*database]{"indexes", checkIndexes}},
	{"table", check[*database]{"vacuum", checkVacuum}},
	{"table", check[*database]{"statuses", checkStatuses}},
	{"table", check[*database]{"old", checkOldRows}},
	{"parked", check[*database]{"parked", checkParked}},
	{"parked", check[*database]{"reasons", checkReasons}},
	{"parked", check[*database]{"keys", checkKeys}},
	{"parked", check[*database]{"destinations", learnDestinations}},
}

// examineDatabase makes the checks one after the other over one connection, and a new one when that was lost. It returns destinations at which
// something waits, too.
func examineDatabase(ctx context.Context, cfg *Config) (findings []Finding, waiting []park.Destination) {
	d := &database{Config: cfg}
	for _, c := range databaseChecks {
		if d.conn == nil || d.conn.IsClosed() {
			if err := d.connect(ctx); err != nil {
				f := unreachable(err)
				f.Area = "postgres"
				return append(findings, f), d.parked
			}
		}
		of := runCheck(ctx, cfg.Timeout, c.check, d)
		for i := range of {
			of[i].Area = c.area
		}
		findings = append(findings, of...)
	}
	if err := wal.CloseConn(ctx, d.conn); err != nil {
		findings = append(findings, Finding{Area: "postgres", Check: "connection", Level: Info, Saw: "the connection did not close: " + err.Error()})
	}
	return findings, d.parked
}

// connect opens a session that can write nothing and waits for nobody.
func (d *database) connect(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	limit := strconv.FormatInt(max(d.Timeout.Milliseconds()*9/10, 1), 10)
	d.conn, err = d.Connect(ctx, map[string]string{
		"default_transaction_read_only": "on", "statement_timeout": limit, "lock_timeout": limit,
	})
	return err
}

// unreachable says why there is no connection to the database.
func unreachable(err error) Finding {
	why := "nothing is read from the database, and the log that the slot keeps grows"
	if checks := wal.CheckErrors(err); len(checks) > 0 {
		return found(Error, "connection", checks[0].Problem, why, checks[0].Mend)
	}
	check := "connection"
	if _, expired := expiredIn(err); expired {
		check = "tls"
	}
	return found(Error, check, "no connection to PostgreSQL: "+err.Error(), why, MendConnection(err))
}

// MendConnection says what mends an error of connecting to PostgreSQL.
func MendConnection(err error) string {
	_, expired := expiredIn(err)
	switch {
	case expired:
		return "renew the server's certificate (ssl_cert_file) and SELECT pg_reload_conf()"
	case lease.HasCode(err, lease.InvalidPassword, lease.InvalidAuthorization):
		return "correct user and password in database.url, ALTER ROLE NAME LOGIN, or let the role in by pg_hba.conf"
	case lease.HasCode(err, lease.InvalidCatalogName):
		return "create the database, or name another in database.url"
	case lease.HasCode(err, lease.TooManyConnections):
		return "raise max_connections, or end connections that nobody needs"
	default:
		return "see that PostgreSQL runs and listens there, that pg_hba.conf lets the role in, and that database.url is right"
	}
}

// expiredIn tells whether the error says that a certificate is not valid at this time.
func expiredIn(err error) (x509.CertificateInvalidError, bool) {
	invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
	return invalid, ok && invalid.Reason == x509.Expired
}

func checkPooler(ctx context.Context, d *database) ([]Finding, error) {
	err := wal.CheckPooler(ctx, d.conn, func(ctx context.Context) (*pgx.Conn, error) { return d.Connect(ctx, nil) })
	if checks := wal.CheckErrors(err); len(checks) > 0 {
		return []Finding{found(Error, "pooler", checks[0].Problem, "locks, notifications and settings belong to a session", checks[0].Mend)}, nil
	}
	return nil, err
}

// plainFinding is about a connection without TLS, to this machine or to another.
func plainFinding(addr net.Addr) Finding {
	if tcp, ok := addr.(*net.TCPAddr); ok && !tcp.IP.IsLoopback() {
		return found(Info, "tls", "the connection to PostgreSQL at "+tcp.String()+" is not encrypted", "who can read the network reads the events and the login",
			"switch ssl on in postgresql.conf, and add sslmode=verify-full to database.url")
	}
	return ok("tls", "the connection to PostgreSQL stays on this machine, and is not encrypted")
}

func checkDatabaseTLS(_ context.Context, d *database) ([]Finding, error) {
	conn, secured := d.conn.PgConn().Conn().(*tls.Conn)
	if !secured {
		return []Finding{plainFinding(d.conn.PgConn().Conn().RemoteAddr())}, nil
	}
	state := conn.ConnectionState()
	findings := []Finding{certificateFinding("PostgreSQL", state.PeerCertificates, now())}
	for _, own := range d.conn.Config().TLSConfig.Certificates {
		leaf, err := x509.ParseCertificate(own.Certificate[0])
		if err != nil {
			return findings, fmt.Errorf("read the client's certificate: %w", err)
		}
		findings = append(findings, certificateFinding("outboxd at PostgreSQL (sslcert)", []*x509.Certificate{leaf}, now()))
	}
	return findings, nil
}
