package check

import (
	"reflect"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// kinds are the types of Kubernetes and of the Prometheus operator that the manifests may use.
var kinds = map[string]func() any{
	"v1/Namespace": func() any { return &core.Namespace{} }, "v1/ServiceAccount": func() any { return &core.ServiceAccount{} },
	"v1/ConfigMap": func() any { return &core.ConfigMap{} }, "v1/Secret": func() any { return &core.Secret{} }, "v1/Service": func() any { return &core.Service{} },
	"apps/v1/Deployment":                      func() any { return &apps.Deployment{} },
	"policy/v1/PodDisruptionBudget":           func() any { return &policy.PodDisruptionBudget{} },
	"networking.k8s.io/v1/NetworkPolicy":      func() any { return &networking.NetworkPolicy{} },
	"monitoring.coreos.com/v1/ServiceMonitor": func() any { return &monitoring.ServiceMonitor{} },
	"monitoring.coreos.com/v1/PrometheusRule": func() any { return &monitoring.PrometheusRule{} },
}

// manifests decodes every document strictly; a key that Kubernetes does not know fails the test.
func manifests(t *testing.T, path string) []any {
	t.Helper()
	var all []any
	for _, document := range documents(t, path) {
		var kind meta.TypeMeta
		if err := yaml.Unmarshal(document, &kind); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		object := kinds[kind.APIVersion+"/"+kind.Kind]
		if object == nil {
			t.Fatalf("%s: unknown kind %s/%s", path, kind.APIVersion, kind.Kind)
		}
		o := object()
		decode(t, path, document, o)
		all = append(all, o)
	}
	return all
}

// manifest returns the object of a type.
func manifest[T any](t *testing.T, path string) *T {
	t.Helper()
	for _, o := range manifests(t, path) {
		if found, ok := o.(*T); ok {
			return found
		}
	}
	t.Fatalf("%s has no %T", path, *new(T))
	return nil
}

func TestTwoHardenedInstancesRunInKubernetes(t *testing.T) {
	const path = "docker/kubernetes/outboxd.yaml"
	d := manifest[apps.Deployment](t, path)
	pod := d.Spec.Template.Spec
	if *d.Spec.Replicas != 2 || len(pod.TopologySpreadConstraints) == 0 || !*pod.SecurityContext.RunAsNonRoot || *pod.AutomountServiceAccountToken {
		t.Errorf("replicas %d, spread %v, not as root %v", *d.Spec.Replicas, pod.TopologySpreadConstraints, *pod.SecurityContext.RunAsNonRoot)
	}
	for _, c := range append(pod.InitContainers, pod.Containers...) {
		s := c.SecurityContext
		if *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || !reflect.DeepEqual(s.Capabilities.Drop, []core.Capability{"ALL"}) {
			t.Errorf("%s is not hardened: %+v", c.Name, s)
		}
		if c.Resources.Limits.Memory().Value() != 2<<30 || c.Resources.Requests.Cpu().MilliValue() != 500 {
			t.Errorf("%s: %+v", c.Name, c.Resources)
		}
	}
	c := pod.Containers[0]
	if c.LivenessProbe.HTTPGet.Path != "/healthz" || c.ReadinessProbe.HTTPGet.Path != "/readyz" {
		t.Errorf("probes ask %s and %s", c.LivenessProbe.HTTPGet.Path, c.ReadinessProbe.HTTPGet.Path)
	}
	labels := d.Spec.Template.Labels
	for name, selected := range map[string]map[string]string{
		"the deployment":                  d.Spec.Selector.MatchLabels,
		"the disruption budget":           manifest[policy.PodDisruptionBudget](t, path).Spec.Selector.MatchLabels,
		"the service":                     manifest[core.Service](t, path).Spec.Selector,
		"the network policy":              manifest[networking.NetworkPolicy](t, path).Spec.PodSelector.MatchLabels,
		"the service monitor (a service)": manifest[monitoring.ServiceMonitor](t, "docker/kubernetes/monitoring.yaml").Spec.Selector.MatchLabels,
	} {
		if !reflect.DeepEqual(selected, labels) {
			t.Errorf("%s selects %v, the pods have %v", name, selected, labels)
		}
	}
	secret := manifest[core.Secret](t, "docker/kubernetes/secret.example.yaml")
	if len(secret.StringData) == 0 || secret.Name != "outboxd" {
		t.Errorf("secret %q has %d values", secret.Name, len(secret.StringData))
	}
}

func TestOperatorHasTheSameAlerts(t *testing.T) {
	var ours, theirs any
	decode(t, rulesFile, read(t, rulesFile), &ours)
	manifests(t, "docker/kubernetes/monitoring.yaml")
	for _, document := range documents(t, "docker/kubernetes/monitoring.yaml") {
		var object map[string]any
		decode(t, "monitoring.yaml", document, &object)
		if object["kind"] == "PrometheusRule" {
			theirs = object["spec"]
		}
	}
	if !reflect.DeepEqual(ours, theirs) {
		t.Error("docker/kubernetes/monitoring.yaml has other alerts than docker/prometheus/rules.yaml: copy its groups below spec")
	}
}
