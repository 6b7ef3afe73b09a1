package chart

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/labels"
)

func TestLintFindsNothing(t *testing.T) {
	for _, file := range valuesFiles(t) {
		t.Run(called(file), func(t *testing.T) {
			arguments := []string{"lint", "--strict", chartPath}
			if file != "" {
				arguments = append(arguments, "--values", file)
			}
			if _, err := helm(arguments...); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestEveryObjectHasOnlyFieldsThatExist(t *testing.T) {
	for _, file := range valuesFiles(t) {
		t.Run(called(file), func(t *testing.T) {
			if objects := rendered(t, file); len(objects) < 4 {
				t.Errorf("only %d objects", len(objects))
			}
		})
	}
}

// The check above would pass anything if the decoder were lenient.
func TestAFieldThatDoesNotExistIsFound(t *testing.T) {
	document := "apiVersion: v1\nkind: Service\nspec: {sessionAfinity: None}\n"
	if _, _, err := strict.Decode([]byte(document), nil, nil); err == nil || !strings.Contains(err.Error(), "sessionAfinity") {
		t.Errorf("it is not: %v", err)
	}
}

func TestTheCrdIsTheGeneratedOneAndIsKept(t *testing.T) {
	generated := read(t, "crds/herdpipelines.yaml")
	upToDate(t, "charts/herd/files/herdpipelines.yaml", generated)

	installed := only[*apiextensionsv1.CustomResourceDefinition](t, rendered(t, ""), nil)
	if installed.Annotations["helm.sh/resource-policy"] != "keep" {
		t.Error("helm uninstall would take every pipeline with it")
	}
	source := only[*apiextensionsv1.CustomResourceDefinition](t, decoded(t, generated), nil)
	if !reflect.DeepEqual(installed.Spec, source.Spec) {
		t.Error("the chart's CRD says something else than crds/herdpipelines.yaml")
	}
	if found := all[*apiextensionsv1.CustomResourceDefinition](rendered(t, "", "--set", "crds.install=false")); len(found) != 0 {
		t.Error("crds.install=false installs it")
	}
}

func TestTwoOperatorsRunWithALeaseOfTheirName(t *testing.T) {
	deployment := only[*appsv1.Deployment](t, rendered(t, ""), nil)
	if *deployment.Spec.Replicas != 2 {
		t.Errorf("%d replicas", *deployment.Spec.Replicas)
	}
	container := deployment.Spec.Template.Spec.Containers[0]
	wanted := []string{"run", "--lease-name=herd-operator", "--listen=0.0.0.0:8080", "--log=json"}
	if !slices.Equal(container.Args, wanted) {
		t.Errorf("%q", container.Args)
	}
	if got := environment(container)["HERD_WORKER_IMAGE"]; got != "ghcr.io/herd-dev/herd-worker:0.1.0" {
		t.Error(got)
	}
	if got, there := environment(container)["HERD_NAMESPACES"]; got != "" || !there {
		t.Error(got)
	}
	budget := only[*policyv1.PodDisruptionBudget](t, rendered(t, ""), nil)
	if budget.Spec.MaxUnavailable.IntValue() != 1 {
		t.Errorf("%v", budget.Spec)
	}
}

// Helm writes a field of its manifest back to the manifest's value with every upgrade; one that is not there it leaves alone.
func TestANumberOfReplicasThatIsSomebodyElsesIsNotInTheManifest(t *testing.T) {
	deployment := only[*appsv1.Deployment](t, rendered(t, chartPath+"/ci/scaled-elsewhere-values.yaml"), nil)
	if deployment.Spec.Replicas != nil {
		t.Errorf("replicas: %d", *deployment.Spec.Replicas)
	}
	none := only[*appsv1.Deployment](t, rendered(t, "", "--set", "replicas=0"), nil)
	if none.Spec.Replicas == nil || *none.Spec.Replicas != 0 {
		t.Error("replicas=0 is lost")
	}
}

func TestASingleOperatorDoesNotHoldUpADrain(t *testing.T) {
	if found := all[*policyv1.PodDisruptionBudget](rendered(t, "", "--set", "replicas=1")); len(found) != 0 {
		t.Error("its budget can never be kept")
	}
}

func TestSelectorsFindTheOperator(t *testing.T) {
	for _, file := range valuesFiles(t) {
		t.Run(called(file), func(t *testing.T) {
			objects := rendered(t, file)
			deployment := only[*appsv1.Deployment](t, objects, nil)
			pod := labels.Set(deployment.Spec.Template.Labels)
			test := only(t, objects, func(pod *corev1.Pod) bool { return pod.Annotations["helm.sh/hook"] == "test" })
			service := only[*corev1.Service](t, objects, nil)
			selectors := []labels.Set{deployment.Spec.Selector.MatchLabels, service.Spec.Selector}
			for _, budget := range all[*policyv1.PodDisruptionBudget](objects) {
				selectors = append(selectors, budget.Spec.Selector.MatchLabels)
			}
			for _, policy := range all[*networkingv1.NetworkPolicy](objects) {
				selectors = append(selectors, policy.Spec.PodSelector.MatchLabels)
			}
			for _, selector := range selectors {
				if len(selector) == 0 || !labels.SelectorFromSet(selector).Matches(pod) {
					t.Errorf("%v does not select %v", selector, pod)
				}
				if labels.SelectorFromSet(selector).Matches(labels.Set(test.Labels)) {
					t.Errorf("%v selects the pod of helm test", selector)
				}
			}
			for _, monitor := range all[*monitoringv1.ServiceMonitor](objects) {
				if !labels.SelectorFromSet(monitor.Spec.Selector.MatchLabels).Matches(labels.Set(service.Labels)) {
					t.Errorf("the ServiceMonitor does not find the Service")
				}
				if monitor.Spec.Endpoints[0].Port != service.Spec.Ports[0].Name {
					t.Errorf("nor its port")
				}
			}
			asked := "http://" + service.Name + "." + namespace + ":8080"
			if !slices.Contains(test.Spec.Containers[0].Command, asked) {
				t.Errorf("helm test asks %q, not %s", test.Spec.Containers[0].Command, asked)
			}
		})
	}
}

// A fence that leaves `helm test` out would let it fail in a healthy cluster.
func TestAFencedOperatorStillAnswersHelmTest(t *testing.T) {
	objects := rendered(t, chartPath+"/ci/production-values.yaml")
	policy := only[*networkingv1.NetworkPolicy](t, objects, nil)
	test := only[*corev1.Pod](t, objects, nil)
	if !slices.ContainsFunc(policy.Spec.Ingress[0].From, func(peer networkingv1.NetworkPolicyPeer) bool {
		return peer.PodSelector != nil && labels.SelectorFromSet(peer.PodSelector.MatchLabels).Matches(labels.Set(test.Labels))
	}) {
		t.Errorf("%v", policy.Spec.Ingress)
	}
	if !slices.Equal(policy.Spec.PolicyTypes, []networkingv1.PolicyType{"Ingress", "Egress"}) {
		t.Errorf("%v", policy.Spec.PolicyTypes)
	}
}

func TestADigestWinsOverATag(t *testing.T) {
	container := only[*appsv1.Deployment](t, rendered(t, chartPath+"/ci/tenant-values.yaml"), nil).Spec.Template.Spec.Containers[0]
	if container.Image != "registry.example:5000/tools/herd-operator:1.2.3-rc.1" {
		t.Error(container.Image)
	}
	if got := environment(container)["HERD_WORKER_IMAGE"]; !strings.HasPrefix(got, "registry.example:5000/tools/herd-worker@sha256:") {
		t.Error(got)
	}
	if got := environment(container)["HERD_NAMESPACES"]; got != "shop,anime" {
		t.Error(got)
	}
}

func TestAMistakeInTheValuesIsRefusedByName(t *testing.T) {
	for setting, word := range map[string]string{
		"replica=3":                       "replica",
		"replicas=two":                    "replicas",
		"watch.namespaces=shop":           "namespaces",
		"watch.namespaces={Shop}":         "namespaces",
		"image.digest=sha256:1":           "digest",
		"image.pullPolicy=Sometimes":      "pullPolicy",
		"log.format=xml":                  "format",
		"networkPolicy.enabled=perhaps":   "enabled",
		"serviceMonitor.interval=often":   "interval",
		"serviceAccount.create=false":     "serviceAccount.name is needed",
		"worker.image.pullPolicy=Always":  "pullPolicy",
		"podLabels.one=1,env[0].value=x":  "name",
		"resources.requests.cpu.more=all": "cpu",
		"resources.limits.memory=lots":    "memory",
		"resources.limits.memory=1GB":     "memory",
		"resources.requests.cpu=-1":       "cpu",
		"resources.requests.cpus=1":       "cpus",
		"nameOverride=Bad_Name":           "nameOverride",
		"nameOverride=1st":                "nameOverride",
		"nameOverride=ends-":              "nameOverride",
		"fullnameOverride=Bad_Name":       "fullnameOverride",
		"priorityClassName=Very High":     "priorityClassName",
		"podLabels.team=a b":              "podLabels",
		"commonLabels.-x=a":               "commonLabels",
		"env[0].name=A B":                 "env",
	} {
		t.Run(setting, func(t *testing.T) {
			_, err := template("", "--set", setting)
			if err == nil {
				t.Fatal("it is accepted")
			}
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%q is not in: %v", word, err)
			}
		})
	}
}

func TestWhatKubernetesTakesIsNotRefused(t *testing.T) {
	for _, setting := range []string{
		"resources.limits.memory=1.5Gi",
		"resources.limits.memory=1e9",
		"resources.limits.memory=268435456",
		"resources.requests.cpu=0.5",
		"resources.requests.example\\.com/gpu=1",
		"nameOverride=shop-2",
		"fullnameOverride=herd",
		"priorityClassName=system-cluster-critical",
		"podLabels.example\\.com/team=Crowd_1.2",
		"nodeSelector.kubernetes\\.io/os=linux",
	} {
		t.Run(setting, func(t *testing.T) {
			if _, err := template("", "--set", setting); err != nil {
				t.Error(err)
			}
		})
	}
}

func environment(container corev1.Container) map[string]string {
	values := map[string]string{}
	for _, variable := range container.Env {
		values[variable.Name] = variable.Value
	}
	return values
}
