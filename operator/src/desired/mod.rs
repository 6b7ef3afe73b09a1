//! The objects of a pipeline as they should be, built from its plan. Pure: one file a kind, no clock, no network.

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

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::identity::PipelineIdentity;
use crate::kind::Kind;
use crate::plan::Ingresses;
use crate::stage::{Stage, StageId};

pub use deployment::OPS_PORT;
pub use labels::{MANAGED_BY, MANAGER, PIPELINE, of_pipeline, stage_of};

/// The annotation with the fingerprint of the object as it was applied.
pub const FINGERPRINT: &str = "herd.dev/fingerprint";

/// What all objects of a pipeline have in common.
#[derive(Clone, Debug)]
pub struct PipelineContext {
    /// Which pipeline: the owner of the objects.
    pub identity: PipelineIdentity,
    /// The image of the workers.
    pub image: String,
    /// Names of the Secrets for pulling it.
    pub pull_secrets: Vec<String>,
    /// The Ingresses that the spec requests.
    pub ingresses: Ingresses,
    /// Whether the cluster has PodMonitors.
    pub pod_monitors: bool,
}

/// A stage with its number of replicas and the fingerprint of its Secrets, neither of which the plan contains.
#[derive(Clone, Debug)]
pub struct ScaledStage {
    /// The stage.
    pub stage: Stage,
    /// How many replicas it should have.
    pub replicas: u32,
    /// Fingerprint of the values of its Secrets: a new value replaces its pods.
    pub secrets: String,
}

/// An object as it should be, in the form in which it is applied.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Object {
    /// Its kind.
    #[serde(skip)]
    pub kind: Kind,
    /// Its name.
    #[serde(skip)]
    pub name: String,
    /// The whole object.
    #[serde(flatten)]
    pub body: Value,
}

impl Object {
    /// The fingerprint of everything that it was built from.
    #[must_use]
    pub fn fingerprint(&self) -> Option<&str> {
        self.body["metadata"]["annotations"][FINGERPRINT].as_str()
    }
}

/// All objects of a pipeline.
///
/// # Errors
/// If an object cannot be serialised as JSON, which the types rule out.
pub fn objects(pipeline: &PipelineContext, stages: &[ScaledStage]) -> Result<Vec<Object>, serde_json::Error> {
    let mut all = Vec::new();
    for scaled in stages {
        let id = &scaled.stage.id;
        let config_map = config_map::build(pipeline, &scaled.stage)?;
        let plan = digest(&serde_json::to_vec(&config_map.data)?);
        all.push(pipeline.object(Kind::ServiceAccount, id, &service_account::build(pipeline, id))?);
        all.push(pipeline.object(Kind::ConfigMap, id, &config_map)?);
        if id.serves() {
            all.push(pipeline.object(Kind::Service, id, &service::build(pipeline, id))?);
        }
        if let Some(spec) = pipeline.ingresses.of(id) {
            all.push(pipeline.object(Kind::Ingress, id, &ingress::build(pipeline, id, spec))?);
        }
        all.push(pipeline.object(Kind::NetworkPolicy, id, &network_policy::build(pipeline, id))?);
        all.push(pipeline.object(Kind::PodDisruptionBudget, id, &disruption_budget::build(pipeline, id))?);
        all.push(pipeline.object(Kind::Deployment, id, &deployment::build(pipeline, scaled, &plan))?);
        if pipeline.pod_monitors {
            all.push(pipeline.object(Kind::PodMonitor, id, &pod_monitor::build(pipeline, id))?);
        }
    }
    Ok(all)
}

/// A fingerprint of these bytes: the first 16 hexadecimal digits of their SHA-256.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes)[..8])
}

impl PipelineContext {
    /// The name of a stage's objects.
    #[must_use]
    pub fn name_of(&self, stage: &StageId) -> String {
        format!("{}-{stage}", self.identity.name)
    }

    /// The URL of a stage's Service inside the cluster.
    #[must_use]
    pub fn url_of(&self, stage: &StageId) -> String {
        format!("http://{}.{}.svc", self.name_of(stage), self.identity.namespace)
    }

    fn metadata(&self, stage: &StageId) -> ObjectMeta {
        ObjectMeta {
            name: Some(self.name_of(stage)),
            namespace: Some(self.identity.namespace.clone()),
            labels: Some(labels::all(&self.identity.name, stage)),
            owner_references: Some(vec![self.identity.owner_reference.clone()]),
            ..ObjectMeta::default()
        }
    }

    fn object(
        &self,
        kind: Kind,
        stage: &StageId,
        typed: &impl Serialize,
    ) -> Result<Object, serde_json::Error> {
        let mut body = serde_json::to_value(typed)?;
        body["apiVersion"] = kind.api_version().into();
        body["kind"] = kind.name().into();
        let fingerprint = digest(&serde_json::to_vec(&body)?);
        body["metadata"]["annotations"][FINGERPRINT] = fingerprint.into();
        Ok(Object { kind, name: self.name_of(stage), body })
    }

    fn selector(&self, stage: &StageId) -> BTreeMap<String, String> {
        labels::selector(&self.identity.name, stage)
    }
}
