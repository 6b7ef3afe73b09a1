//! Single reconciles without the controller, so that tests can check each and crash the process between two writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use herd_operator::apply::{self, Change, Live};
use herd_operator::context::Context;
use herd_operator::desired::{self, PipelineContext, ScaledStage};
use herd_operator::error::Error;
use herd_operator::event_publisher::EventPublisher;
use herd_operator::identity::PipelineIdentity;
use herd_operator::kind::Kind;
use herd_operator::metrics::Metrics;
use herd_operator::reconcile::reconcile;
use herd_operator::scaling::Scaler;
use herd_operator::stage::{Stage, stages};
use herd_operator::{dereference, plan};
use herd_spec::pipeline::{HerdPipeline, ScalingMode};
use herd_spec::plan::ScalingPlan;
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::DynamicObject;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::env::{IMAGE, TestEnv, until};

/// An operator that has just been started.
pub(crate) fn operator(client: Client) -> Arc<Context> {
    let event_publisher = EventPublisher::new(client.clone(), "test".into());
    Arc::new(Context::new(
        client,
        IMAGE.into(),
        Arc::new(Scaler::default()),
        event_publisher,
        Metrics::default(),
    ))
}

/// Forbids pods, which these tests do not need.
pub(crate) async fn no_pods(env: &TestEnv) {
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}});
    let person = PatchParams::apply("person");
    env.api::<ResourceQuota>().patch("none", &person, &Patch::Apply(&quota)).await.unwrap();
}

pub(crate) async fn shop(env: &TestEnv) -> HerdPipeline {
    env.api::<HerdPipeline>().get("shop").await.unwrap()
}

/// One reconcile of the pipeline `shop`, once the API server's cache has all objects that were written before, as it does when a watch
/// has reported them.
pub(crate) async fn reconcile_once(env: &TestEnv, operator: &Arc<Context>) -> Result<(), Error> {
    let identity = PipelineIdentity::of(&shop(env).await).unwrap();
    let versions = |live: Live| -> Vec<_> {
        live.into_values().map(|one| (one.uid(), one.resource_version())).collect()
    };
    until("the cache to have all objects", async || {
        let cached = apply::live(&env.client, &identity, &Kind::BUILT_IN).await.unwrap();
        if versions(cached) == versions(live(env).await) { Ok(()) } else { Err(()) }
    })
    .await;
    reconcile(Arc::new(shop(env).await), Arc::clone(operator)).await.map(drop)
}

/// All live objects, not from the cache.
async fn live(env: &TestEnv) -> Live {
    let params = ListParams::default().labels(&desired::of_pipeline("shop"));
    let mut live = Live::new();
    for kind in Kind::BUILT_IN {
        let api: Api<DynamicObject> =
            Api::namespaced_with(env.client.clone(), &env.namespace, &kind.resource());
        live.extend(api.list(&params).await.unwrap().into_iter().map(|one| ((kind, one.name_any()), one)));
    }
    live
}

/// The changes from the live objects to those of the spec, by the pure functions alone: none if they match.
pub(crate) async fn missing_changes(env: &TestEnv) -> Vec<Change> {
    let pipeline = shop(env).await;
    let plan = plan::of(&pipeline).unwrap();
    let secrets = dereference::secrets(&env.client, &env.namespace, &plan.plan).await.unwrap();
    let live = live(env).await;
    let context = PipelineContext {
        identity: PipelineIdentity::of(&pipeline).unwrap(),
        image: IMAGE.into(),
        pull_secrets: Vec::new(),
        ingresses: plan.ingresses.clone(),
        pod_monitors: false,
    };
    let scaled = stages(&plan.plan).into_iter().map(|stage| ScaledStage {
        replicas: replicas(&context, &stage, plan.plan.paused, &live),
        secrets: secrets.fingerprint(&stage.secrets),
        stage,
    });
    let objects = desired::objects(&context, &scaled.collect::<Vec<_>>()).unwrap();
    apply::changes(&context.identity.uid, objects, &live).unwrap()
}

/// The number of the spec; with scaling, the current one, which must be within the bounds.
fn replicas(pipeline: &PipelineContext, stage: &Stage, paused: bool, live: &Live) -> u32 {
    let scaling = stage.size.scaling.as_ref().map(ScalingPlan::spec);
    let scaling = scaling.filter(|scaling| scaling.mode != ScalingMode::Off);
    match scaling {
        _ if paused && stage.id.pauses() => 0,
        None => stage.size.replicas,
        Some(scaling) => {
            let current = &live[&(Kind::Deployment, pipeline.name_of(&stage.id))].data["spec"]["replicas"];
            let current = u32::try_from(current.as_u64().unwrap()).unwrap();
            assert!((scaling.min..=scaling.max).contains(&current), "{}: {current} replicas", stage.id);
            current
        }
    }
}

/// All live objects, without fields that differ from run to run.
pub(crate) async fn objects(env: &TestEnv) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for ((kind, name), object) in live(env).await {
        let mut object = serde_json::to_value(object).unwrap();
        for field in ["resourceVersion", "uid", "generation", "creationTimestamp", "managedFields"] {
            object["metadata"].as_object_mut().unwrap().remove(field);
        }
        for owner in object["metadata"]["ownerReferences"].as_array_mut().into_iter().flatten() {
            owner.as_object_mut().unwrap().remove("uid");
        }
        // Fields of controllers; and the fingerprint, which includes the owner.
        object.as_object_mut().unwrap().remove("status");
        for annotation in ["deployment.kubernetes.io/revision", desired::FINGERPRINT] {
            object["metadata"]["annotations"].as_object_mut().map(|all| all.remove(annotation));
        }
        // The fingerprint of Secrets includes their uids.
        let template = object["spec"]["template"]["metadata"]["annotations"].as_object_mut();
        template.map(|all| all.remove("herd.dev/secrets"));
        // Allocated by the API server.
        for field in ["clusterIP", "clusterIPs"] {
            object["spec"].as_object_mut().map(|spec| spec.remove(field));
        }
        let text = object.to_string().replace(&env.namespace, "NAMESPACE");
        all.insert(format!("{} {name}", kind.name()), serde_json::from_str(&text).unwrap());
    }
    all
}
