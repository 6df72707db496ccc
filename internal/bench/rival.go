package bench

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/internal/workload"
)

// Field is where rivals of outboxd compete: the same backlog, and the same log of it.
type Field struct {
	Backlog     *Backlog
	Conn        *pgx.Conn
	Database    string // URL; of a server on this machine that lets everybody in
	Broker      string // URL
	Admin       string // URL of a Pulsar's admin API; empty for Redis
	Slot        string // whose log holds the backlog; it is copied
	Publication string
	End         string // log position of the backlog's end
	Folder      string // for files
	Debezium    string // folder of Debezium Server
	Name        string // in the names of streams and topics
	Seen        func(n int64)
}

// Rivals are the tools that compete, by name.
var Rivals = map[string]func(context.Context, *Field) (Run, error){
	Limit:           recvlogical,
	"debezium":      func(ctx context.Context, f *Field) (Run, error) { return debezium(ctx, f, "debezium", "512m") },
	"debezium-128m": func(ctx context.Context, f *Field) (Run, error) { return debezium(ctx, f, "debezium-128m", "128m") },
	"polling":       polling,
	Update:          update,
}

// copySlot makes a slot of the same place in the log; drop removes it.
func (f *Field) copySlot(ctx context.Context, name string) (slot string, drop func() error, err error) {
	slot = f.Slot + "_" + name
	if _, err := f.Conn.Exec(ctx, `SELECT pg_copy_logical_replication_slot($1, $2)`, f.Slot, slot); err != nil {
		return "", nil, fmt.Errorf("copy slot %s: %w", f.Slot, err)
	}
	return slot, func() error {
		// The walsender may outlive its client for a moment.
		cleaning, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		for {
			_, err := f.Conn.Exec(cleaning, `SELECT pg_drop_replication_slot($1)`, slot)
			if err == nil || cleaning.Err() != nil {
				return err
			}
			if !workload.Sleep(cleaning, 50*time.Millisecond) {
				return cleaning.Err()
			}
		}
	}, nil
}

// walsender is the processor time of the process that sends the slot's log.
func (f *Field) walsender(ctx context.Context, slot string) *time.Duration {
	var pid *int
	if err := f.Conn.QueryRow(ctx, `SELECT active_pid FROM pg_replication_slots WHERE slot_name = $1`, slot).Scan(&pid); err != nil || pid == nil {
		return nil
	}
	return Known(CPU(*pid))
}

// child is another program.
type child struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has ended
	err   error         // of its end; to be read when ended is closed
	log   string
}

// launch starts a program with its output in a file.
func launch(ctx context.Context, log string, cmd *exec.Cmd) (*child, error) {
	file, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = file, file, testenv.ChildAttributes()
	c := &child{cmd: cmd, ended: make(chan struct{}), log: log}
	started := make(chan error)
	go func() {
		defer close(c.ended)
		defer file.Close()     //nolint:errcheck // nothing of ours is written to it
		runtime.LockOSThread() // the system ends the child when the thread ends that made it
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			c.err = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(cmd.Path), err)
	}
	context.AfterFunc(ctx, c.kill)
	return c, nil
}

func (c *child) kill() { _ = c.cmd.Process.Kill() } // it may have ended

// failure says that the program has ended, nil while it runs.
func (c *child) failure() error {
	select {
	case <-c.ended:
		return fmt.Errorf("%s has ended (%s); the end of its log:\n%s", filepath.Base(c.cmd.Path), c.cmd.ProcessState, c.tail())
	default:
		return nil
	}
}

// explain adds the end of the log to an error, unless failure has done so.
func (c *child) explain(err error) error {
	if c.failure() != nil {
		return err
	}
	return fmt.Errorf("%w; the end of its log:\n%s", err, c.tail())
}

func (c *child) tail() string {
	text, err := os.ReadFile(c.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-2000):])
}

// recvlogical reads the log and throws it away: nothing that streams the outbox can be faster.
func recvlogical(ctx context.Context, f *Field) (run Run, err error) {
	slot, drop, err := f.copySlot(ctx, "limit")
	if err != nil {
		return run, err
	}
	defer func() { err = errors.Join(err, drop()) }()
	began := time.Now()
	c, err := launch(ctx, filepath.Join(f.Folder, "pg_recvlogical.log"), exec.CommandContext(ctx, "pg_recvlogical", "--dbname", f.Database,
		"--slot", slot, "--start", "--file", "/dev/null", "--endpos", f.End, "--no-loop", "--option", "proto_version=1",
		"--option", "publication_names="+f.Publication))
	if err != nil {
		return run, err
	}
	<-c.ended
	took := time.Since(began)
	if c.err != nil {
		return run, c.failure()
	}
	run = NewRun(Limit, Watched{Last: took, Entries: int64(f.Backlog.Rows)}, f.Backlog.Payload)
	used := c.cmd.ProcessState.UserTime() + c.cmd.ProcessState.SystemTime()
	run.CPU.Tool = PerMillion(&used, run.Entries)
	return run, nil
}

// address is the host and port of a URL.
func address(text string) (host, port string, err error) {
	u, err := url.Parse(text)
	if err != nil {
		return "", "", errors.New("read the URL of a server: it is no URL")
	}
	return u.Hostname(), u.Port(), nil
}

// databasePath is the path of a URL.
func databasePath(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return u.Path
}
