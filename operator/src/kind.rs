//! The kinds of objects that a pipeline is made of.

use kube::core::{ApiResource, GroupVersionKind};

/// A kind of object that the operator keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Who the pods are.
    ServiceAccount,
    /// The plan.
    ConfigMap,
    /// Where a stage is reached.
    Service,
    /// Its door from outside the cluster.
    Ingress,
    /// Who may reach it.
    NetworkPolicy,
    /// How many may be taken away at once.
    PodDisruptionBudget,
    /// The pods.
    Deployment,
    /// Where Prometheus looks, if it is there.
    PodMonitor,
}

impl Kind {
    /// What every cluster knows, in the order in which they are applied.
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
        self.words().2
    }

    /// Group and version.
    #[must_use]
    pub fn api_version(self) -> String {
        self.resource().api_version
    }

    /// How the API is asked for it.
    #[must_use]
    pub fn resource(self) -> ApiResource {
        let (group, version, kind, plural) = self.words();
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
    }

    fn words(self) -> (&'static str, &'static str, &'static str, &'static str) {
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
