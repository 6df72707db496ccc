package testenv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	embedded "github.com/fergusstrange/embedded-postgres"
)

const defaultPostgres = 17 // where none is installed and none is asked for

// pinnedPostgres is what is downloaded of each major version. The sums are SHA-256 of the packed programs, by platform; a platform that is
// not listed has none to download.
var pinnedPostgres = map[int]struct {
	version embedded.PostgresVersion
	sums    map[string]string
}{
	12: {"12.22.0", map[string]string{
		"linux-amd64": "b30efa45ef517f7f177976af275cc2e6f66a89187189dc141ff14574ad4141cb",
	}},
	13: {"13.23.0", map[string]string{
		"linux-amd64": "2b0387c9abb4ab2cdf8e5ebad4f3b0877078203e1de797023c681ecd1ff66938",
	}},
	14: {"14.23.0", map[string]string{
		"linux-amd64":   "521d8dcd067ee0bbb934d671cffadf67cb82a32643470ea4171d83d9c97220a9",
		"linux-arm64v8": "86c00ce1efdd10945ffe2867bdefc79d68fd5acb150ee67b150e92ee4d2696d8",
	}},
	15: {"15.18.0", map[string]string{
		"linux-amd64": "bf6ea2fab84d3d8afa3e584be2ab297aa6b507133122ab0067b6f34db47d6ae5",
	}},
	16: {"16.14.0", map[string]string{
		"linux-amd64":   "77eac54dd8e936ca817420c59c6251e5a07c1ad140941270999c18126c027c02",
		"linux-arm64v8": "5883cd9540dd138ff594463b705d164b23bbfb650468a232aa2730371728f9fe",
	}},
	17: {"17.10.0", map[string]string{
		"linux-amd64":    "98649a7d5402ad699e7d8061a955e376dc02eed5b28d149e20ac596c5f5cba0d",
		"linux-arm64v8":  "1b1e4821c246ed0b98551a98c5539d31f5f74762c8b5bc0a8db7b94b4cb315ca",
		"darwin-amd64":   "7b26fe795864101a3203441bbea663e5478f47fbf6b247c27ae2c1750a597837",
		"darwin-arm64v8": "c4cbb1f7d95c87872065627fc98e92c2bf7102ef6eb81b51d91c19b8268b6e3e",
	}},
	18: {"18.4.0", map[string]string{
		"linux-amd64":   "a5bd167846d36838e24bf43afe0b89e4bee5deab88b300e8bb796bf8f5ac08b2",
		"linux-arm64v8": "e82704ca265154fb573a24f3b0ca78520d4095beb892482431a08d53fe22268d",
	}},
}

// platform names this machine as the downloads do.
func platform() string {
	if runtime.GOARCH == "arm64" {
		return runtime.GOOS + "-arm64v8"
	}
	return runtime.GOOS + "-" + runtime.GOARCH
}

// fetchPostgres returns the programs of a major version, 0 for the default, from the cache or by download.
func fetchPostgres(ctx context.Context, major int, out io.Writer) (postgresBinaries, error) {
	major = cmp.Or(major, defaultPostgres)
	pinned := pinnedPostgres[major]
	sum, known := pinned.sums[platform()]
	if _, err := os.Stat("/etc/alpine-release"); err == nil {
		known = false // the library would download others there
	}
	if !known {
		return postgresBinaries{}, fmt.Errorf("PostgreSQL %d: %w: it is not installed, and there is no download for this system; install postgresql", major, ErrUnavailable)
	}
	home, err := cached(ctx, "postgres-"+string(pinned.version)+"-"+platform(), func(folder string) error {
		return downloadPostgres(folder, pinned.version, sum, out)
	})
	if err != nil {
		return postgresBinaries{}, fmt.Errorf("PostgreSQL %s: %w", pinned.version, err)
	}
	return postgresBinaries{bin: filepath.Join(home, "bin"), major: major}, nil
}

// downloadPostgres has the library download and unpack into the folder, but run nothing: what was downloaded is checked first.
func downloadPostgres(folder string, version embedded.PostgresVersion, sum string, out io.Writer) error {
	work := folder + ".download" // an ended process may have left it
	if err := cmp.Or(os.RemoveAll(work), os.Mkdir(work, 0o755)); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }() // the next download removes what is left
	// The library makes its runtime folder between unpacking and initdb, and cannot below a link that leads nowhere.
	nowhere := filepath.Join(work, "nowhere")
	if err := os.Symlink(filepath.Join(work, "absent", "absent"), nowhere); err != nil {
		return err
	}
	ports, err := freePorts(1) // the library wants one that is free
	if err != nil {
		return err
	}
	logs := downloadLogs()
	p := newProgress(out, "download PostgreSQL "+string(version), 15_000_000)
	failure := embedded.NewDatabase(embedded.DefaultConfig().Version(version).Port(uint32(ports[0])).Logger(io.Discard).
		CachePath(work).BinariesPath(folder).RuntimePath(filepath.Join(nowhere, "runtime"))).Start()
	failure = errors.Join(failure, removeNew(logs))
	archives, err := filepath.Glob(filepath.Join(work, "*.txz"))
	if err != nil {
		return err
	}
	if len(archives) != 1 {
		p.end(failure)
		return fmt.Errorf("%w: download: %w", ErrUnavailable, failure)
	}
	err = verify(archives[0], sum)
	if _, missing := os.Stat(filepath.Join(folder, "bin", "postgres")); err == nil && missing != nil {
		err = errors.Join(missing, failure)
	}
	p.end(err)
	return err
}

// downloadLogs lists the log files of the library, which leaves one behind where it does not start a server.
func downloadLogs() []string {
	found, err := filepath.Glob(filepath.Join(os.TempDir(), "embedded_postgres_log*"))
	if err != nil {
		return nil
	}
	return found
}

// removeNew removes the log files that were not there before and are still empty.
func removeNew(before []string) error {
	var failures []error
	for _, path := range downloadLogs() {
		info, err := os.Stat(path)
		fresh := err == nil && info.Size() == 0 && time.Since(info.ModTime()) < time.Hour
		if fresh && !slices.Contains(before, path) {
			failures = append(failures, os.Remove(path))
		}
	}
	return errors.Join(failures...)
}
