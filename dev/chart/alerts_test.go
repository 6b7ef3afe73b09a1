package chart

import (
	"os/exec"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
)

func rule(t *testing.T, file string, more ...string) *monitoringv1.PrometheusRule {
	t.Helper()
	return only[*monitoringv1.PrometheusRule](t, rendered(t, file, append(more, "--set", "prometheusRule.enabled=true")...), nil)
}

func alerts(rule *monitoringv1.PrometheusRule) []monitoringv1.Rule {
	var found []monitoringv1.Rule
	for _, group := range rule.Spec.Groups {
		for _, one := range group.Rules {
			if one.Alert != "" {
				found = append(found, one)
			}
		}
	}
	return found
}

func TestAlertsFireInTheirSituationsAndNotBefore(t *testing.T) {
	for _, arguments := range [][]string{
		{"check", "rules", "--lint-fatal", chartPath + "/files/alerts.yaml"},
		{"test", "rules", "alerts_test.yaml"},
	} {
		if out, err := exec.Command("promtool", arguments...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(arguments, " "), err, out)
		}
	}
}

func TestEachAlertHasUnitTestAndRunbook(t *testing.T) {
	tests, runbooks := read(t, "dev/chart/alerts_test.yaml"), read(t, "docs/runbooks.md")
	found := alerts(rule(t, ""))
	if len(found) < 10 {
		t.Fatalf("only %d alerts", len(found))
	}
	for _, one := range found {
		if !strings.Contains(tests, "alertname: "+one.Alert+"\n") {
			t.Errorf("dev/chart/alerts_test.yaml does not test %s", one.Alert)
		}
		if !strings.Contains(runbooks, "\n## "+one.Alert+"\n") {
			t.Errorf("docs/runbooks.md has no section %s", one.Alert)
		}
		if !strings.HasSuffix(one.Annotations["runbook_url"], "/docs/runbooks.md#"+strings.ToLower(one.Alert)) {
			t.Errorf("%s: runbook_url is %q", one.Alert, one.Annotations["runbook_url"])
		}
		if one.Labels["severity"] == "" || one.Annotations["summary"] == "" || one.Annotations["description"] == "" {
			t.Errorf("%s has no severity, summary or description", one.Alert)
		}
	}
	if sections := strings.Count(runbooks, "\n## Herd"); sections != len(found) {
		t.Errorf("docs/runbooks.md has %d sections for %d alerts", sections, len(found))
	}
}

func TestDisabledAlertsAreLeftOut(t *testing.T) {
	for _, one := range alerts(rule(t, "", "--set", "prometheusRule.disabled={HerdEventsLate}")) {
		if one.Alert == "HerdEventsLate" {
			t.Error("HerdEventsLate is still there")
		}
	}
	if _, err := template("", "--set", "prometheusRule.disabled={nothing}"); err == nil {
		t.Error("a name that no alert can have is accepted")
	}
}
