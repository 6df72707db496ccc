package relay

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/wal"
)

// What a clerk does before and behind its task ends, too, where the server says nothing any more.
func TestClerkWaitsForASilentServerNoLongerThanATask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := connectSilent(t)
		began := time.Now()
		k := &clerk{conn: conn, statements: time.Second, log: zerolog.Nop()}
		err := k.do(t.Context(), &task{limit: longTask, run: func(context.Context, store) error { return nil }})
		if took := time.Since(began); err == nil || took > taskTimeout {
			t.Errorf("its limits are set after %s: %v", took, err)
		}
	})
}

// connectSilent is a connection to a server that takes it, and then says nothing.
func connectSilent(t *testing.T) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig("postgres://postgres@127.0.0.1:1/none?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	config.DialFunc = func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go silent(server)
		return client, nil
	}
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close(context.Background()) // it is broken by then
		<-conn.PgConn().CleanupDone()
	})
	return conn
}

// silent takes the connection, and reads on until it ends.
func silent(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	backend := pgproto3.NewBackend(conn, conn)
	if _, err := backend.ReceiveStartupMessage(); err != nil {
		return
	}
	backend.Send(&pgproto3.AuthenticationOk{})
	backend.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{0, 0, 0, 1}})
	backend.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	for err := backend.Flush(); err == nil; {
		_, err = backend.Receive()
	}
}

// A connection that hangs, or that the server has not got, is tried again; one that will never be the right one ends the session.
func TestClerkTriesAgainToConnectWhereThatCanPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := []error{context.DeadlineExceeded, &pgconn.PgError{Code: "53300"}, &pgconn.PgError{Code: "28P01"}, nil, wal.ErrOtherServer}
		k := &clerk{log: zerolog.Nop(), connect: func(ctx context.Context) (*pgx.Conn, error) {
			answer := answers[0]
			answers = answers[1:]
			if errors.Is(answer, context.DeadlineExceeded) {
				<-ctx.Done()
			}
			return nil, answer
		}}
		began := time.Now()
		for _, left := range []int{2, 1, 0} {
			err := k.connected(t.Context(), &task{})
			if len(answers) != left || (err == nil) != (left == 1) {
				t.Errorf("%d answers are left, want %d: %v", len(answers), left, err)
			}
		}
		if took := time.Since(began); took > taskTimeout+2*sessionRetryMax {
			t.Errorf("it took %s", took)
		}
	})
}
