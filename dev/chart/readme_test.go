package chart

import (
	"encoding/json"
	"fmt"
	"sort"
	"strings"
	"testing"

	yaml "go.yaml.in/yaml/v3"
)

const readmeHead = "# The chart `herd`\n\n" +
	"<!-- Written by `make reference` from Chart.yaml and the comments in values.yaml: change those. -->\n\n"

const readmeTail = `
[docs/install.md](../../docs/install.md) describes installation, upgrades and removal.
`

type value struct {
	path, standard, meaning string
}

// documented walks values.yaml: every value that is no group must have a comment.
func documented(t *testing.T, path string, node *yaml.Node) []value {
	var values []value
	for i := 0; i < len(node.Content); i += 2 {
		key, content := node.Content[i], node.Content[i+1]
		name := strings.TrimPrefix(path+"."+key.Value, ".")
		comment := strings.TrimSpace(strings.ReplaceAll(strings.ReplaceAll(key.HeadComment, "\n# ", " "), "# ", ""))
		if content.Kind == yaml.MappingNode && len(content.Content) > 0 && comment == "" {
			values = append(values, documented(t, name, content)...)
			continue
		}
		if comment == "" {
			t.Errorf("values.yaml does not say what %s means", name)
		}
		values = append(values, value{name, standard(t, content), comment})
	}
	return values
}

// standard is a default on one line.
func standard(t *testing.T, node *yaml.Node) string {
	var plain any
	if err := node.Decode(&plain); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(plain)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func values(t *testing.T) []value {
	t.Helper()
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(read(t, "charts/herd/values.yaml")), &document); err != nil {
		t.Fatal(err)
	}
	return documented(t, "", document.Content[0])
}

func TestTheReadmeTellsOfEveryValue(t *testing.T) {
	var chart struct{ Description, Version, AppVersion, KubeVersion string }
	var plain map[string]any
	if err := yaml.Unmarshal([]byte(read(t, "charts/herd/Chart.yaml")), &plain); err != nil {
		t.Fatal(err)
	}
	encoded, _ := json.Marshal(plain)
	if err := json.Unmarshal(encoded, &chart); err != nil {
		t.Fatal(err)
	}
	var readme strings.Builder
	readme.WriteString(readmeHead)
	fmt.Fprintf(&readme, "%s\n\nVersion %s, for Herd %s on Kubernetes `%s`.\n\n", chart.Description, chart.Version, chart.AppVersion, chart.KubeVersion)
	readme.WriteString("| value | default | meaning |\n|---|---|---|\n")
	for _, value := range values(t) {
		fmt.Fprintf(&readme, "| `%s` | `%s` | %s |\n", value.path, value.standard, strings.ReplaceAll(value.meaning, "|", "\\|"))
	}
	readme.WriteString(readmeTail)
	upToDate(t, "charts/herd/README.md", readme.String())
}

// A value without a rule could be misspelt; a rule without a value could never be met.
func TestTheSchemaKnowsJustTheValues(t *testing.T) {
	var schema map[string]any
	if err := json.Unmarshal([]byte(read(t, "charts/herd/values.schema.json")), &schema); err != nil {
		t.Fatal(err)
	}
	var known []string
	var walk func(path string, schema map[string]any)
	walk = func(path string, schema map[string]any) {
		properties, group := schema["properties"].(map[string]any)
		if !group || path == ".resources" {
			known = append(known, strings.TrimPrefix(path, "."))
			return
		}
		if schema["additionalProperties"] != false {
			t.Errorf("%s takes anything", path)
		}
		for name, inner := range properties {
			walk(path+"."+name, inner.(map[string]any))
		}
	}
	walk("", schema)
	told := []string{"global"} // Helm's own
	for _, value := range values(t) {
		told = append(told, value.path)
	}
	sort.Strings(known)
	sort.Strings(told)
	if strings.Join(known, "\n") != strings.Join(told, "\n") {
		t.Errorf("the schema has\n%s\nvalues.yaml has\n%s", strings.Join(known, "\n"), strings.Join(told, "\n"))
	}
}
