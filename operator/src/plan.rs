//! From a HerdPipeline on a cluster to its plan, or to what must be changed: the rules of every pipeline, and those of Kubernetes.

use herd_spec::pipeline::{HerdPipeline, IngressSpec};
use herd_spec::plan::{KafkaPlan, Plan};
use herd_spec::problem::Problem;

use crate::error::Error;
use crate::stage::Role;

/// A plan that this cluster can run: it has a Kafka, and no store in a file.
#[derive(Clone, Debug)]
pub struct ClusterPlan {
    /// All of it.
    pub plan: Plan,
    /// Its Kafka.
    pub kafka: KafkaPlan,
    /// Doors from outside.
    pub doors: Doors,
}

/// Doors from outside the cluster, where they are asked for.
#[derive(Clone, Debug, Default)]
pub struct Doors {
    /// To collectors.
    pub collector: Option<IngressSpec>,
    /// To the api.
    pub api: Option<IngressSpec>,
}

impl Doors {
    /// The door to a stage.
    #[must_use]
    pub fn to(&self, role: &Role) -> Option<&IngressSpec> {
        match role {
            Role::Collector => self.collector.as_ref(),
            Role::Api => self.api.as_ref(),
            Role::Detector | Role::Sink(_) => None,
        }
    }
}

/// The plan of a pipeline.
///
/// # Errors
/// [`Error::Invalid`] with everything that must be changed.
pub fn of(pipeline: &HerdPipeline) -> Result<ClusterPlan, Error> {
    let plan = Plan::parse(pipeline).map_err(Error::Invalid)?;
    let mut problems: Vec<Problem> = Vec::new();
    for (at, sink) in pipeline.spec.sinks.iter().enumerate() {
        if sink.sqlite.is_some() {
            problems.push(Problem {
                path: format!("spec.sinks[{at}].sqlite"),
                message: "is a file of one process, for `herd up`: on Kubernetes write `postgres: {url: {name: <Secret>, key: url}}`".into(),
            });
        }
    }
    match plan.kafka.clone() {
        Some(kafka) if problems.is_empty() => {
            let (collector, api) =
                (pipeline.spec.collector.ingress.clone(), pipeline.spec.api.ingress.clone());
            Ok(ClusterPlan { plan, kafka, doors: Doors { collector, api } })
        }
        kafka => {
            if kafka.is_none() {
                problems.push(Problem {
                    path: "spec.kafka".into(),
                    message: "missing: on Kubernetes there is no embedded broker, write e.g. `kafka: {bootstrapServers: [kafka:9092]}`".into(),
                });
            }
            Err(Error::Invalid(problems))
        }
    }
}
