//! Objects: made, kept, put right, removed; and left alone when all is well.

use std::collections::BTreeMap;

use herd_spec::pipeline::HerdPipeline;
use herd_spec::plan::Plan;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

use crate::bed::{Bed, example, until};
use crate::once::no_pods;

/// What there is of a pipeline, with the versions.
async fn there(bed: &Bed, pipeline: &str) -> BTreeMap<String, String> {
    let ours = ListParams::default()
        .labels(&format!("herd.dev/pipeline={pipeline},app.kubernetes.io/managed-by=herd-operator"));
    let mut all = BTreeMap::new();
    macro_rules! add {
        ($($kind:ty),*) => {$(
            for object in bed.api::<$kind>().list(&ours).await.unwrap() {
                let kind = stringify!($kind);
                // A Deployment's status changes its version.
                let version = match object.metadata.generation {
                    Some(generation) => format!("generation {generation}"),
                    None => object.resource_version().unwrap(),
                };
                all.insert(format!("{kind} {}", object.name_any()), version);
            }
        )*};
    }
    add!(Deployment, Service, ServiceAccount, ConfigMap, PodDisruptionBudget, NetworkPolicy);
    all
}

/// A shop whose objects are made; its pods only take time, so there are none.
async fn shop(test: &str) -> Bed {
    let bed = Bed::new(test).await;
    no_pods(&bed).await;
    bed.secret("store", "url", "postgres://store").await;
    bed.apply(&example("shop.yaml")).await.unwrap();
    until("22 objects", async || {
        let there = there(&bed, "shop").await;
        if there.len() == 22 { Ok(()) } else { Err(there) }
    })
    .await;
    bed
}

#[tokio::test]
#[ignore = "needs HERD_TEST_KUBECONFIG: make test sets it"]
async fn every_example_becomes_objects_that_the_api_server_accepts() {
    let bed = Bed::new("examples").await;
    for name in ["shop", "anime", "journeys", "video"] {
        let pipeline = example(&format!("{name}.yaml"));
        let name = pipeline["metadata"]["name"].as_str().unwrap().to_owned();
        let parsed: HerdPipeline = serde_json::from_value(pipeline.clone()).unwrap();
        for reference in Plan::parse(&parsed).unwrap().secrets() {
            bed.secret(&reference.name, &reference.key, "value").await;
        }
        bed.apply(&pipeline).await.unwrap();
        until(&format!("the api of {name}"), async || bed.deployment(&format!("{name}-api")).await.ok_or(()))
            .await;
        let pipeline = until("a status", async || {
            let pipeline = bed.api::<HerdPipeline>().get(&name).await.unwrap();
            if pipeline.status.is_some() { Ok(pipeline) } else { Err(()) }
        })
        .await;
        assert_eq!(pipeline.status.as_ref().unwrap().observed_generation, pipeline.metadata.generation);
    }
    bed.end().await;
}

#[tokio::test]
#[ignore = "needs HERD_TEST_KUBECONFIG: make test sets it"]
async fn drift_is_put_right() {
    let bed = shop("drift").await;
    let (deployments, forced) = (bed.api::<Deployment>(), PatchParams::apply("meddler").force());
    let scaled = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 7}});
    deployments.patch("shop-detector", &forced, &Patch::Apply(&scaled)).await.unwrap();
    bed.api::<Service>().delete("shop-api", &DeleteParams::default()).await.unwrap();
    let emptied = json!({"data": {"plan.json": "{}"}});
    bed.api::<ConfigMap>()
        .patch("shop-collector", &PatchParams::default(), &Patch::Merge(&emptied))
        .await
        .unwrap();
    let begun = std::time::Instant::now();
    until("the detector's replicas", async || {
        let replicas = bed.deployment("shop-detector").await.unwrap().spec.unwrap().replicas;
        if replicas == Some(1) { Ok(()) } else { Err(replicas) }
    })
    .await;
    until("the api's Service", async || bed.api::<Service>().get_opt("shop-api").await.unwrap().ok_or(()))
        .await;
    until("the collector's plan", async || {
        let data = bed.api::<ConfigMap>().get("shop-collector").await.unwrap().data.unwrap();
        if data["plan.json"].contains("shop.events") { Ok(()) } else { Err(data) }
    })
    .await;
    println!("drift was put right after {:?}", begun.elapsed());
    bed.end().await;
}

#[tokio::test]
#[ignore = "needs HERD_TEST_KUBECONFIG: make test sets it"]
async fn what_is_no_longer_asked_for_goes_and_what_is_not_ours_stays() {
    let bed = shop("pruning").await;
    let foreign = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "foreign", "labels": {
        "herd.dev/pipeline": "shop", "app.kubernetes.io/managed-by": "herd-operator"}}});
    bed.api::<ConfigMap>()
        .patch("foreign", &PatchParams::apply("person"), &Patch::Apply(&foreign))
        .await
        .unwrap();
    let mut pipeline = example("shop.yaml");
    pipeline["spec"]["sinks"] = json!([]);
    bed.apply(&pipeline).await.unwrap();
    until("the sink to go", async || {
        let there = there(&bed, "shop").await;
        if there.keys().any(|name| name.contains("shop-sink")) { Err(there) } else { Ok(()) }
    })
    .await;
    assert!(bed.api::<ConfigMap>().get_opt("foreign").await.unwrap().is_some());
    bed.end().await;
}

