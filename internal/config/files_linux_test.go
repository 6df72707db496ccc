package config

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/outboxd/outboxd/internal/testenv"
)

// asNobody runs f as a user who may read only what everybody may. The thread that changed its user ends with the goroutine, because it stays locked.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		var err error
		if os.Getuid() == 0 {
			err = syscall.Setfsuid(65534)
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// readable copies a file to where everybody may read it.
func readable(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	folder, err := os.MkdirTemp("", "outboxd-config-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	to := filepath.Join(folder, filepath.Base(file))
	for _, err := range []error{os.Chmod(folder, 0o755), os.WriteFile(to, text, 0o644)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// Each setting that names a file says so when the file is not there, is a folder, or may not be read.
func TestEverySettingOfAFileRefusesWhatCannotBeRead(t *testing.T) {
	pems, locked := testenv.NewCertificates(t), filepath.Join(t.TempDir(), "locked")
	if err := os.WriteFile(locked, []byte("hunter2"), 0o000); err != nil {
		t.Fatal(err)
	}
	all := leaves(schema, "")
	for _, kind := range sinkKinds {
		all = append(all, leaves(sinkSchemas[kind], join("sinks", kind))...)
	}
	checked := 0
	for _, s := range all {
		if !strings.HasSuffix(s.path, "_file") {
			continue
		}
		checked++
		variable := "OUTBOXD_" + strings.ToUpper(strings.ReplaceAll(s.path, ".", "_"))
		environ := []string{"DATABASE_URL=postgres://db/shop", "REDIS_URL=rediss://cache", "PULSAR_SERVICE_URL=pulsar+ssl://broker:6651"}
		switch other, of := strings.CutSuffix(variable, "CERT_FILE"); {
		case of:
			environ = append(environ, other+"KEY_FILE="+pems.ClientKey)
		case strings.HasSuffix(variable, "TLS_KEY_FILE"):
			environ = append(environ, strings.TrimSuffix(variable, "KEY_FILE")+"CERT_FILE="+pems.ClientCert)
		}
		for file, want := range map[string]string{
			"/nowhere/file": "/nowhere/file cannot be read: no such file or directory: name a file that is there",
			"/":             "/ cannot be read: is a directory: name a file that is there",
			locked:          locked + " may not be read by the user that outboxd runs as: change its owner or its mode",
		} {
			asNobody(t, func() {
				_, _, err := Load(Options{Environ: append(environ, variable+"="+file), Files: true})
				checkRefused(t, err, s.path, variable, want)
			})
		}
	}
	if checked < 9 {
		t.Errorf("%d settings name files", checked)
	}
	for _, parameter := range []string{"sslrootcert", "sslcert", "sslkey"} {
		url := "postgres://db/shop?sslmode=verify-full&" + parameter + "=" + locked
		switch parameter {
		case "sslcert":
			url += "&sslkey=" + pems.ClientKey
		case "sslkey":
			url += "&sslcert=" + readable(t, pems.ClientCert)
		}
		asNobody(t, func() {
			_, _, err := Load(Options{Environ: []string{"DATABASE_URL=" + url, "REDIS_URL=redis://cache"}, Files: true})
			checkRefused(t, err, "database.url", "DATABASE_URL", parameter+": "+locked+" may not be read")
		})
	}
}
