package testenv

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// cached returns the folder of a name in the user's cache. Where it is missing, make fills an empty folder, which then takes the name:
// a folder of that name is complete. Only one process at a time makes one.
func cached(ctx context.Context, name string, make func(folder string) error) (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w", err)
	}
	base = filepath.Join(base, "outboxd")
	folder := filepath.Join(base, name)
	if isFolder(folder) {
		return folder, nil
	}
	if err := os.MkdirAll(base, 0o755); err != nil {
		return "", fmt.Errorf("make the cache folder: %w", err)
	}
	unlock, err := lock(ctx, folder+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if isFolder(folder) {
		return folder, nil
	}
	return folder, fill(folder, make)
}

// fill makes the folder under a name of its own first, which replaces what an ended process left.
func fill(folder string, make func(string) error) error {
	partial := folder + ".partial"
	if err := os.RemoveAll(partial); err != nil {
		return err
	}
	err := os.Mkdir(partial, 0o755)
	if err == nil {
		err = make(partial)
	}
	if err == nil {
		err = os.Rename(partial, folder)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(partial))
	}
	return nil
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// lock takes a file's lock, and waits for it. It ends with this process, because no child inherits the descriptor.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil // nothing was written
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), file.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("lock %s, which another process holds: %w", path, ctx.Err()), file.Close())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// verify compares a file with the SHA-256 that it must have, in hexadecimal.
func verify(path, want string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer drop(file)
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != want {
		return fmt.Errorf("%s has SHA-256 %s, want %s: remove the file, and find out who changed it", path, got, want)
	}
	return nil
}
