//! One pipeline, put right: plan → dereference → topics → desired → apply → observe → status.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use herd_bus::kafka::KafkaBus;
use herd_spec::pipeline::{DeletionPolicy, HerdPipeline, HerdPipelineStatus, UrlsStatus};
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Api, Resource, ResourceExt};
use serde_json::json;
use tracing::{info, warn};

use crate::apply;
use crate::contest::{self, Contest};
use crate::context::Context;
use crate::dereference::{self, Secrets};
use crate::desired::{self, MANAGER, Object, Sized, Surroundings, digest};
use crate::error::{Error, Hope};
use crate::kind::Kind;
use crate::observe::{self, Deployments, State};
use crate::plan::{self, ClusterPlan};
use crate::reason::{Reason, Trouble};
use crate::scaling::{self, KafkaSeen, Registration, Sizes};
use crate::stage::{Role, Stage, stages};
use crate::status::{self, Seen};
use crate::topics::Unusable;
use crate::{complaint, deletion, events, groups, objects, topics};

/// How long a pipeline that is as it is to be is left alone: nothing tells us of a change in Kafka.
const STEADY: Duration = Duration::from_secs(600);
/// How soon a pipeline is looked at again whose pods are on their way: nothing tells us of a pod's complaint.
const UNDER_WAY: Duration = Duration::from_secs(10);

/// Puts a pipeline right, and says in its status how it is.
///
/// # Errors
/// [`Error`], which is in the status already.
#[tracing::instrument(skip_all, fields(pipeline = %key(&pipeline)))]
pub async fn reconcile(pipeline: Arc<HerdPipeline>, context: Arc<Context>) -> Result<Action, Error> {
    let running = context.metrics.begin();
    let uid = pipeline.uid().unwrap_or_default();
    let pipeline = match newest(pipeline, &context).await {
        Ok(Some(pipeline)) => pipeline,
        Ok(None) => {
            context.gone(&uid);
            return Ok(Action::await_change());
        }
        Err(error) => {
            running.end(Some(Reason::ApiServerUnavailable));
            return Err(Error::api("reading the pipeline")(error));
        }
    };
    let (outcome, trouble) = match pipeline.meta().deletion_timestamp.as_ref() {
        Some(since) => {
            let age = Timestamp::now().duration_since(since.0);
            context.forget(&uid);
            (deletion::finish(&pipeline, &context, age.try_into().unwrap_or_default()).await, None)
        }
        None => match put_right(&pipeline, &context).await {
            Ok((action, trouble)) => (Ok(action), trouble),
            Err(error) => (Err(error), None),
        },
    };
    running.end(outcome.as_ref().err().map(Error::reason).or(trouble));
    outcome
}

/// What a watch has brought may be older than what we wrote last: then it is read. None if it is gone.
async fn newest(
    pipeline: Arc<HerdPipeline>,
    context: &Context,
) -> Result<Option<Arc<HerdPipeline>>, kube::Error> {
    if context.is_as_written(&pipeline) {
        return Ok(Some(pipeline));
    }
    let api: Api<HerdPipeline> =
        Api::namespaced(context.client.clone(), &pipeline.namespace().unwrap_or_default());
    Ok(api.get_opt(&pipeline.name_any()).await?.map(Arc::new))
}

/// When to look again, and what is not well although the reconcile came through.
async fn put_right(pipeline: &HerdPipeline, context: &Context) -> Result<(Action, Option<Reason>), Error> {
    let uid = pipeline.uid().unwrap_or_default();
    let outcome = steps(pipeline, context, &uid).await;
    let (before, generation) = (pipeline.status.as_ref(), pipeline.meta().generation);
    let now = format!("{:.0}", Timestamp::now());
    let after = match &outcome {
        Ok(seen) => status::of_seen(before, generation, seen, &now),
        Err(error) => {
            context.scaler.block(&uid);
            status::of_error(before, generation, error, &now)
        }
    };
    let written = write(pipeline, &after, context).await;
    let seen = outcome?;
    written?;
    if let topics::Seen::NotReady { retry: true, reason, .. } = seen.topics {
        return Ok((Action::requeue(context.failures.another(&uid, Duration::ZERO)), Some(reason)));
    }
    context.failures.forget(&uid);
    let rest = if seen.is_ready() && seen.groups_done { STEADY } else { UNDER_WAY };
    Ok((Action::requeue(rest.mul_f64(1.0 + 0.2 * rand::random::<f64>())), None))
}

