//! Reconciles one by one, without the loop around them: so that each step can be looked at, and a process killed between two writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use herd_operator::apply::{self, Change, Live};
use herd_operator::context::Context;
use herd_operator::desired::{self, Sized, Surroundings};
use herd_operator::error::Error;
use herd_operator::kind::Kind;
use herd_operator::metrics::Metrics;
use herd_operator::reconcile::reconcile;
use herd_operator::scaling::Scaler;
use herd_operator::stage::{Stage, stages};
use herd_operator::tell::Teller;
use herd_operator::{dereference, plan};
use herd_spec::pipeline::{HerdPipeline, ScalingMode};
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::DynamicObject;
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::{Value, json};

use crate::bed::{Bed, IMAGE, until};

/// An operator that has just been started.
pub(crate) fn operator(client: Client) -> Arc<Context> {
    let teller = Teller::new(client.clone(), "test".into());
    Arc::new(Context::new(client, IMAGE.into(), Arc::new(Scaler::default()), teller, Metrics::default()))
}

/// Pods would only take time here: none are let in.
pub(crate) async fn no_pods(bed: &Bed) {
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}});
    let person = PatchParams::apply("person");
    bed.api::<ResourceQuota>().patch("none", &person, &Patch::Apply(&quota)).await.unwrap();
}

pub(crate) async fn shop(bed: &Bed) -> HerdPipeline {
    bed.api::<HerdPipeline>().get("shop").await.unwrap()
}

/// One reconcile of the pipeline `shop`, when the API server's cache knows of all that was written before, as it does once a watch
/// has told of it.
pub(crate) async fn once(bed: &Bed, operator: &Arc<Context>) -> Result<(), Error> {
    let versions = |live: Live| -> Vec<_> {
        live.into_values().map(|one| (one.uid(), one.resource_version())).collect()
    };
    until("the cache to know what is there", async || {
        let cached = apply::live(&bed.client, &bed.namespace, "shop", &Kind::BUILT_IN).await.unwrap();
        if versions(cached) == versions(live(bed).await) { Ok(()) } else { Err(()) }
    })
    .await;
    reconcile(Arc::new(shop(bed).await), Arc::clone(operator)).await.map(drop)
}

/// All objects as they are now, not as a cache has them.
async fn live(bed: &Bed) -> Live {
    let wanted = ListParams::default().labels(&desired::of_pipeline("shop"));
    let mut live = Live::new();
    for kind in Kind::BUILT_IN {
        let api: Api<DynamicObject> =
            Api::namespaced_with(bed.client.clone(), &bed.namespace, &kind.resource());
        live.extend(api.list(&wanted).await.unwrap().into_iter().map(|one| ((kind, one.name_any()), one)));
    }
    live
}

/// What the spec still asks to be written, by the pure functions alone: nothing, if objects match it.
pub(crate) async fn unmet(bed: &Bed) -> Vec<Change> {
    let pipeline = shop(bed).await;
    let plan = plan::of(&pipeline).unwrap();
    let secrets = dereference::secrets(&bed.client, &bed.namespace, &plan.plan).await.unwrap();
    let live = live(bed).await;
    let around = Surroundings {
        pipeline: "shop".into(),
        namespace: bed.namespace.clone(),
        owner: pipeline.controller_owner_ref(&()).unwrap(),
        image: IMAGE.into(),
        pull_secrets: Vec::new(),
        doors: plan.doors.clone(),
        pod_monitors: false,
    };
    let sized = stages(&plan.plan).into_iter().map(|stage| Sized {
        replicas: replicas(&around, &stage, plan.plan.paused, &live),
        secrets: secrets.fingerprint(&stage.secrets),
        stage,
    });
    let wanted = desired::objects(&around, &sized.collect::<Vec<_>>()).unwrap();
    apply::changes(&pipeline.metadata.uid.unwrap(), wanted, &live).unwrap()
}

/// As many as the spec says; where it leaves that to scaling, those that run, which must be within its bounds.
fn replicas(around: &Surroundings, stage: &Stage, paused: bool, live: &Live) -> u32 {
    let scaling = stage.size.scaling.as_ref().filter(|scaling| scaling.mode != ScalingMode::Off);
    match scaling {
        _ if paused && stage.role.pauses() => 0,
        None => stage.size.replicas,
        Some(scaling) => {
            let there = &live[&(Kind::Deployment, around.name_of(&stage.role))].data["spec"]["replicas"];
            let there = u32::try_from(there.as_u64().unwrap()).unwrap();
            assert!((scaling.min..=scaling.max).contains(&there), "{}: {there} replicas", stage.role);
            there
        }
    }
}

/// All objects as they are, without what differs from run to run.
pub(crate) async fn objects(bed: &Bed) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for ((kind, name), object) in live(bed).await {
        let mut object = serde_json::to_value(object).unwrap();
        for field in ["resourceVersion", "uid", "generation", "creationTimestamp", "managedFields"] {
            object["metadata"].as_object_mut().unwrap().remove(field);
        }
        for owner in object["metadata"]["ownerReferences"].as_array_mut().into_iter().flatten() {
            owner.as_object_mut().unwrap().remove("uid");
        }
        // The controllers' own; and what stands for all of the object, with its owner.
        object.as_object_mut().unwrap().remove("status");
        for annotation in ["deployment.kubernetes.io/revision", desired::FINGERPRINT] {
            object["metadata"]["annotations"].as_object_mut().map(|all| all.remove(annotation));
        }
        // Stands for Secrets with their identity.
        let template = object["spec"]["template"]["metadata"]["annotations"].as_object_mut();
        template.map(|all| all.remove("herd.dev/secrets"));
        // Given out by the API server.
        for field in ["clusterIP", "clusterIPs"] {
            object["spec"].as_object_mut().map(|spec| spec.remove(field));
        }
        let text = object.to_string().replace(&bed.namespace, "NAMESPACE");
        all.insert(format!("{} {name}", kind.name()), serde_json::from_str(&text).unwrap());
    }
    all
}
