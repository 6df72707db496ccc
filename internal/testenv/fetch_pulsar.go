package testenv

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	defaultPulsar  = "4.0.8"
	pulsarArtifact = "org.apache.pulsar:pulsar-server-distribution:%s:tar.gz:bin"
	pulsarSize     = 256_000_000 // bytes, about: for the progress alone
	pulsarJava     = 17          // the oldest version of Java that all of them run on

	mavenGet = "org.apache.maven.plugins:maven-dependency-plugin:2.8:get"
)

// pinnedPulsar are the SHA-256 of the archives, by version: the newest of each line that Maven has.
var pinnedPulsar = map[string]string{
	"3.3.6":       "d364d0a85b46b91b210bfe7dc73d42587704b8905bcf0443c84344bccdd1390a",
	defaultPulsar: "35c7d064c9e0928edbf2e708989faba0379662f98aa84ce0d4190c59efb6765e",
}

// fetchPulsar returns the folder of the unpacked distribution.
func fetchPulsar(ctx context.Context, out io.Writer) (string, error) {
	version := cmp.Or(os.Getenv("OUTBOXD_TEST_PULSAR_VERSION"), defaultPulsar)
	sum, known := pinnedPulsar[version]
	if !known {
		versions := slices.Sorted(maps.Keys(pinnedPulsar))
		return "", fmt.Errorf("OUTBOXD_TEST_PULSAR_VERSION is %q: want one of %s", version, strings.Join(versions, ", "))
	}
	return cached(ctx, "pulsar-"+version, func(folder string) error {
		archive, err := pulsarArchive(ctx, version, out)
		if err != nil {
			return err
		}
		if err := verify(archive, sum); err != nil {
			return fmt.Errorf("check Pulsar's archive: %w", err)
		}
		info, err := os.Stat(archive)
		if err != nil {
			return err
		}
		p := newProgress(out, "unpack Pulsar "+version, info.Size())
		err = unpack(archive, folder, p)
		p.end(err)
		return err
	})
}

// pulsarArchive returns the path of the archive in Maven's local repository, downloaded by mvn where it is missing.
func pulsarArchive(ctx context.Context, version string, out io.Writer) (string, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find Maven's repository: %w", err)
	}
	folder := filepath.Join(home, ".m2", "repository", "org", "apache", "pulsar", "pulsar-server-distribution", version)
	archive := filepath.Join(folder, "pulsar-server-distribution-"+version+"-bin.tar.gz")
	if _, err := os.Stat(archive); err == nil {
		return archive, nil
	}
	mvn, err := exec.LookPath("mvn")
	if err != nil {
		return "", fmt.Errorf("Pulsar: %w: Maven (mvn) downloads it and is not in PATH; install maven, or name a broker in OUTBOXD_TEST_PULSAR_URL and OUTBOXD_TEST_PULSAR_ADMIN_URL", ErrUnavailable)
	}
	artifact := fmt.Sprintf(pulsarArtifact, version)
	p := newProgress(out, "download Pulsar "+version, pulsarSize)
	err = watched(folder, p, func() error {
		cmd := exec.CommandContext(ctx, mvn, "--batch-mode", mavenGet, "-Dtransitive=false", "-Dartifact="+artifact,
			"-Dmaven.repo.local="+filepath.Join(home, ".m2", "repository"))
		cmd.Dir = os.TempDir() // no pom.xml may have a say
		if text, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("Pulsar: %w: mvn cannot download %s: %w\n%s", ErrUnavailable, artifact, err, text[max(0, len(text)-2000):])
		}
		return nil
	})
	p.end(err)
	return archive, err
}

// watched runs work, and meanwhile tells the progress the size of the largest file in the folder.
func watched(folder string, p *progress, work func() error) error {
	done := make(chan error, 1)
	go func() { done <- work() }()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
			p.set(largest(folder))
		}
	}
}

func largest(folder string) (size int64) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return 0 // not made yet
	}
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil && info.Mode()&fs.ModeType == 0 {
			size = max(size, info.Size())
		}
	}
	return size
}

var javaVersion = regexp.MustCompile(`version "(\d+)`)

// findJava returns the home of a Java that can run Pulsar: JAVA_HOME, the one in PATH, or one that a package put beside it.
func findJava(ctx context.Context) (string, error) {
	var homes []string
	if home := os.Getenv("JAVA_HOME"); home != "" {
		homes = append(homes, home)
	}
	if path, err := exec.LookPath("java"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			homes = append(homes, filepath.Dir(filepath.Dir(path)))
		}
	}
	packaged, err := filepath.Glob("/usr/lib/jvm/*")
	if err != nil {
		return "", err
	}
	seen := "no java found"
	for _, home := range append(homes, packaged...) {
		text, err := exec.CommandContext(ctx, filepath.Join(home, "bin", "java"), "-version").CombinedOutput()
		match := javaVersion.FindSubmatch(text)
		if err != nil || match == nil {
			continue
		}
		if version, err := strconv.Atoi(string(match[1])); err == nil && version >= pulsarJava {
			return home, nil
		}
		seen = fmt.Sprintf("%s has version %s", home, match[1])
	}
	return "", fmt.Errorf("Pulsar: %w: it needs Java %d or later: %s; install openjdk-17-jre-headless, or name a broker in OUTBOXD_TEST_PULSAR_URL and OUTBOXD_TEST_PULSAR_ADMIN_URL", ErrUnavailable, pulsarJava, seen)
}