#[tokio::test]
#[ignore = "needs HERD_TEST_KUBECONFIG: make test sets it"]
async fn a_paused_pipeline_has_no_detectors_and_sinks() {
    let bed = shop("paused").await;
    let replicas = async |name: &str| bed.deployment(name).await.unwrap().spec.unwrap().replicas.unwrap();
    let mut pipeline = example("shop.yaml");
    for (paused, wanted) in [(true, [1, 0, 0, 1]), (false, [1, 1, 1, 1])] {
        pipeline["spec"]["paused"] = paused.into();
        bed.apply(&pipeline).await.unwrap();
        until(&format!("paused: {paused}"), async || {
            let mut now = [0; 4];
            for (at, stage) in ["collector", "detector", "sink-history", "api"].into_iter().enumerate() {
                now[at] = replicas(&format!("shop-{stage}")).await;
            }
            if now == wanted { Ok(()) } else { Err(now) }
        })
        .await;
    }
    bed.end().await;
}

#[tokio::test]
#[ignore = "needs HERD_TEST_KUBECONFIG: make test sets it"]
async fn a_secret_that_is_missing_is_named_and_waited_for_and_a_new_value_starts_pods_anew() {
    let bed = Bed::new("secrets").await;
    bed.apply(&example("shop.yaml")).await.unwrap();
    let stalled = bed.await_reason("shop", "Stalled", "SecretMissing").await;
    assert_eq!(stalled.message, "there is no Secret `store`: create it, or correct the spec");
    bed.secret("store", "url", "postgres://one").await;
    let template = async || {
        let sink = bed.deployment("shop-sink-history").await.ok_or(())?;
        Ok::<_, ()>(sink.spec.unwrap().template)
    };
    let before = until("the sink", async || template().await).await;
    bed.secret("store", "url", "postgres://two").await;
    until("other pods", async || if template().await? == before { Err(()) } else { Ok(()) }).await;
    bed.end().await;
}

#[tokio::test]
#[ignore = "needs HERD_TEST_KUBECONFIG: make test sets it"]
async fn an_object_that_somebody_else_made_is_not_taken() {
    let bed = Bed::new("taken").await;
    bed.secret("store", "url", "postgres://store").await;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop-api"}, "spec": {"ports": [{"port": 1}]}});
    bed.api::<Service>()
        .patch("shop-api", &PatchParams::apply("person"), &Patch::Apply(&service))
        .await
        .unwrap();
    bed.apply(&example("shop.yaml")).await.unwrap();
    let ready = bed.await_reason("shop", "Ready", "NameTaken").await;
    assert!(ready.message.contains("Service shop-api belongs to nobody"), "{}", ready.message);
    bed.end().await;
}

/// The operator's own account of its writes.
async fn writes(port: u16) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let lines = text.lines().filter(|line| line.starts_with("herd_operator_writes_total"));
    let mut lines: Vec<&str> = lines.collect();
    lines.sort_unstable();
    lines.join("\n")
}

#[tokio::test]
#[ignore = "needs HERD_TEST_KUBECONFIG: make test sets it"]
async fn when_nothing_changes_nothing_is_written() {
    let bed = shop("steady").await;
    let quiet = async || {
        let before = (writes(bed.port()).await, there(&bed, "shop").await);
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        let after = (writes(bed.port()).await, there(&bed, "shop").await);
        if before == after { Ok(before) } else { Err((before, after)) }
    };
    let (before, objects) = until("a steady state", quiet).await;
    // Every kind of trigger, none of which changes what is wanted.
    let touch = json!({"metadata": {"annotations": {"person": "was here"}}});
    bed.api::<Service>().patch("shop-api", &PatchParams::default(), &Patch::Merge(&touch)).await.unwrap();
    bed.api::<HerdPipeline>().patch("shop", &PatchParams::default(), &Patch::Merge(&touch)).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let objects_of = |kind: &str, all: &BTreeMap<String, String>| {
        all.iter()
            .filter(|(name, _)| name.starts_with(kind))
            .map(|(a, b)| (a.clone(), b.clone()))
            .collect::<Vec<_>>()
    };
    let after = there(&bed, "shop").await;
    let applies = |text: &str| {
        text.lines().filter(|line| line.contains("apply")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(applies(&before), applies(&writes(bed.port()).await));
    assert_eq!(objects_of("Deployment", &objects), objects_of("Deployment", &after));
    assert_eq!(objects_of("ConfigMap", &objects), objects_of("ConfigMap", &after));
    println!("22 objects were made with\n{before}");
    bed.end().await;
}
