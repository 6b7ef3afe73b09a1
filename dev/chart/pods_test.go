package chart

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

type pod struct {
	meta metav1.ObjectMeta
	spec corev1.PodSpec
}

// pods are those that objects will start, by kind and, for all but the operator, name.
func pods(objects []runtime.Object) map[string]pod {
	found := map[string]pod{}
	for _, object := range objects {
		switch object := object.(type) {
		case *appsv1.Deployment:
			found["Deployment"] = pod{object.Spec.Template.ObjectMeta, object.Spec.Template.Spec}
		case *appsv1.StatefulSet:
			found["StatefulSet "+object.Name] = pod{object.Spec.Template.ObjectMeta, object.Spec.Template.Spec}
		case *batchv1.Job:
			found["Job "+object.Name] = pod{object.Spec.Template.ObjectMeta, object.Spec.Template.Spec}
		case *corev1.Pod:
			found["Pod "+object.Name] = pod{object.ObjectMeta, object.Spec}
		}
	}
	return found
}

// examples are all but the pipelines.
func examples(t *testing.T) []runtime.Object {
	t.Helper()
	files, err := filepath.Glob(root + "/examples/kubernetes/*.yaml")
	if err != nil || len(files) < 4 {
		t.Fatalf("the demo is not where it was: %v %v", files, err)
	}
	var objects []runtime.Object
	for _, file := range append(files, root+"/examples/load.yaml", root+"/dev/kind/nodeports.yaml") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		objects = append(objects, decoded(t, string(text))...)
	}
	return objects
}

// Kubernetes' own rules, as its admission controller applies them.
func TestEveryPodKeepsTheRestrictedStandard(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks())
	if err != nil {
		t.Fatal(err)
	}
	judge := func(t *testing.T, objects []runtime.Object, least int) {
		found := pods(objects)
		if len(found) < least {
			t.Errorf("only %d pods", len(found))
		}
		for name, pod := range found {
			version := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
			verdict := policy.AggregateCheckResults(evaluator.EvaluatePod(version, &pod.meta, &pod.spec))
			if !verdict.Allowed {
				t.Errorf("%s: %s", name, verdict.ForbiddenDetail())
			}
		}
	}
	for _, file := range valuesFiles(t) {
		t.Run(called(file), func(t *testing.T) { judge(t, rendered(t, file), 2) })
	}
	t.Run("examples", func(t *testing.T) { judge(t, examples(t), 3) })
}

func TestOurContainersWriteToNoRootFileSystem(t *testing.T) {
	objects := examples(t)
	for _, file := range valuesFiles(t) {
		objects = append(objects, rendered(t, file)...)
	}
	seen := 0
	for name, pod := range pods(objects) {
		for _, container := range append(pod.spec.InitContainers, pod.spec.Containers...) {
			if !strings.Contains(container.Image, "/herd-") {
				continue
			}
			seen++
			if security := container.SecurityContext; security.ReadOnlyRootFilesystem == nil || !*security.ReadOnlyRootFilesystem {
				t.Errorf("%s: %s does", name, container.Name)
			}
			if _, limited := container.Resources.Limits[corev1.ResourceMemory]; !limited {
				t.Errorf("%s: %s may eat all memory", name, container.Name)
			}
		}
	}
	if seen < 3 {
		t.Errorf("only %d containers seen", seen)
	}
}

// The Job is applied by hand, so its image has to be the one that the chart's operator starts.
func TestTheLoadRunsTheImageThatTheChartInstalls(t *testing.T) {
	deployment := only[*appsv1.Deployment](t, rendered(t, ""), nil)
	wanted := environment(deployment.Spec.Template.Spec.Containers[0])["HERD_WORKER_IMAGE"]
	job := only[*batchv1.Job](t, examples(t), nil).Spec.Template.Spec
	for _, container := range append(job.InitContainers, job.Containers...) {
		if container.Image != wanted {
			t.Errorf("%s runs %s, the chart %s", container.Name, container.Image, wanted)
		}
	}
}
