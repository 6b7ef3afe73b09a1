//! The kinds of objects that a pipeline is made of.

use kube::core::{ApiResource, GroupVersionKind};

/// A kind of object that the operator manages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The account of a stage's pods.
    ServiceAccount,
    /// The part of the plan that a stage reads.
    ConfigMap,
    /// The address of a stage inside the cluster.
    Service,
    /// The address of a stage from outside the cluster.
    Ingress,
    /// Restricts traffic to a stage's ports.
    NetworkPolicy,
    /// Limits how many pods may be evicted at once.
    PodDisruptionBudget,
    /// The pods of a stage.
    Deployment,
    /// Lets Prometheus scrape a stage, in clusters with the Prometheus operator.
    PodMonitor,
}

impl Kind {
    /// The kinds that every cluster has, in the order in which they are applied.
    pub const BUILT_IN: [Self; 7] = [
        Self::ServiceAccount,
        Self::ConfigMap,
        Self::Service,
        Self::Ingress,
        Self::NetworkPolicy,
        Self::PodDisruptionBudget,
        Self::Deployment,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.names().2
    }

    /// Its API group and version.
    #[must_use]
    pub fn api_version(self) -> String {
        self.resource().api_version
    }

    /// Its API resource.
    #[must_use]
    pub fn resource(self) -> ApiResource {
        let (group, version, kind, plural) = self.names();
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
    }

    fn names(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Self::ServiceAccount => ("", "v1", "ServiceAccount", "serviceaccounts"),
            Self::ConfigMap => ("", "v1", "ConfigMap", "configmaps"),
            Self::Service => ("", "v1", "Service", "services"),
            Self::Ingress => ("networking.k8s.io", "v1", "Ingress", "ingresses"),
            Self::NetworkPolicy => ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
            Self::PodDisruptionBudget => ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
            Self::Deployment => ("apps", "v1", "Deployment", "deployments"),
            Self::PodMonitor => ("monitoring.coreos.com", "v1", "PodMonitor", "podmonitors"),
        }
    }
}
