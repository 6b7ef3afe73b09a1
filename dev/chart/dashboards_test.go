package chart

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"herd.dev/dev/dashboards"
	corev1 "k8s.io/api/core/v1"
)

func TestDashboardsAreWhatTheyAreMadeFrom(t *testing.T) {
	files, err := dashboards.JSON()
	if err != nil {
		t.Fatal(err)
	}
	folder := "charts/herd/files/dashboards"
	if os.Getenv("UPDATE") != "" {
		if err := os.MkdirAll(filepath.Join(root, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range files {
		upToDate(t, folder+"/"+name, string(text))
	}
	found, err := filepath.Glob(filepath.Join(root, folder, "*"))
	if err != nil || len(found) != len(files) {
		t.Errorf("%s has %d files for %d dashboards", folder, len(found), len(files))
	}
}

// A metric that the code no longer has would be an empty panel, or an alert that never fires.
func TestMetricsOfDashboardsAndAlertsAreRegistered(t *testing.T) {
	known := map[string]bool{}
	registered := regexp.MustCompile(`(?:register(?:_with_unit)?\(\s*|\(\s*)"([a-z_]+)"`)
	for _, folder := range []string{"workers", "operator/src"} {
		err := filepath.Walk(filepath.Join(root, folder), func(path string, _ os.FileInfo, err error) error {
			if err != nil || !strings.HasSuffix(path, ".rs") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, found := range registered.FindAllStringSubmatch(string(text), -1) {
				known[found[1]] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	text := read(t, "charts/herd/files/alerts.yaml")
	for _, queries := range dashboards.Queries() {
		for _, query := range queries {
			text += "\n" + query.Expr
		}
	}
	used := map[string]bool{}
	for _, found := range regexp.MustCompile(`(?:^|[^:a-z_])(herd_[a-z_]+)`).FindAllStringSubmatch(text, -1) {
		used[found[1]] = true
	}
	if len(used) < 20 {
		t.Fatalf("only %d metrics are used", len(used))
	}
	for name := range used {
		name := strings.TrimPrefix(name, "herd_")
		for _, ending := range []string{"_total", "_bucket"} {
			name = strings.TrimSuffix(name, ending)
		}
		if !known[name] && !known[strings.TrimPrefix(name, "operator_")] && !known[strings.TrimSuffix(name, "_seconds")] {
			t.Errorf("no metric herd_%s is registered", name)
		}
	}
}

func TestConfigMapsHaveDashboardsForGrafana(t *testing.T) {
	maps := all[*corev1.ConfigMap](rendered(t, "", "--set", "dashboards.enabled=true"))
	if len(maps) != 3 {
		t.Fatalf("%d ConfigMaps for three dashboards", len(maps))
	}
	for _, one := range maps {
		if one.Labels["grafana_dashboard"] != "1" || len(one.Data) != 1 {
			t.Errorf("%s: labels %v, %d files", one.Name, one.Labels, len(one.Data))
		}
		for name, text := range one.Data {
			var board struct {
				UID    string `json:"uid"`
				Panels []any  `json:"panels"`
			}
			if err := json.Unmarshal([]byte(text), &board); err != nil || len(board.Panels) < 5 || board.UID == "" {
				t.Errorf("%s: %v, %d panels, uid %q", name, err, len(board.Panels), board.UID)
			}
		}
	}
}
