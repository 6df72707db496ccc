package testenv

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// reaperScript is the helper process of a folder. Lines on its standard input tell which process group runs: "run PGID", then "end PGID".
// When the input closes, because Close closed it or because the process that held it is gone, it kills the group, unmounts the disk and removes the folder.
// PostgreSQL gives each backend a group of its own, so the children of the leader are killed too, and its shared memory is released by
// the id that postmaster.pid holds in line 7.
const reaperScript = `
dir=$1
group=
while read -r verb arg; do
	case $verb in
	run) group=$arg ;;
	end) group= ;;
	esac
done
if [ -n "$group" ]; then
	kill -STOP "$group"
	kill -KILL $(cat "/proc/$group/task/"*/children)
	kill -KILL "-$group"
fi
if [ -r "$dir/data/postmaster.pid" ]; then
	set -- $(sed -n 7p "$dir/data/postmaster.pid")
	[ -z "$2" ] || ipcrm -m "$2"
fi
tries=0
until { ! mountpoint -q "$dir/data" || umount "$dir/data"; } && rm -rf -- "$dir" || [ "$tries" -ge 100 ]; do
	tries=$((tries + 1))
	sleep 0.1
done
`

// folder is a server's folder below os.TempDir, and the helper process that outlives this one to clean up behind it.
type folder struct {
	path   string
	pipe   *os.File // to the helper; nothing else holds this end
	reaper *process
}

// newFolder makes a folder named after the kind of server. The helper is there before the folder is, so that no kill -9 can leave it.
func newFolder(kind string, owner *account) (*folder, error) {
	f := &folder{path: filepath.Join(os.TempDir(), "outboxd-"+kind+"-"+strings.ToLower(rand.Text()))}
	if err := f.watch(); err != nil {
		return nil, fmt.Errorf("watch over %s: %w", f.path, err)
	}
	err := os.Mkdir(f.path, 0o700)
	if err == nil && owner != nil {
		err = os.Chown(f.path, owner.uid, owner.gid)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make folder of %s: %w", kind, err), f.close())
	}
	return f, nil
}

func (f *folder) watch() error {
	reading, writing, err := os.Pipe()
	if err != nil {
		return err
	}
	defer drop(reading)
	f.reaper, err = start(command{path: "/bin/sh", args: []string{"-c", reaperScript, "outboxd-reaper", f.path}, dir: "/", stdin: reading})
	if err != nil {
		return errors.Join(err, writing.Close())
	}
	f.pipe = writing
	return nil
}

// run starts a command whose end the folder guarantees. The command waits as a shell until the helper knows its group.
func (f *folder) run(c command) (*process, error) {
	reading, writing, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer drop(writing)
	defer drop(reading)
	c.args = append([]string{"-c", `read -r go && exec "$@" </dev/null`, "outboxd-start", c.path}, c.args...)
	c.path, c.stdin = "/bin/sh", reading
	p, err := start(c)
	if err != nil {
		return nil, err
	}
	if err := f.tell("run", p); err != nil {
		return nil, errors.Join(err, p.kill())
	}
	if _, err := writing.WriteString("go\n"); err != nil {
		return nil, errors.Join(err, p.kill())
	}
	return p, nil
}

// ended tells the helper that nothing of the process is left to kill.
func (f *folder) ended(p *process) error { return f.tell("end", p) }

func (f *folder) tell(verb string, p *process) error {
	if _, err := fmt.Fprintf(f.pipe, "%s %d\n", verb, p.pid); err != nil {
		return fmt.Errorf("tell the helper of %s: %w", f.path, err)
	}
	return nil
}

// file returns the path of a file in the folder.
func (f *folder) file(name string) string { return filepath.Join(f.path, name) }

// write makes a file in the folder that the server may read.
func (f *folder) write(name, content string, owner *account) error {
	if err := os.WriteFile(f.file(name), []byte(content), 0o600); err != nil {
		return err
	}
	if owner == nil {
		return nil
	}
	return os.Chown(f.file(name), owner.uid, owner.gid)
}

// close has the helper kill what runs and remove the folder, and waits until both are done.
func (f *folder) close() error {
	if err := f.pipe.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	if !f.reaper.wait(30 * time.Second) {
		return fmt.Errorf("remove %s: the helper process has not ended", f.path)
	}
	if _, err := os.Lstat(f.path); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove %s: it is still there", f.path)
	}
	return nil
}

// account is a user that a server runs as.
type account struct{ uid, gid int }

func (a *account) credential() *syscall.Credential {
	if a == nil {
		return nil
	}
	return &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
}

// finish runs a command to its end, which must be a good one.
func (f *folder) finish(ctx context.Context, c command) error {
	p, err := f.run(c)
	if err != nil {
		return err
	}
	for !p.wait(10 * time.Millisecond) {
		if ctx.Err() != nil {
			return errors.Join(ctx.Err(), p.kill(), f.ended(p))
		}
	}
	if !p.status.Exited() || p.status.ExitStatus() != 0 {
		err = errors.New(p.outcome())
	}
	return errors.Join(err, f.ended(p))
}

// adopt links a tree of files into the folder, or copies it where the folder lies on another file system.
func (f *folder) adopt(tree, name string) (string, error) {
	to := f.file(name)
	err := filepath.WalkDir(tree, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(tree, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, relative)
		if entry.IsDir() {
			return os.Mkdir(target, 0o755)
		}
		if os.Link(path, target) == nil {
			return nil
		}
		return copyFile(path, target)
	})
	return to, err
}

func copyFile(from, to string) error {
	if destination, err := os.Readlink(from); err == nil {
		return os.Symlink(destination, to)
	}
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, content, info.Mode())
}
