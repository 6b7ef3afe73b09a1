//! A pipeline that is ready to be applied: its spec is validated, its Secrets are read, its topics exist as far as Kafka allows, and its
//! desired objects are built.

use herd_spec::pipeline::HerdPipeline;

use crate::applied::Applied;
use crate::apply::{self, Live};
use crate::context::Context;
use crate::dereference::{self, Secrets};
use crate::desired::{self, Object, PipelineContext, ScaledStage, digest};
use crate::error::Error;
use crate::field_conflicts::{self, FieldConflict};
use crate::identity::PipelineIdentity;
use crate::kind::Kind;
use crate::observe::{self, Deployments};
use crate::plan::ClusterPlan;
use crate::reason::Reason;
use crate::scaling::{self, KafkaHealth, PartitionCounts};
use crate::stage::{Stage, stages};
use crate::topics::{InvalidKafkaSettings, KafkaConnection, KnownTopics, TopicsState};
use crate::{object_cache, reason::Failure};

use herd_spec::health::Trouble;

/// A pipeline that is ready to be applied.
pub struct Prepared {
    resolved: Resolved,
    desired: Desired,
}

/// What is known of a pipeline before and after it is applied.
pub(crate) struct Resolved {
    pub(crate) pipeline: PipelineContext,
    pub(crate) plan: ClusterPlan,
    pub(crate) stages: Vec<Stage>,
    pub(crate) kafka: Result<KafkaConnection, InvalidKafkaSettings>,
    pub(crate) topics: TopicsState,
    pub(crate) partition_counts: PartitionCounts,
}

/// The desired objects, and the current ones that they are compared with.
enum Desired {
    /// They are what was applied last, and the watches report no change since: the API server need not be asked.
    Unchanged(Deployments),
    /// They must be compared with the current ones.
    Compare { objects: Vec<Object>, live: Live },
}

impl Prepared {
    /// Prepares a pipeline: reads its Secrets, ensures its topics, and builds its objects.
    ///
    /// # Errors
    /// [`Error::Secret`] and [`Error::Api`]. A failure of Kafka is no error: it is part of the status, and objects are applied all the
    /// same.
    pub async fn of(
        pipeline: &HerdPipeline,
        identity: &PipelineIdentity,
        plan: ClusterPlan,
        context: &Context,
    ) -> Result<Self, Error> {
        let kinds = context.kinds().await;
        let secrets = dereference::secrets(&context.client, &identity.namespace, &plan.plan).await?;
        let kafka = context.kafka_clients.connect(&plan.kafka, &secrets);
        let topics = ensure_topics(pipeline, identity, &plan, &kafka, context).await;
        let partition_counts = partition_counts(pipeline, &topics);
        let stages = stages(&plan.plan);
        let objects = PipelineContext {
            identity: identity.clone(),
            image: context.image.clone(),
            pull_secrets: context.pull_secrets.clone(),
            ingresses: plan.ingresses.clone(),
            pod_monitors: kinds.contains(&Kind::PodMonitor),
        };
        let build = |deployments: &Deployments| {
            let scaled = ScaleInputs {
                pipeline: &objects,
                plan: &plan,
                partition_counts: &partition_counts,
                secrets: &secrets,
            };
            desired::objects(&objects, &scaled.stages(&stages, deployments, context))
        };
        let desired = Desired::of(identity, &kinds, build, context).await?;
        let resolved = Resolved { pipeline: objects, plan, stages, kafka, topics, partition_counts };
        Ok(Self { resolved, desired })
    }

    /// Writes every object that differs from the desired one.
    ///
    /// # Errors
    /// [`Error::Taken`] and [`Error::Api`].
    pub async fn apply(self, context: &Context) -> Result<Applied, Error> {
        let Self { resolved, desired } = self;
        let identity = &resolved.pipeline.identity;
        let mut deployments = desired.apply(identity, context).await?;
        context.pod_templates.mark(&identity.uid, &mut deployments);
        Ok(Applied { resolved, deployments })
    }
}

impl Desired {
    async fn of(
        identity: &PipelineIdentity,
        kinds: &[Kind],
        build: impl Fn(&Deployments) -> Result<Vec<Object>, serde_json::Error>,
        context: &Context,
    ) -> Result<Self, Error> {
        if let Some((deployments, fingerprint)) = context.object_cache.unchanged(&identity.uid)
            && object_cache::fingerprint(&build(&deployments)?) == fingerprint
        {
            return Ok(Self::Unchanged(deployments));
        }
        let live = apply::live(&context.client, identity, kinds).await?;
        let objects = build(&observe::deployments(&live))?;
        Ok(Self::Compare { objects, live })
    }

