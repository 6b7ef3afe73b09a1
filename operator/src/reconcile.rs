//! Reconciles one pipeline: validate → prepare → apply → observe → write the status. Each step takes what the step before it made, so
//! that a status cannot report on objects that were not applied.

use std::sync::Arc;
use std::time::Duration;

use herd_spec::pipeline::{HerdPipeline, HerdPipelineStatus};
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Api, Resource};
use serde_json::json;
use tracing::{Instrument as _, info, info_span, warn};

use crate::applied::{Observed, PipelineObservation};
use crate::context::Context;
use crate::desired::MANAGER;
use crate::error::{Error, Retry};
use crate::identity::PipelineIdentity;
use crate::prepared::Prepared;
use crate::reason::Reason;
use crate::topics::TopicsState;
use crate::{deletion, events, plan, status};

/// Requeue interval of a pipeline that is Ready: no watch reports a change in Kafka.
const STEADY: Duration = Duration::from_secs(600);
/// Requeue interval of a pipeline whose pods are starting: pods are not watched.
const ROLLING: Duration = Duration::from_secs(10);

/// A reconcile that succeeded.
struct Reconciled {
    /// When to reconcile again.
    action: Action,
    /// What still fails, although all steps were taken.
    failure: Option<Reason>,
}

/// Reconciles a pipeline, and writes its status.
///
/// # Errors
/// [`Error`], which is in the status already, unless the API server could not be reached.
pub async fn reconcile(pipeline: Arc<HerdPipeline>, context: Arc<Context>) -> Result<Action, Error> {
    let running = context.metrics.begin();
    let result = match PipelineIdentity::of(&pipeline) {
        Ok(identity) => {
            let span = info_span!("reconcile", pipeline = %identity);
            reconcile_identified(pipeline, identity, &context).instrument(span).await
        }
        Err(error) => Err(error),
    };
    running.end(match &result {
        Ok(reconciled) => reconciled.failure,
        Err(error) => Some(error.reason()),
    });
    result.map(|reconciled| reconciled.action)
}

async fn reconcile_identified(
    pipeline: Arc<HerdPipeline>,
    identity: PipelineIdentity,
    context: &Context,
) -> Result<Reconciled, Error> {
    let Some((pipeline, identity)) = newest(pipeline, &identity, context).await? else {
        context.remove_pipeline(&identity.uid);
        return Ok(Reconciled { action: Action::await_change(), failure: None });
    };
    match pipeline.meta().deletion_timestamp.as_ref() {
        Some(since) => {
            let age = Timestamp::now().duration_since(since.0).try_into().unwrap_or_default();
            context.forget(&identity.uid);
            let action = deletion::finish(&pipeline, &identity, context, age).await?;
            Ok(Reconciled { action, failure: None })
        }
        None => reconcile_spec(&pipeline, &identity, context).await,
    }
}

/// The newest version of a pipeline; none if it is deleted. The watch may bring one that is older than the operator's last write: then
/// it is read.
async fn newest(
    pipeline: Arc<HerdPipeline>,
    identity: &PipelineIdentity,
    context: &Context,
) -> Result<Option<(Arc<HerdPipeline>, PipelineIdentity)>, Error> {
    if context.is_last_written(&pipeline) {
        return Ok(Some((pipeline, identity.clone())));
    }
    let api: Api<HerdPipeline> = Api::namespaced(context.client.clone(), &identity.namespace);
    let found = api.get_opt(&identity.name).await.map_err(Error::api("reading the pipeline"))?;
    // It may be another one, created under the same name since.
    found.map(|found| PipelineIdentity::of(&found).map(|identity| (Arc::new(found), identity))).transpose()
}

async fn reconcile_spec(
    pipeline: &HerdPipeline,
    identity: &PipelineIdentity,
    context: &Context,
) -> Result<Reconciled, Error> {
    let result = run_steps(pipeline, identity, context).await;
    let status = status_after(pipeline, identity, &result, context);
    context.metrics.pipelines.set(identity, &status);
    let written = write_status(pipeline, identity, &status, context).await;
    let observed = result?;
    written?;
    Ok(schedule_next(identity, observed.observation(), context))
}

