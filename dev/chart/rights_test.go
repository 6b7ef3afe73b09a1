package chart

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
)

// What a stolen token of the operator must not be good for.
func TestTheOperatorsRightsAreNamedOneByOne(t *testing.T) {
	for _, file := range valuesFiles(t) {
		t.Run(called(file), func(t *testing.T) {
			objects := rendered(t, file)
			var rules []rbacv1.PolicyRule
			for _, role := range all[*rbacv1.ClusterRole](objects) {
				rules = append(rules, role.Rules...)
			}
			for _, role := range all[*rbacv1.Role](objects) {
				rules = append(rules, role.Rules...)
			}
			for _, rule := range rules {
				for _, list := range [][]string{rule.APIGroups, rule.Resources, rule.Verbs} {
					if len(list) == 0 || slices.Contains(list, "*") {
						t.Errorf("everything or nothing: %v", rule)
					}
				}
				if slices.Contains(rule.Resources, "secrets") && !slices.Equal(rule.Verbs, []string{"get", "list", "watch"}) {
					t.Errorf("Secrets are only read: %v", rule)
				}
				if slices.Contains(rule.Resources, "pods") && !slices.Equal(rule.Verbs, []string{"list"}) {
					t.Errorf("pods are only looked at: %v", rule)
				}
				for _, resource := range rule.Resources {
					if slices.Contains([]string{"pods/exec", "pods/log", "nodes", "roles", "rolebindings", "clusterroles", "serviceaccounts/token"}, resource) {
						t.Errorf("it has no business with %s", resource)
					}
				}
			}
		})
	}
}

func TestAListOfNamespacesGivesRightsInTheseAlone(t *testing.T) {
	objects := rendered(t, chartPath+"/ci/tenant-values.yaml")
	for _, cluster := range all[*rbacv1.ClusterRole](objects) {
		if cluster.Labels["rbac.authorization.k8s.io/aggregate-to-view"] == "" && cluster.Labels["rbac.authorization.k8s.io/aggregate-to-edit"] == "" {
			t.Errorf("across the cluster it may: %v", cluster.Rules)
		}
	}
	// The same rights as across the cluster, no fewer and no more.
	everywhere := only(t, rendered(t, ""), func(role *rbacv1.ClusterRole) bool { return len(role.Rules) > 2 })
	for _, place := range []string{"shop", "anime"} {
		role := only(t, objects, func(role *rbacv1.Role) bool { return role.Namespace == place })
		if len(role.Rules) != len(everywhere.Rules) {
			t.Errorf("%s: %v", place, role.Rules)
		}
		binding := only(t, objects, func(binding *rbacv1.RoleBinding) bool { return binding.Namespace == place })
		wanted := rbacv1.Subject{Kind: "ServiceAccount", Name: "herd-of-somebody", Namespace: namespace}
		if binding.RoleRef.Name != role.Name || !slices.Equal(binding.Subjects, []rbacv1.Subject{wanted}) {
			t.Errorf("%v", binding)
		}
	}
	for _, role := range all[*rbacv1.Role](objects) {
		if !slices.Contains([]string{"shop", "anime", namespace}, role.Namespace) {
			t.Errorf("a role in %q", role.Namespace)
		}
	}
}

func TestRolesAreBoundToTheAccountThatThePodsHave(t *testing.T) {
	for _, file := range valuesFiles(t) {
		t.Run(called(file), func(t *testing.T) {
			objects := rendered(t, file)
			account := pods(objects)["Deployment"].spec.ServiceAccountName
			for _, made := range all[*corev1.ServiceAccount](objects) {
				if made.Name != account {
					t.Errorf("pods run as %s, made is %s", account, made.Name)
				}
			}
			wanted := []rbacv1.Subject{{Kind: "ServiceAccount", Name: account, Namespace: namespace}}
			for _, binding := range all[*rbacv1.ClusterRoleBinding](objects) {
				if !slices.Equal(binding.Subjects, wanted) {
					t.Errorf("%v", binding.Subjects)
				}
			}
			for _, binding := range all[*rbacv1.RoleBinding](objects) {
				if !slices.Equal(binding.Subjects, wanted) {
					t.Errorf("%v", binding.Subjects)
				}
			}
		})
	}
}
