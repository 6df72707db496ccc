package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// CanMount tells with an ErrUnavailable why this machine cannot run a server with a disk of its own; nil if it can.
func CanMount() error {
	f, err := newFolder("disk", nil)
	if err != nil {
		return err
	}
	return errors.Join(f.mount(1<<20, nil), f.close())
}

// dataName is the place of a server's data in its folder. The helper unmounts what is mounted there.
const dataName = "data"

// mount gives the folder a file system in memory for its data: its size can be changed while it is used, and no file has to fill it.
func (f *folder) mount(size int64, owner *account) error {
	if owner == nil {
		owner = &account{os.Geteuid(), os.Getegid()}
	}
	if err := os.Mkdir(f.file(dataName), 0o700); err != nil {
		return err
	}
	options := fmt.Sprintf("size=%d,mode=0700,uid=%d,gid=%d", size, owner.uid, owner.gid)
	answer, err := exec.CommandContext(context.Background(), "mount", "-t", "tmpfs", "-o", options, "outboxd", f.file(dataName)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("a disk of its own: %w: mount needs Linux and the right to mount, as root has it: %w: %s", ErrUnavailable, err, answer)
	}
	return nil
}

// mount gives the server a disk of its own; of size 0 it does nothing.
func (s *server) mount(size int64, owner *account) error {
	if size == 0 {
		return nil
	}
	s.disk = size
	return s.folder.mount(size, owner)
}

// FillDisk leaves a server with a disk of its own room for so many bytes more.
func (s *server) FillDisk(room int64) error {
	var err error
	for range 10 { // a size below what is used by then is refused
		var at syscall.Statfs_t
		if err = syscall.Statfs(s.folder.file(dataName), &at); err != nil {
			return err
		}
		used := int64(at.Blocks-at.Bfree) * int64(at.Bsize) //nolint:gosec,unconvert // bounded by the disk; the types differ by system
		if err = s.resize(used + room); err == nil {
			return nil
		}
	}
	return err
}

// EmptyDisk gives a disk that was filled its size back.
func (s *server) EmptyDisk() error { return s.resize(s.disk) }

func (s *server) resize(size int64) error {
	options := fmt.Sprintf("remount,size=%d", size)
	if answer, err := exec.CommandContext(context.Background(), "mount", "-o", options, s.folder.file(dataName)).CombinedOutput(); err != nil {
		return fmt.Errorf("resize the disk of %s to %d bytes: %w: %s", s.name, size, err, answer)
	}
	return nil
}