async fn run_steps(
    pipeline: &HerdPipeline,
    identity: &PipelineIdentity,
    context: &Context,
) -> Result<Observed, Error> {
    let plan = plan::of(pipeline)?;
    context.topic_ownership.check(identity)?;
    deletion::ensure_finalizer(pipeline, identity, context).await?;
    let prepared = Prepared::of(pipeline, identity, plan, context).await?;
    let applied = prepared.apply(context).await?;
    applied.observe(pipeline, context).await
}

fn status_after(
    pipeline: &HerdPipeline,
    identity: &PipelineIdentity,
    result: &Result<Observed, Error>,
    context: &Context,
) -> HerdPipelineStatus {
    let (before, generation) = (pipeline.status.as_ref(), pipeline.meta().generation);
    let now = format!("{:.0}", Timestamp::now());
    match result {
        Ok(observed) => status::of_observed(before, generation, observed, &now),
        Err(error) => {
            context.scaler.block(&identity.uid);
            status::of_error(before, generation, error, &now)
        }
    }
}

fn schedule_next(
    identity: &PipelineIdentity,
    observation: &PipelineObservation,
    context: &Context,
) -> Reconciled {
    if let TopicsState::NotReady { retry: true, reason, .. } = observation.topics {
        let pause = context.backoff.next(&identity.uid, Duration::ZERO);
        return Reconciled { action: Action::requeue(pause), failure: Some(reason) };
    }
    context.backoff.reset(&identity.uid);
    let interval = if observation.is_ready() && observation.groups_deleted { STEADY } else { ROLLING };
    // Jitter, so that pipelines created together are not reconciled together for ever.
    let interval = interval.mul_f64(1.0 + 0.2 * rand::random::<f64>());
    Reconciled { action: Action::requeue(interval), failure: None }
}

/// Writes the status if it differs from the one before, and publishes Events for the changes.
async fn write_status(
    pipeline: &HerdPipeline,
    identity: &PipelineIdentity,
    after: &HerdPipelineStatus,
    context: &Context,
) -> Result<(), Error> {
    let before = pipeline.status.as_ref();
    if before == Some(after) {
        return Ok(());
    }
    for event in events::between(before, after) {
        info!(reason = event.reason, note = event.note, "publishing an Event");
        context.publish(pipeline, &event).await;
    }
    let api: Api<HerdPipeline> = Api::namespaced(context.client.clone(), &identity.namespace);
    let body = json!({
        "apiVersion": HerdPipeline::api_version(&()),
        "kind": HerdPipeline::kind(&()),
        "metadata": {"name": identity.name},
        "status": after,
    });
    context.metrics.write("HerdPipeline", "status");
    let params = PatchParams::apply(MANAGER).force();
    match api.patch_status(&identity.name, &params, &Patch::Apply(&body)).await {
        Ok(written) => {
            context.record_written(&written);
            Ok(())
        }
        // It was deleted meanwhile, perhaps before the scaler knew it.
        Err(kube::Error::Api(status)) if status.code == 404 => {
            context.forget(&identity.uid);
            Ok(())
        }
        Err(error) => Err(Error::api("writing the status")(error)),
    }
}

/// When to reconcile a pipeline again whose reconcile failed.
pub fn after_failure(pipeline: Arc<HerdPipeline>, error: &Error, context: Arc<Context>) -> Action {
    let identity = PipelineIdentity::of(&pipeline).ok();
    let name = identity.as_ref().map(ToString::to_string);
    match (error.retry(), identity) {
        (Retry::After(least), Some(identity)) => {
            let pause = context.backoff.next(&identity.uid, least);
            warn!(pipeline = name, reason = %error.reason(), ?pause, "reconcile failed, retrying: {error}");
            Action::requeue(pause)
        }
        (Retry::Never | Retry::After(_), _) => {
            warn!(pipeline = name, reason = %error.reason(), "reconcile stalled: {error}");
            Action::requeue(STEADY)
        }
    }
}
