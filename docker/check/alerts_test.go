package check

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
)

const (
	rulesFile   = "docker/prometheus/rules.yaml"
	testsFile   = "docker/prometheus/rules_test.yaml"
	runbookFile = "docs/runbook.md"
	runbookURL  = "https://github.com/outboxd/outboxd/blob/main/docs/runbook.md#"
)

type rule struct {
	Alert       string            `json:"alert"`
	Expr        string            `json:"expr"`
	For         string            `json:"for"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

type ruleFile struct {
	Groups []struct {
		Name  string `json:"name"`
		Rules []rule `json:"rules"`
	} `json:"groups"`
}

func (f ruleFile) all() (rules []rule) {
	for _, g := range f.Groups {
		rules = append(rules, g.Rules...)
	}
	return rules
}

// alerts reads the rules.
func alerts(t *testing.T) []rule {
	t.Helper()
	var f ruleFile
	decode(t, rulesFile, read(t, rulesFile), &f)
	if len(f.all()) == 0 {
		t.Fatalf("%s has no rules", rulesFile)
	}
	return f.all()
}

func TestEveryAlertSaysWhatItIsAndWhatToDo(t *testing.T) {
	runbook := string(read(t, runbookFile))
	seen := map[string]bool{}
	for _, r := range alerts(t) {
		if seen[r.Alert] {
			t.Errorf("%s stands twice", r.Alert)
		}
		seen[r.Alert] = true
		if _, err := parser.NewParser(parser.Options{}).ParseExpr(r.Expr); err != nil {
			t.Errorf("%s: %v", r.Alert, err)
		}
		if !slices.Contains([]string{"warning", "critical"}, r.Labels["severity"]) {
			t.Errorf("%s has severity %q", r.Alert, r.Labels["severity"])
		}
		if r.Annotations["summary"] == "" || !strings.Contains(r.Annotations["description"], "$value") {
			t.Errorf("%s lacks a summary, or a description with the value", r.Alert)
		}
		if want := runbookURL + strings.ToLower(r.Alert); r.Annotations["runbook_url"] != want {
			t.Errorf("%s: runbook_url is %q, want %q", r.Alert, r.Annotations["runbook_url"], want)
		}
		_, entry, found := strings.Cut(runbook, "\n### "+r.Alert+"\n")
		entry, _, _ = strings.Cut(entry, "\n### ")
		if !found || !strings.Contains(entry, "**Escalate**") || !strings.Contains(entry, "**Means**") && !strings.Contains(entry, "As [") {
			t.Errorf("%s lacks its entry in %s, with what it means and when to escalate", r.Alert, runbookFile)
		}
	}
	for _, heading := range regexp.MustCompile(`(?m)^### (.*)$`).FindAllStringSubmatch(runbook, -1) {
		if !seen[heading[1]] {
			t.Errorf("%s has an entry for %s, which is no alert", runbookFile, heading[1])
		}
	}
}

func TestEveryAlertIsTestedForFiringAndNotFiring(t *testing.T) {
	var f struct {
		Files    []string `json:"rule_files"`
		Interval string   `json:"evaluation_interval"`
		Tests    []struct {
			Name     string `json:"name"`
			Interval string `json:"interval"`
			Series   []any  `json:"input_series"`
			Rules    []struct {
				Time     string `json:"eval_time"`
				Alert    string `json:"alertname"`
				Expected []any  `json:"exp_alerts"`
			} `json:"alert_rule_test"`
		} `json:"tests"`
	}
	decode(t, testsFile, read(t, testsFile), &f)
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, test := range f.Tests {
		for _, r := range test.Rules {
			if len(r.Expected) > 0 {
				fires[r.Alert] = true
			} else {
				silent[r.Alert] = true
			}
		}
	}
	for _, r := range alerts(t) {
		if !fires[r.Alert] || !silent[r.Alert] {
			t.Errorf("%s: a test that it fires: %t, one that it does not: %t", r.Alert, fires[r.Alert], silent[r.Alert])
		}
		delete(fires, r.Alert)
	}
	for name := range maps.Keys(fires) {
		t.Errorf("%s is tested, but is no alert", name)
	}
}
