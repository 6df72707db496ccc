package check

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// compose loads a file as docker compose does: schema, interpolation, extension fields.
func compose(t *testing.T, file string) *types.Project {
	t.Helper()
	o, err := cli.NewProjectOptions([]string{filepath.Join("..", file)}, cli.WithName("outboxd"), cli.WithProfiles([]string{"*"}))
	if err != nil {
		t.Fatal(err)
	}
	p, err := o.LoadProject(t.Context())
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return p
}

// service returns one that must be there.
func service(t *testing.T, p *types.Project, name string) types.ServiceConfig {
	t.Helper()
	s, err := p.GetService(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// checkHardened reports a service of ours that may do more than it needs.
func checkHardened(t *testing.T, s types.ServiceConfig) {
	t.Helper()
	if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") || s.Privileged {
		t.Errorf("%s is not hardened: read only %t, capabilities dropped %v, security %v", s.Name, s.ReadOnly, s.CapDrop, s.SecurityOpt)
	}
}

func TestProductionHasTwoLimitedInstancesAndNoSecretInItsEnvironment(t *testing.T) {
	p := compose(t, "compose.production.yaml")
	s := service(t, p, "outboxd")
	checkHardened(t, s)
	limits, reserved := s.Deploy.Resources.Limits, s.Deploy.Resources.Reservations
	if *s.Deploy.Replicas != 2 || limits.MemoryBytes != 2<<30 || limits.NanoCPUs != 1 || reserved.MemoryBytes != 1<<30 || reserved.NanoCPUs != 0.5 {
		t.Errorf("replicas %d, limits %+v, reservations %+v", *s.Deploy.Replicas, limits, reserved)
	}
	for name, value := range s.Environment {
		if value != nil && (strings.Contains(*value, "://") || strings.Contains(strings.ToLower(name), "password")) {
			t.Errorf("%s is in the environment, where docker inspect shows it", name)
		}
	}
	if len(s.Secrets) == 0 || len(s.Ports) > 0 {
		t.Errorf("secrets %v, ports published %v", s.Secrets, s.Ports)
	}
	settings := string(read(t, "docker/compose/production.outboxd.yaml"))
	for _, secret := range s.Secrets {
		if path := "/run/secrets/" + secret.Target; !strings.Contains(settings, path) {
			t.Errorf("the settings do not use %s", path)
		}
	}
	if n := p.Networks["backend"]; !bool(n.External) {
		t.Errorf("the network is not the operator's: %+v", n)
	}
}

func TestDevelopmentHasEverything(t *testing.T) {
	p := compose(t, "compose.dev.yaml")
	for _, name := range []string{"postgres", "redis", "pulsar", "prometheus", "grafana", "producer", "outboxd", "standby"} {
		service(t, p, name)
	}
	for _, name := range []string{"outboxd", "standby", "migrate"} {
		checkHardened(t, service(t, p, name))
	}
	if !slices.Contains(service(t, p, "postgres").Command, "wal_level=logical") || !slices.Contains(service(t, p, "redis").Command, "--appendonly") {
		t.Error("PostgreSQL lacks wal_level=logical, or Redis the append-only file")
	}
	for _, s := range p.Services {
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s is open to the network: %+v", s.Name, port)
			}
		}
		for _, v := range s.Volumes {
			if v.Type == types.VolumeTypeBind && filepath.IsAbs(v.Source) {
				read(t, relative(t, v.Source))
			}
		}
	}
}

// relative is the path of a mounted file within the repository; of a folder, one file in it.
func relative(t *testing.T, path string) string {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	if files, err := filepath.Glob(filepath.Join(path, "*", "*")); err == nil && len(files) > 0 {
		path = files[0]
	}
	r, err := filepath.Rel(root, path)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