async fn steps(pipeline: &HerdPipeline, context: &Context, uid: &str) -> Result<Seen, Error> {
    let plan = plan::of(pipeline)?;
    context.claims.check(pipeline)?;
    deletion::prepare(pipeline, context).await?;
    let kinds = context.kinds().await;
    let around = surroundings(pipeline, &plan, context, kinds.contains(&Kind::PodMonitor));
    let secrets = dereference::secrets(&context.client, &around.namespace, &plan.plan).await?;
    let kafka = context.clusters.connect(&plan.kafka, &secrets);
    let topics = settle_topics(pipeline, context, uid, &plan, &kafka).await;
    let (stages, sizes) = (stages(&plan.plan), sizes(pipeline, &topics));
    let desired = |deployments: &Deployments| {
        let sized = size(&around, context, (uid, &plan, &sizes), &stages, &secrets, deployments);
        desired::objects(&around, &sized)
    };
    let mut deployments = settle_objects(&around, context, uid, &kinds, desired).await?;
    context.templates.mark(uid, &mut deployments);
    let seen = observe(&around, context, uid, &stages, &deployments).await?;
    let groups_done = delete_groups(pipeline, context, uid, &plan, &kafka).await;
    context.scaler.register(
        uid,
        Registration {
            namespace: &around.namespace,
            name: &around.pipeline,
            kafka: kafka.ok().map(|(bus, way)| (way, bus)),
            plan: &plan.plan,
            stages: &stages,
            seen: &seen,
            sizes,
            before: pipeline.status.as_ref(),
        },
    );
    let report = context.scaler.report(uid);
    Ok(Seen {
        stages: seen,
        topics,
        scaling: scaling::word(&stages, plan.plan.paused, report.as_ref()),
        report,
        contests: context.contests.of(uid),
        groups_done,
        paused: plan.plan.paused,
        urls: UrlsStatus { collector: around.url_of(&Role::Collector), api: around.url_of(&Role::Api) },
    })
}

fn surroundings(
    pipeline: &HerdPipeline,
    plan: &ClusterPlan,
    context: &Context,
    pod_monitors: bool,
) -> Surroundings {
    Surroundings {
        pipeline: pipeline.name_any(),
        namespace: pipeline.namespace().unwrap_or_default(),
        owner: pipeline.controller_owner_ref(&()).unwrap_or_default(),
        image: context.image.clone(),
        pull_secrets: context.pull_secrets.clone(),
        doors: plan.doors.clone(),
        pod_monitors,
    }
}

async fn settle_topics(
    pipeline: &HerdPipeline,
    context: &Context,
    uid: &str,
    plan: &ClusterPlan,
    kafka: &Result<(KafkaBus, String), Unusable>,
) -> topics::Seen {
    let (bus, way) = match kafka {
        Ok((bus, way)) => (bus.clone(), way),
        Err(error) => {
            return topics::Seen::NotReady {
                reason: Reason::KafkaRefused,
                message: error.to_string(),
                retry: false,
            };
        }
    };
    let kafka = context.scaler.kafka(uid);
    if let KafkaSeen::Away(Trouble { reason, message }) = kafka {
        // It was asked a moment ago, for all pipelines together, and will be again.
        return topics::Seen::NotReady { reason, message, retry: true };
    }
    let had = pipeline.status.iter().flat_map(|status| &status.topics);
    let names = |created: bool| {
        had.clone().filter(move |topic| topic.created || !created).map(|topic| topic.name.clone())
    };
    let known = topics::Known {
        had: names(false).collect(),
        created: names(true).collect(),
        doubted: matches!(kafka, KafkaSeen::Without(_)),
    };
    let topics = &plan.plan.topics;
    let asked = format!("{way}-{}", digest(&serde_json::to_vec(topics).unwrap_or_default()));
    context.topics.settle(uid, &asked, bus, topics, known).await
}

/// Deletes the groups of sinks that are no longer asked for, where the pipeline is to leave nothing behind. False: some are left for
/// another time.
async fn delete_groups(
    pipeline: &HerdPipeline,
    context: &Context,
    uid: &str,
    plan: &ClusterPlan,
    kafka: &Result<(KafkaBus, String), Unusable>,
) -> bool {
    let policy = pipeline.spec.kafka.as_ref().map(|kafka| kafka.deletion_policy).unwrap_or_default();
    let (DeletionPolicy::Delete, Ok((bus, _))) = (policy, kafka) else { return true };
    context.groups.add(uid, groups::of_removed_sinks(pipeline, &plan.plan));
    context.groups.spare(uid, &groups::of_plan(&plan.plan));
    context.groups.delete(uid, bus.clone()).await
}

/// Reads the objects, and writes what is not as desired; neither, if all is as it was left. The Deployments as they are then.
async fn settle_objects(
    around: &Surroundings,
    context: &Context,
    uid: &str,
    kinds: &[Kind],
    desired: impl Fn(&Deployments) -> Result<Vec<Object>, serde_json::Error>,
) -> Result<Deployments, Error> {
    if let Some((deployments, made_from)) = context.objects.as_left(uid)
        && objects::made_from(&desired(&deployments)?) == made_from
    {
        return Ok(deployments);
    }
    let mut live = apply::live(&context.client, &around.namespace, &around.pipeline, kinds).await?;
    let wanted = desired(&observe::deployments(&live))?;
    let made_from = objects::made_from(&wanted);
    let changes = apply::changes(uid, wanted, &live)?;
    context.contests.see(uid, contests(&changes, &live));
    apply::execute(&context.client, &around.namespace, uid, changes, &mut live, &context.metrics).await?;
    context.objects.leave(uid, made_from, &live);
    Ok(observe::deployments(&live))
}

