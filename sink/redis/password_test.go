package redis

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPasswordComesFromItsFile(t *testing.T) {
	folder := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cfg := Config{URL: "redis://app@h:1/0", PasswordFile: file("password", "hunter2\n")}.WithDefaults()
	c, err := open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.single.Close(); err != nil {
			t.Error(err)
		}
	}()
	if got := c.single.Options().Password; got != "hunter2" {
		t.Errorf("the password is %q", got)
	}
	for path, want := range map[string]string{filepath.Join(folder, "absent"): "no such file", file("empty", "\n"): "is empty"} {
		cfg.PasswordFile = path
		if _, err := open(cfg); err == nil || !strings.Contains(err.Error(), "read password_file: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}
