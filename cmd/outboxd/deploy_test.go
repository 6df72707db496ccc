package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/outboxd/outboxd/internal/testenv"
)

// deployment is a machine with outboxd as a process of its own, under docker/deploy.sh.
type deployment struct {
	t                            *testing.T
	folder, config, addr, binary string
	environ                      []string
}

func newDeployment(t *testing.T) *deployment {
	t.Helper()
	d := &deployment{t: t, folder: t.TempDir(), addr: testenv.FreeAddress(t), binary: program(t)}
	url := testenv.Postgres(t).Database(t)
	d.environ = append(os.Environ(), "DATABASE_URL="+url)
	d.config = d.write("outboxd.yaml", fmt.Sprintf("database: {slot: deploy_%d}\nsinks: {stdout: {}}\nhttp: {addr: %q}\n", time.Now().UnixNano(), d.addr))
	t.Cleanup(d.end)
	return d
}

func (d *deployment) write(name, text string) string {
	d.t.Helper()
	path := filepath.Join(d.folder, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		d.t.Fatal(err)
	}
	if err := writeProgram(path, text); err != nil {
		d.t.Fatal(err)
	}
	return path
}

// deploy runs the script and returns what it says.
func (d *deployment) deploy(binary, config string, want int, arguments ...string) string {
	d.t.Helper()
	return d.script(want, append([]string{"--binary", binary, "--config", config, "--process", d.folder}, arguments...)...)
}

// script runs the script with the arguments, and those that say where the instance answers.
func (d *deployment) script(want int, arguments ...string) string {
	d.t.Helper()
	args := append([]string{"--url", "http://" + d.addr, "--timeout", "30"}, arguments...)
	command := exec.Command(filepath.Join("..", "..", "docker", "deploy.sh"), args...)
	command.Env = d.environ
	out, err := command.CombinedOutput()
	if command.ProcessState == nil {
		d.t.Fatal(err)
	}
	if code := command.ProcessState.ExitCode(); code != want {
		log, _ := os.ReadFile(filepath.Join(d.folder, "outboxd.log"))
		d.t.Fatalf("deploy.sh exits %d, want %d:\n%s\n%s", code, want, out, log)
	}
	return string(out)
}

// pid returns the process that runs, or 0.
func (d *deployment) pid() int {
	text, err := os.ReadFile(filepath.Join(d.folder, "outboxd.pid"))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		d.t.Fatal(err)
	}
	return pid
}

