//! A pipeline whose objects were applied, and the observation of it that the status is made from.

use std::collections::BTreeMap;

use herd_spec::pipeline::{DeletionPolicy, HerdPipeline, UrlsStatus};
use jiff::Timestamp;

use crate::context::Context;
use crate::error::Error;
use crate::field_conflicts::FieldConflict;
use crate::observe::{self, Deployments, ObservedStage, StageState};
use crate::prepared::Resolved;
use crate::reason::Failure;
use crate::scaling::{self, PipelineReport, Registration, ScalingCondition};
use crate::stage::StageId;
use crate::topics::TopicsState;
use crate::{groups, pod_failures};

/// A pipeline whose objects were applied. Only [`crate::prepared::Prepared::apply`] makes it.
pub struct Applied {
    pub(crate) resolved: Resolved,
    /// As the API server returned them.
    pub(crate) deployments: Deployments,
}

/// The observation of an applied pipeline. Only [`Applied::observe`] makes it, and a status can only be made from it.
pub struct Observed(PipelineObservation);

/// The state of a pipeline.
#[derive(Clone, Debug)]
pub struct PipelineObservation {
    /// Its stages.
    pub stages: Vec<ObservedStage>,
    /// Its topics.
    pub topics: TopicsState,
    /// The condition `ScalingActive`.
    pub scaling: ScalingCondition,
    /// Rates, lag and scaling decisions; none before the first poll.
    pub report: Option<PipelineReport>,
    /// Fields of its objects that other field managers set lately.
    pub field_conflicts: Vec<FieldConflict>,
    /// Whether all consumer groups that are no longer used are deleted.
    pub groups_deleted: bool,
    /// Whether the pipeline is paused.
    pub paused: bool,
    /// The URLs of its Services.
    pub urls: UrlsStatus,
}

impl PipelineObservation {
    /// Whether all stages and topics are ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let stages_are = self.stages.iter().all(|stage| stage.state.is_ready());
        stages_are && matches!(self.topics, TopicsState::Ready { .. })
    }
}

impl Observed {
    /// The state.
    #[must_use]
    pub fn observation(&self) -> &PipelineObservation {
        &self.0
    }

    /// For tests of the status.
    #[cfg(test)]
    pub(crate) fn of(observation: PipelineObservation) -> Self {
        Self(observation)
    }
}

impl Applied {
    /// Observes the stages, deletes consumer groups that are no longer used, and registers the pipeline for scaling.
    ///
    /// # Errors
    /// [`Error::Api`].
    pub async fn observe(self, pipeline: &HerdPipeline, context: &Context) -> Result<Observed, Error> {
        let stages = self.observe_stages(context).await?;
        let groups_deleted = self.delete_unused_groups(pipeline, context).await;
        let uid = &self.resolved.pipeline.identity.uid;
        let plan = &self.resolved.plan.plan;
        context.scaler.register(
            &self.resolved.pipeline.identity,
            Registration {
                kafka: self.resolved.kafka.as_ref().ok(),
                plan,
                stages: &self.resolved.stages,
                observed: &stages,
                partition_counts: self.resolved.partition_counts.clone(),
                before: pipeline.status.as_ref(),
            },
        );
        let report = context.scaler.report(uid);
        Ok(Observed(PipelineObservation {
            scaling: scaling::condition(&self.resolved.stages, plan.paused, report.as_ref()),
            stages,
            report,
            field_conflicts: context.field_conflicts.recent(uid),
            groups_deleted,
            paused: plan.paused,
            urls: UrlsStatus {
                collector: self.resolved.pipeline.url_of(&StageId::Collector),
                api: self.resolved.pipeline.url_of(&StageId::Api),
            },
            topics: self.resolved.topics,
        }))
    }

    async fn observe_stages(&self, context: &Context) -> Result<Vec<ObservedStage>, Error> {
        let observe = |failures: &BTreeMap<String, Failure>| {
            observe::stages(&self.resolved.pipeline, &self.resolved.stages, &self.deployments, failures)
        };
        // From the pods' health reports of the last poll.
        let mut failures = context.scaler.failures(&self.resolved.pipeline.identity.uid);
        let stages = observe(&failures);
        if stages.iter().all(|stage| !matches!(stage.state, StageState::Rolling(_) | StageState::Scaling(_)))
        {
            return Ok(stages);
        }
        // And the pods' status of now: the last poll may be a moment old, or there was none yet.
        let pods = observe::pods(&context.client, &self.resolved.pipeline.identity).await?;
        for (stage, failure) in pod_failures::by_stage(&pods, &BTreeMap::new(), Timestamp::now()) {
            failures.entry(stage).or_insert(failure);
        }
        Ok(observe(&failures))
    }

    /// Deletes the groups of sinks that are no longer in the spec, if the deletion policy is `Delete`. False: some could not be deleted
    /// yet.
    async fn delete_unused_groups(&self, pipeline: &HerdPipeline, context: &Context) -> bool {
        let policy = pipeline.spec.kafka.as_ref().map(|kafka| kafka.deletion_policy).unwrap_or_default();
        let (DeletionPolicy::Delete, Ok(connection)) = (policy, &self.resolved.kafka) else { return true };
        let uid = &self.resolved.pipeline.identity.uid;
        context.groups.add(uid, groups::of_removed_sinks(pipeline, &self.resolved.plan.plan));
        context.groups.keep(uid, &groups::of_plan(&self.resolved.plan.plan));
        context.groups.delete(uid, connection.bus.clone()).await
    }
}