    /// The Deployments as the API server returned them.
    async fn apply(self, identity: &PipelineIdentity, context: &Context) -> Result<Deployments, Error> {
        let (objects, mut live) = match self {
            Self::Unchanged(deployments) => return Ok(deployments),
            Self::Compare { objects, live } => (objects, live),
        };
        let fingerprint = object_cache::fingerprint(&objects);
        let changes = apply::changes(&identity.uid, objects, &live)?;
        context.field_conflicts.record(&identity.uid, conflicts(&changes, &live));
        apply::execute(&context.client, identity, changes, &mut live, &context.metrics).await?;
        context.object_cache.record_applied(&identity.uid, fingerprint, &live);
        Ok(observe::deployments(&live))
    }
}

/// The other field managers whose fields are set back now.
fn conflicts(changes: &[apply::Change], live: &Live) -> Vec<FieldConflict> {
    let changed = changes.iter().filter_map(|change| match change {
        apply::Change::Apply(object) => Some((object, live.get(&(object.kind, object.name.clone()))?)),
        apply::Change::Delete { .. } => None,
    });
    changed
        .flat_map(|(object, live)| field_conflicts::of_object(object.kind.name(), live, &object.body))
        .collect()
}

/// What the number of replicas and the pods of a stage depend on, besides its plan.
struct ScaleInputs<'p> {
    pipeline: &'p PipelineContext,
    plan: &'p ClusterPlan,
    partition_counts: &'p PartitionCounts,
    secrets: &'p Secrets,
}

impl ScaleInputs<'_> {
    fn stages(&self, stages: &[Stage], deployments: &Deployments, context: &Context) -> Vec<ScaledStage> {
        let (uid, plan, now) = (&self.pipeline.identity.uid, &self.plan.plan, scaling::now());
        let scale = |stage: &Stage| {
            let current = observe::replicas(self.pipeline, &stage.id, deployments);
            ScaledStage {
                replicas: context.scaler.replicas(uid, plan, stage, (current, self.partition_counts), now),
                secrets: self.secrets.fingerprint(&stage.secrets),
                stage: stage.clone(),
            }
        };
        stages.iter().map(scale).collect()
    }
}

async fn ensure_topics(
    pipeline: &HerdPipeline,
    identity: &PipelineIdentity,
    plan: &ClusterPlan,
    kafka: &Result<KafkaConnection, InvalidKafkaSettings>,
    context: &Context,
) -> TopicsState {
    let connection = match kafka {
        Ok(connection) => connection,
        Err(error) => {
            return TopicsState::NotReady {
                reason: Reason::Trouble(Trouble::KafkaRefused),
                message: error.to_string(),
                retry: false,
            };
        }
    };
    let health = context.scaler.kafka(&identity.uid);
    if let KafkaHealth::Unavailable(Failure { reason, message }) = health {
        // The scaler polled it a moment ago, for all pipelines together, and will poll it again.
        return TopicsState::NotReady { reason, message, retry: true };
    }
    let before = pipeline.status.iter().flat_map(|status| &status.topics);
    let names = |created: bool| {
        before.clone().filter(move |topic| topic.created || !created).map(|topic| topic.name.clone())
    };
    let known = KnownTopics {
        existed: names(false).collect(),
        created: names(true).collect(),
        missing_suspected: matches!(health, KafkaHealth::TopicsMissing(_)),
    };
    let topics = &plan.plan.topics;
    let requested =
        format!("{}-{}", connection.cluster_key, digest(&serde_json::to_vec(topics).unwrap_or_default()));
    context.topics.ensure(&identity.uid, &requested, connection.bus.clone(), topics, known).await
}

/// The number of partitions of each topic; of the last status while Kafka cannot be asked.
fn partition_counts(pipeline: &HerdPipeline, topics: &TopicsState) -> PartitionCounts {
    match topics {
        TopicsState::Ready { topics, .. } => topics,
        TopicsState::NotReady { .. } => pipeline.status.as_ref().map_or(&[][..], |status| &status.topics),
    }
    .iter()
    .map(|topic| (topic.name.clone(), topic.partitions))
    .collect()
}
