// Package chart checks what Kubernetes is given: the chart under every values file of charts/herd/ci, the examples, and the
// configuration for kind. Objects are decoded strictly into the types that Kubernetes and its neighbours publish, so that a
// field that does not exist is found without a cluster.
package chart

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
)

const (
	root      = "../.."
	chartPath = root + "/charts/herd"
	release   = "herd"
	namespace = "herd-system"
)

var strict = func() runtime.Decoder {
	scheme := runtime.NewScheme()
	utilruntime.Must(clientscheme.AddToScheme(scheme))
	utilruntime.Must(apiextensionsv1.AddToScheme(scheme))
	utilruntime.Must(monitoringv1.AddToScheme(scheme))
	return serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
}()

// valuesFiles are those of charts/herd/ci, and "" for the chart's own values.
func valuesFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(chartPath + "/ci/*-values.yaml")
	if err != nil || len(files) < 4 {
		t.Fatalf("the values files are not where they were: %v %v", files, err)
	}
	return append(files, "")
}

func called(file string) string {
	if file == "" {
		return "defaults"
	}
	return strings.TrimSuffix(filepath.Base(file), "-values.yaml")
}

func helm(arguments ...string) (string, error) {
	name := os.Getenv("HELM")
	if name == "" {
		name = "helm"
	}
	command := exec.Command(name, arguments...)
	var out, problems bytes.Buffer
	command.Stdout, command.Stderr = &out, &problems
	if err := command.Run(); err != nil {
		return out.String(), fmt.Errorf("helm %s: %w\n%s%s", strings.Join(arguments, " "), err, out.String(), problems.String())
	}
	return out.String(), nil
}

func template(file string, more ...string) (string, error) {
	arguments := []string{"template", release, chartPath, "--namespace", namespace, "--kube-version", "1.34.0"}
	if file != "" {
		arguments = append(arguments, "--values", file)
	}
	return helm(append(arguments, more...)...)
}

// rendered are the chart's objects, each of its published type.
func rendered(t *testing.T, file string, more ...string) []runtime.Object {
	t.Helper()
	text, err := template(file, more...)
	if err != nil {
		t.Fatal(err)
	}
	return decoded(t, text)
}

// decoded takes documents apart; a pipeline is left to the tests of its own crate.
func decoded(t *testing.T, text string) []runtime.Object {
	t.Helper()
	var objects []runtime.Object
	for _, document := range strings.Split("\n"+text, "\n---") {
		if !strings.Contains(document, "\nkind:") || strings.Contains(document, "\nkind: HerdPipeline\n") {
			continue
		}
		object, kind, err := strict.Decode([]byte(document), nil, nil)
		if err != nil {
			t.Errorf("%v: %v\n%s", kind, err, document)
			continue
		}
		objects = append(objects, object)
	}
	return objects
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// only is the one object of its type that passes.
func only[T runtime.Object](t *testing.T, objects []runtime.Object, passes func(T) bool) T {
	t.Helper()
	var found []T
	for _, object := range objects {
		if typed, ok := object.(T); ok && (passes == nil || passes(typed)) {
			found = append(found, typed)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d objects of type %T, one was expected", len(found), *new(T))
	}
	return found[0]
}

func all[T runtime.Object](objects []runtime.Object) []T {
	var found []T
	for _, object := range objects {
		if typed, ok := object.(T); ok {
			found = append(found, typed)
		}
	}
	return found
}

// upToDate compares a generated file with what it should be, or writes it if UPDATE is set.
func upToDate(t *testing.T, path, wanted string) {
	t.Helper()
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(filepath.Join(root, path), []byte(wanted), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if read(t, path) != wanted {
		t.Errorf("%s is not what it is made from any more: run `make reference`", path)
	}
}
