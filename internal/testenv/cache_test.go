package testenv

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestAFolderOfTheCacheIsMadeOnceAndOnlyWhole(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	failure := errors.New("cut off")
	made := 0
	fill := func(err error) func(string) error {
		return func(folder string) error {
			made++
			return errors.Join(os.WriteFile(filepath.Join(folder, "file"), nil, 0o600), err)
		}
	}
	if _, err := cached(t.Context(), "thing", fill(failure)); !errors.Is(err, failure) {
		t.Fatalf("want the failure, got %v", err)
	}
	for range 2 {
		folder, err := cached(t.Context(), "thing", fill(nil))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(folder, "file")); err != nil {
			t.Fatal(err)
		}
	}
	if made != 2 {
		t.Errorf("made %d times, want 2: the one that failed and the one that did not", made)
	}
}

func TestALockIsWaitedForAndGivenBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := lock(short, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("want to wait in vain, got %v", err)
	}
	unlock()
	if unlock, err = lock(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	unlock()
}

func TestAChangedDownloadIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "archive")
	if err := os.WriteFile(path, []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	const sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	if err := verify(path, sum); err != nil {
		t.Error(err)
	}
	if err := verify(path, strings.Repeat("0", len(sum))); err == nil || !strings.Contains(err.Error(), sum) {
		t.Errorf("want a refusal that names the sum, got %v", err)
	}
}

func TestAnArchiveStaysInItsFolder(t *testing.T) {
	for name, c := range map[string]struct {
		header tar.Header
		want   string // file that is there afterwards, empty for a refusal
	}{
		"a file":             {tar.Header{Name: "top/bin/run", Typeflag: tar.TypeReg, Mode: 0o755}, "bin/run"},
		"a way out":          {tar.Header{Name: "top/../../out", Typeflag: tar.TypeReg, Mode: 0o644}, ""},
		"a device":           {tar.Header{Name: "top/null", Typeflag: tar.TypeChar}, ""},
		"the top folder":     {tar.Header{Name: "top/", Typeflag: tar.TypeDir, Mode: 0o755}, "."},
		"an absolute folder": {tar.Header{Name: "top//etc/passwd", Typeflag: tar.TypeReg}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			archive, folder := packed(t, c.header), t.TempDir()
			err := unpack(archive, folder, newProgress(io.Discard, "unpack", 1))
			if c.want == "" {
				if err == nil {
					t.Error("it was unpacked")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(filepath.Join(folder, c.want)); err != nil {
				t.Error(err)
			}
		})
	}
}

// packed makes an archive of one empty file.
func packed(t *testing.T, header tar.Header) string {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "archive.tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	zip := gzip.NewWriter(file)
	entries := tar.NewWriter(zip)
	if err := errors.Join(entries.WriteHeader(&header), entries.Close(), zip.Close(), file.Close()); err != nil {
		t.Fatal(err)
	}
	return file.Name()
}

func TestAServerGivenByURLIsUsedAndLeftAlone(t *testing.T) {
	own := Postgres(t)
	given, err := givenPostgres(own.URL)
	if err != nil {
		t.Fatal(err)
	}
	if given.Major != own.Major {
		t.Errorf("Major is %d, want %d", given.Major, own.Major)
	}
	t.Run("test", func(t *testing.T) { given.Database(t) })
	if err := given.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := given.kill(); err == nil {
		t.Error("it was killed")
	}
	if err := own.query(t.Context(), "SELECT 1"); err != nil {
		t.Error(err)
	}
}
