package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
)

const oldestPostgres, newestPostgres = 12, 18

// postgresBinaries is a folder with initdb and postgres.
type postgresBinaries struct {
	bin   string
	major int
}

// installedPostgres are the places where packages put the programs of several versions, usually outside PATH.
var installedPostgres = []string{
	"/usr/lib/postgresql/*/bin",         // Debian
	"/usr/pgsql-*/bin",                  // Red Hat
	"/usr/local/pgsql/bin",              // from source
	"/opt/homebrew/opt/postgresql*/bin", // macOS
	"/usr/local/opt/postgresql*/bin",    // macOS on Intel
	"/Applications/Postgres.app/Contents/Versions/*/bin",
}

// findPostgres returns the programs of the asked version, or of the newest installed one where none is asked.
func findPostgres(ctx context.Context, o PostgresOptions) (postgresBinaries, error) {
	wanted, err := wantedPostgres(o.Version)
	if err != nil {
		return postgresBinaries{}, err
	}
	var best postgresBinaries
	for _, bin := range postgresFolders() {
		major, err := postgresMajor(ctx, bin)
		fits := major == wanted || wanted == 0 && major >= oldestPostgres && major <= newestPostgres
		if err == nil && fits && major > best.major { // a folder whose programs do not run is passed over
			best = postgresBinaries{bin: bin, major: major}
		}
	}
	if best.bin != "" {
		return best, nil
	}
	return fetchPostgres(ctx, wanted, o.Progress)
}

func wantedPostgres(version int) (int, error) {
	if given := os.Getenv("OUTBOXD_TEST_POSTGRES_VERSION"); version == 0 && given != "" {
		var err error
		if version, err = strconv.Atoi(given); err != nil {
			return 0, fmt.Errorf("OUTBOXD_TEST_POSTGRES_VERSION: want a number from %d to %d: %w", oldestPostgres, newestPostgres, err)
		}
	}
	if version != 0 && (version < oldestPostgres || version > newestPostgres) {
		return 0, fmt.Errorf("PostgreSQL %d: want a version from %d to %d", version, oldestPostgres, newestPostgres)
	}
	return version, nil
}

func postgresFolders() []string {
	var folders []string
	if path, err := exec.LookPath("postgres"); err == nil {
		folders = append(folders, filepath.Dir(path))
	}
	for _, pattern := range installedPostgres {
		found, err := filepath.Glob(pattern)
		if err != nil {
			panic(fmt.Sprintf("testenv: pattern %s: %v", pattern, err))
		}
		folders = append(folders, found...)
	}
	return folders
}

var postgresVersion = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// postgresMajor asks the programs of a folder for their version.
func postgresMajor(ctx context.Context, bin string) (int, error) {
	if _, err := os.Stat(filepath.Join(bin, "initdb")); err != nil {
		return 0, err
	}
	out, err := exec.CommandContext(ctx, filepath.Join(bin, "postgres"), "--version").Output()
	if err != nil {
		return 0, fmt.Errorf("ask %s for its version: %w", bin, err)
	}
	match := postgresVersion.FindSubmatch(out)
	if match == nil {
		return 0, fmt.Errorf("ask %s for its version: unknown answer %q", bin, out)
	}
	return strconv.Atoi(string(match[1]))
}

// postgresAccount returns the user that PostgreSQL runs as, which is never root: nil for this process's own.
func postgresAccount() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, badUID := strconv.Atoi(u.Uid)
		gid, badGID := strconv.Atoi(u.Gid)
		return &account{uid: uid, gid: gid}, errors.Join(badUID, badGID)
	}
	return nil, fmt.Errorf("PostgreSQL: %w: it does not run as root, and there is neither a user postgres nor nobody", ErrUnavailable)
}