// end ends the process and waits for that. It is no child of the test: nobody else tells.
func (d *deployment) end() {
	pid := d.pid()
	if pid == 0 {
		return
	}
	_ = syscall.Kill(pid, syscall.SIGTERM)
	deadline := time.After(patience)
	for syscall.Kill(pid, 0) == nil {
		select {
		case <-deadline:
			d.t.Errorf("process %d does not end", pid)
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func mustSay(t *testing.T, said string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(said, want) {
			t.Errorf("deploy.sh does not say %q:\n%s", want, said)
		}
	}
}

func TestVersionIsPutIntoServiceAndABrokenOneIsRolledBack(t *testing.T) {
	t.Parallel()
	d := newDeployment(t)
	wrong := d.write("wrong.yaml", "sinks: {stdout: {}}\nbatch: {max_messages: 0}\n")
	mustSay(t, d.deploy(d.binary, wrong, 1), "batch.max_messages", "check failed")
	if d.pid() != 0 {
		t.Fatal("a version with wrong settings was started")
	}
	mustSay(t, d.deploy(d.binary, d.config, 0), "made table public.outbox", "verify: dev is active", "deploy: done")
	first := d.pid()

	// A broken version where there is one before; it fails when it runs.
	broken := d.write("broken/outboxd", "#!/bin/sh\n[ \"$1\" != run ] || { echo broken >&2; exit 1; }\nexec "+d.binary+" \"$@\"\n")
	mustSay(t, d.deploy(broken, d.config, 1), "the process has ended", "broken", "rolling back to the version before", "the version before is ready again")
	if pid := d.pid(); pid == 0 || pid == first {
		t.Errorf("process %d runs after %d", pid, first)
	}
	mustSay(t, d.deploy(d.binary, d.config, 0, "validate", "verify"), "verify: dev is active")
}

func TestBrokenFirstVersionLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	d := newDeployment(t)
	broken := d.write("broken/outboxd", "#!/bin/sh\n[ \"$1\" != run ] || exit 1\nexec "+d.binary+" \"$@\"\n")
	mustSay(t, d.deploy(broken, d.config, 1), "verify failed", "there was no version before")
	if _, err := os.Stat(filepath.Join(d.folder, "outboxd")); !os.IsNotExist(err) {
		t.Errorf("the broken version stays: %v", err)
	}
}

// A systemd that starts the unit with its variables alone, in the place of which there is none here.
const fakeSystemctl = `#!/bin/sh
cd "$(dirname "$0")/.."
[ ! -s outboxd.pid ] || { kill "$(cat outboxd.pid)"; rm outboxd.pid; }
[ "$1" = stop ] && exit
env -i ./outboxd run --config outboxd.yaml --env-file secrets/outboxd.env >>outboxd.log 2>&1 </dev/null &
echo $! >outboxd.pid
`

// While the unit is stopped, its variables and its secrets are where they are when it runs.
func TestUnitIsDeployedWithItsVariablesAndSecrets(t *testing.T) {
	t.Parallel()
	d := newDeployment(t)
	last := len(d.environ) - 1
	passfile := d.write("secrets/pgpass", "localhost:*:*:*:secret")
	variables := d.write("secrets/outboxd.env", d.environ[last]+"&passfile="+passfile+"\n")
	d.write("bin/systemctl", fakeSystemctl)
	d.environ = append(d.environ[:last], "PATH="+filepath.Join(d.folder, "bin")+":"+os.Getenv("PATH"))
	install := []string{"--binary", d.binary, "--config", d.config, "--systemd", "outboxd", "--install", filepath.Join(d.folder, "outboxd")}
	mustSay(t, d.script(1, install...), "database.url", "check failed")
	mustSay(t, d.script(0, append(install, "--env-file", variables)...), "verify: dev is active", "deploy: done")

	if err := os.Remove(passfile); err != nil {
		t.Fatal(err)
	}
	mustSay(t, d.script(1, append(install, "--env-file", variables, "check")...), passfile+" cannot be read")
	mustSay(t, d.script(2, append(install, "--env-file", passfile)...), "--env-file '"+passfile+"' cannot be read")
}

// A dynamic user and credentials are there only while a unit runs, and commands work on one that is stopped.
func TestUnitsUserAndSecretsOutliveIt(t *testing.T) {
	unit := document(t, "docker/systemd/outboxd.service")
	for _, file := range []string{"docker/systemd/outboxd.service", "docs/operations.md", "docs/scaling.md", "docs/security.md"} {
		for _, fleeting := range []string{"/run/credentials", "DynamicUser=", "LoadCredential="} {
			if strings.Contains(document(t, file), fleeting) {
				t.Errorf("%s goes by %s", file, fleeting)
			}
		}
	}
	variables, user := setting(t, unit, "EnvironmentFile"), setting(t, unit, "User")
	as := "sudo -u " + user + " outboxd"
	for file, line := range map[string]string{
		"docker/systemd/outboxd.service": as + " doctor --config /etc/outboxd/outboxd.yaml --env-file " + strings.TrimPrefix(variables, "-"),
		"docs/scaling.md":                as + " reshard --count M --config /etc/outboxd/outboxd.yaml",
	} {
		if !strings.Contains(strings.Join(strings.Fields(document(t, file)), " "), line) {
			t.Errorf("%s does not say %s", file, line)
		}
	}
}

// setting returns the value of a setting of the unit.
func setting(t *testing.T, unit, name string) string {
	t.Helper()
	_, rest, found := strings.Cut(unit, "\n"+name+"=")
	if !found {
		t.Fatalf("the unit has no %s", name)
	}
	value, _, _ := strings.Cut(rest, "\n")
	return value
}

func TestDeploymentWantsAnIndexThatBeginsWithTheID(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("psql"); err != nil {
		testenv.Lacks(t, "psql")
	}
	d := newDeployment(t)
	d.deploy(d.binary, d.config, 0, "migrate", "indexes")
	psql := exec.Command("psql", "-X", "-q", "-c", "ALTER TABLE outbox DROP CONSTRAINT outbox_pkey", strings.TrimPrefix(d.environ[len(d.environ)-1], "DATABASE_URL="))
	if out, err := psql.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	mustSay(t, d.deploy(d.binary, d.config, 1, "indexes"), "no index of public.outbox begins with id: CREATE INDEX CONCURRENTLY ON public.outbox (id)", "indexes failed")
}

func TestDeployRefusesWrongUsage(t *testing.T) {
	t.Parallel()
	d := newDeployment(t)
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"destroy"}, "unknown: destroy"},
		{[]string{"--timeout", "soon"}, "--timeout 'soon' is no number of seconds"},
		{[]string{"--timeout"}, "--timeout needs a value"},
		{[]string{"--systemd", "outboxd"}, "exclude each other"},
		{[]string{"--config", "/absent"}, "--config '/absent' cannot be read"},
	} {
		mustSay(t, d.deploy(d.binary, d.config, 2, c.args...), c.says)
	}
}
