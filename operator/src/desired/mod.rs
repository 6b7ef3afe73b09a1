//! From a plan to the objects that are to be there. Pure: one file a kind, no clock, no network.

mod config_map;
mod deployment;
mod disruption_budget;
mod ingress;
mod labels;
mod network_policy;
mod pod_monitor;
mod service;
mod service_account;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::kind::Kind;
use crate::plan::Doors;
use crate::stage::{Role, Stage};

pub use deployment::OPS_PORT;
pub use labels::{MANAGED_BY, MANAGER, PIPELINE, of_pipeline, role_of};

/// The annotation that says what an object was made from.
pub const FINGERPRINT: &str = "herd.dev/fingerprint";

/// What all objects of a pipeline have in common.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The pipeline's name.
    pub pipeline: String,
    /// Its namespace.
    pub namespace: String,
    /// The pipeline as owner of the objects.
    pub owner: OwnerReference,
    /// The image of the workers.
    pub image: String,
    /// Names of the Secrets for pulling it.
    pub pull_secrets: Vec<String>,
    /// Doors from outside.
    pub doors: Doors,
    /// Whether the cluster knows PodMonitors.
    pub pod_monitors: bool,
}

/// A stage with what the plan does not say.
#[derive(Clone, Debug)]
pub struct Sized {
    /// The stage.
    pub stage: Stage,
    /// How many replicas it is to have.
    pub replicas: u32,
    /// Stands for the values of its Secrets: another value, other pods.
    pub secrets: String,
}

/// An object as it is to be, in the form in which it is applied.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Object {
    /// Which kind.
    #[serde(skip)]
    pub kind: Kind,
    /// Its name.
    #[serde(skip)]
    pub name: String,
    /// All of it.
    #[serde(flatten)]
    pub body: Value,
}

impl Object {
    /// What stands for all that it was made from.
    #[must_use]
    pub fn fingerprint(&self) -> Option<&str> {
        self.body["metadata"]["annotations"][FINGERPRINT].as_str()
    }
}

/// Everything that is to be there.
///
/// # Errors
/// If an object cannot be written as JSON, which the types rule out.
pub fn objects(around: &Surroundings, stages: &[Sized]) -> Result<Vec<Object>, serde_json::Error> {
    let mut all = Vec::new();
    for sized in stages {
        let role = &sized.stage.role;
        let config_map = config_map::build(around, &sized.stage)?;
        let plan = digest(&serde_json::to_vec(&config_map.data)?);
        all.push(around.object(Kind::ServiceAccount, role, &service_account::build(around, role))?);
        all.push(around.object(Kind::ConfigMap, role, &config_map)?);
        if role.serves() {
            all.push(around.object(Kind::Service, role, &service::build(around, role))?);
        }
        if let Some(door) = around.doors.to(role) {
            all.push(around.object(Kind::Ingress, role, &ingress::build(around, role, door))?);
        }
        all.push(around.object(Kind::NetworkPolicy, role, &network_policy::build(around, role))?);
        all.push(around.object(Kind::PodDisruptionBudget, role, &disruption_budget::build(around, role))?);
        all.push(around.object(Kind::Deployment, role, &deployment::build(around, sized, &plan))?);
        if around.pod_monitors {
            all.push(around.object(Kind::PodMonitor, role, &pod_monitor::build(around, role))?);
        }
    }
    Ok(all)
}

/// What stands for these bytes: 16 hexadecimal digits.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes)[..8])
}

impl Surroundings {
    /// The name of a stage's objects.
    #[must_use]
    pub fn name_of(&self, role: &Role) -> String {
        format!("{}-{role}", self.pipeline)
    }

    /// Where a stage with a Service is reached inside the cluster.
    #[must_use]
    pub fn url_of(&self, role: &Role) -> String {
        format!("http://{}.{}.svc", self.name_of(role), self.namespace)
    }

    fn metadata(&self, role: &Role) -> ObjectMeta {
        ObjectMeta {
            name: Some(self.name_of(role)),
            namespace: Some(self.namespace.clone()),
            labels: Some(labels::all(&self.pipeline, role)),
            owner_references: Some(vec![self.owner.clone()]),
            ..ObjectMeta::default()
        }
    }

    fn object(&self, kind: Kind, role: &Role, typed: &impl Serialize) -> Result<Object, serde_json::Error> {
        let mut body = serde_json::to_value(typed)?;
        body["apiVersion"] = kind.api_version().into();
        body["kind"] = kind.name().into();
        let fingerprint = digest(&serde_json::to_vec(&body)?);
        body["metadata"]["annotations"][FINGERPRINT] = fingerprint.into();
        Ok(Object { kind, name: self.name_of(role), body })
    }

    fn selector(&self, role: &Role) -> BTreeMap<String, String> {
        labels::selector(&self.pipeline, role)
    }
}
