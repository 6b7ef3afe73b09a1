//! The plan of a HerdPipeline on Kubernetes, or the problems of its spec: the rules of every pipeline, and those of Kubernetes.

use herd_spec::pipeline::{HerdPipeline, IngressSpec};
use herd_spec::plan::{KafkaPlan, Plan};
use herd_spec::problem::Problem;

use crate::error::Error;
use crate::stage::StageId;

/// A plan that can run on Kubernetes: it has a Kafka cluster, and no store in a file.
#[derive(Clone, Debug)]
pub struct ClusterPlan {
    /// The plan.
    pub plan: Plan,
    /// Its Kafka cluster.
    pub kafka: KafkaPlan,
    /// The Ingresses that the spec requests.
    pub ingresses: Ingresses,
}

/// The Ingresses that the spec requests.
#[derive(Clone, Debug, Default)]
pub struct Ingresses {
    /// To the collector.
    pub collector: Option<IngressSpec>,
    /// To the api.
    pub api: Option<IngressSpec>,
}

impl Ingresses {
    /// The Ingress of a stage.
    #[must_use]
    pub fn of(&self, id: &StageId) -> Option<&IngressSpec> {
        match id {
            StageId::Collector => self.collector.as_ref(),
            StageId::Api => self.api.as_ref(),
            StageId::Detector | StageId::Sink(_) => None,
        }
    }
}

/// The plan of a pipeline.
///
/// # Errors
/// [`Error::Invalid`] with all problems.
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
            Ok(ClusterPlan { plan, kafka, ingresses: Ingresses { collector, api } })
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
