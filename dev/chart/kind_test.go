package chart

import (
	"strings"
	"testing"

	yaml "go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"
)

func kindCluster(text string) (v1alpha4.Cluster, error) {
	var cluster v1alpha4.Cluster
	decoder := yaml.NewDecoder(strings.NewReader(text))
	decoder.KnownFields(true)
	err := decoder.Decode(&cluster)
	return cluster, err
}

func TestKindReadsItsConfiguration(t *testing.T) {
	text := read(t, "kind-config.yaml")
	cluster, err := kindCluster(text)
	if err != nil {
		t.Fatal(err)
	}
	if cluster.APIVersion != "kind.x-k8s.io/v1alpha4" || cluster.Kind != "Cluster" {
		t.Errorf("%v", cluster.TypeMeta)
	}
	if _, err := kindCluster(strings.Replace(text, "hostPort", "hostport", 1)); err == nil {
		t.Error("a field that does not exist is not found")
	}
}

func TestTheMappedPortsLeadToTheCollectorAndTheDashboard(t *testing.T) {
	cluster, err := kindCluster(read(t, "kind-config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	mapped := map[int32]v1alpha4.PortMapping{}
	for _, node := range cluster.Nodes {
		for _, port := range node.ExtraPortMappings {
			mapped[port.ContainerPort] = port
		}
	}
	ports := map[string]int32{}
	for _, service := range all[*corev1.Service](decoded(t, read(t, "dev/kind/nodeports.yaml"))) {
		if service.Spec.Type != corev1.ServiceTypeNodePort {
			t.Errorf("%s is no NodePort", service.Name)
		}
		port := mapped[service.Spec.Ports[0].NodePort]
		if port.ListenAddress != "127.0.0.1" {
			t.Errorf("%s can be reached from outside this machine", service.Name)
		}
		ports[service.Spec.Selector["app.kubernetes.io/component"]] = port.HostPort
	}
	if len(ports) != 2 || ports["collector"] != 8080 || ports["api"] != 8081 {
		t.Errorf("%v", ports)
	}
}