/// Who else has set what is put right now.
fn contests(changes: &[apply::Change], live: &apply::Live) -> Vec<Contest> {
    let changed = changes.iter().filter_map(|change| match change {
        apply::Change::Apply(object) => Some((object, live.get(&(object.kind, object.name.clone()))?)),
        apply::Change::Delete { .. } => None,
    });
    changed.flat_map(|(object, there)| contest::of_object(object.kind.name(), there, &object.body)).collect()
}

/// Partitions of the topics: while they cannot be looked at, as they were seen last.
fn sizes(pipeline: &HerdPipeline, topics: &topics::Seen) -> Sizes {
    match topics {
        topics::Seen::Ready { topics, .. } => topics,
        topics::Seen::NotReady { .. } => pipeline.status.as_ref().map_or(&[][..], |status| &status.topics),
    }
    .iter()
    .map(|topic| (topic.name.clone(), topic.partitions))
    .collect()
}

fn size(
    around: &Surroundings,
    context: &Context,
    (uid, plan, sizes): (&str, &ClusterPlan, &Sizes),
    stages: &[Stage],
    secrets: &Secrets,
    deployments: &Deployments,
) -> Vec<Sized> {
    let at = scaling::now();
    let size = |stage: &Stage| {
        let now = observe::replicas(around, &stage.role, deployments);
        Sized {
            replicas: context.scaler.replicas(uid, &plan.plan, stage, (now, sizes), at),
            secrets: secrets.fingerprint(&stage.secrets),
            stage: stage.clone(),
        }
    };
    stages.iter().map(size).collect()
}

async fn observe(
    around: &Surroundings,
    context: &Context,
    uid: &str,
    stages: &[Stage],
    deployments: &Deployments,
) -> Result<Vec<observe::StageSeen>, Error> {
    // What the pods reported at the last look.
    let mut troubles = context.scaler.troubles(uid);
    let seen = observe::stages(around, stages, deployments, &troubles);
    if seen.iter().all(|stage| !matches!(stage.state, State::Rolling(_) | State::Scaling(_))) {
        return Ok(seen);
    }
    // What Kubernetes says of them now: a moment may have passed since that look, or there was none yet.
    let pods = observe::pods(&context.client, &around.namespace, &around.pipeline).await?;
    for (role, trouble) in complaint::of_stages(&pods, &BTreeMap::new(), Timestamp::now()) {
        troubles.entry(role).or_insert(trouble);
    }
    Ok(observe::stages(around, stages, deployments, &troubles))
}

/// Writes the status if it says something new, and tells what is worth telling.
async fn write(pipeline: &HerdPipeline, after: &HerdPipelineStatus, context: &Context) -> Result<(), Error> {
    let before = pipeline.status.as_ref();
    if before == Some(after) {
        return Ok(());
    }
    for event in events::between(before, after) {
        info!(reason = event.reason, note = event.note, "told");
        context.tell(pipeline, &event).await;
    }
    let namespace = pipeline.namespace().unwrap_or_default();
    let api: Api<HerdPipeline> = Api::namespaced(context.client.clone(), &namespace);
    let body = json!({
        "apiVersion": HerdPipeline::api_version(&()),
        "kind": HerdPipeline::kind(&()),
        "metadata": {"name": pipeline.name_any()},
        "status": after,
    });
    context.metrics.write("HerdPipeline", "status");
    let ours = PatchParams::apply(MANAGER).force();
    match api.patch_status(&pipeline.name_any(), &ours, &Patch::Apply(&body)).await {
        Ok(written) => {
            context.wrote(&written);
            Ok(())
        }
        // It was deleted meanwhile, perhaps before it was registered.
        Err(kube::Error::Api(status)) if status.code == 404 => {
            context.forget(&pipeline.uid().unwrap_or_default());
            Ok(())
        }
        Err(error) => Err(Error::api("writing the status")(error)),
    }
}

/// What becomes of a pipeline whose reconcile failed.
pub fn after_failure(pipeline: Arc<HerdPipeline>, error: &Error, context: Arc<Context>) -> Action {
    let pipeline_key = key(&pipeline);
    match error.hope() {
        Hope::None => {
            warn!(pipeline = pipeline_key, reason = %error.reason(), "stalled: {error}");
            Action::requeue(STEADY)
        }
        Hope::Later(least) => {
            let pause = context.failures.another(&pipeline.uid().unwrap_or_default(), least);
            warn!(pipeline = pipeline_key, reason = %error.reason(), ?pause, "will be tried again: {error}");
            Action::requeue(pause)
        }
    }
}

/// `namespace/name`.
fn key(pipeline: &HerdPipeline) -> String {
    format!("{}/{}", pipeline.namespace().unwrap_or_default(), pipeline.name_any())
}
