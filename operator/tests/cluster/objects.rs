//! Objects are created, kept, reset after changes, and deleted; and not written when nothing changes.

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

use crate::env::{TestEnv, example, until};
use crate::single_reconcile::no_pods;

/// The live objects of a pipeline, with their versions.
async fn live_objects(env: &TestEnv, pipeline: &str) -> BTreeMap<String, String> {
    let params = ListParams::default()
        .labels(&format!("herd.dev/pipeline={pipeline},app.kubernetes.io/managed-by=herd-operator"));
    let mut all = BTreeMap::new();
    macro_rules! add {
        ($($kind:ty),*) => {$(
            for object in env.api::<$kind>().list(&params).await.unwrap() {
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

/// A shop whose objects are created, without pods.
async fn shop(test: &str) -> TestEnv {
    let env = TestEnv::new(test).await;
    no_pods(&env).await;
    env.secret("store", "url", "postgres://store").await;
    env.apply(&example("shop.yaml")).await.unwrap();
    until("22 objects", async || {
        let live = live_objects(&env, "shop").await;
        if live.len() == 22 { Ok(()) } else { Err(live) }
    })
    .await;
    env
}

#[tokio::test]
#[ignore = "needs HERD_TEST_KUBECONFIG: make test sets it"]
async fn objects_of_every_example_are_accepted() {
    let env = TestEnv::new("examples").await;
    for name in ["shop", "anime", "journeys", "video"] {
        let pipeline = example(&format!("{name}.yaml"));
        let name = pipeline["metadata"]["name"].as_str().unwrap().to_owned();
        let parsed: HerdPipeline = serde_json::from_value(pipeline.clone()).unwrap();
        for reference in Plan::parse(&parsed).unwrap().secrets() {
            env.secret(&reference.name, &reference.key, "value").await;
        }
        env.apply(&pipeline).await.unwrap();
        until(&format!("the api of {name}"), async || env.deployment(&format!("{name}-api")).await.ok_or(()))
            .await;
        let pipeline = until("a status", async || {
            let pipeline = env.api::<HerdPipeline>().get(&name).await.unwrap();
            if pipeline.status.is_some() { Ok(pipeline) } else { Err(()) }
        })
        .await;
        assert_eq!(pipeline.status.as_ref().unwrap().observed_generation, pipeline.metadata.generation);
    }
    env.end().await;
}

#[tokio::test]
#[ignore = "needs HERD_TEST_KUBECONFIG: make test sets it"]
async fn changed_and_deleted_objects_are_reset() {
    let env = shop("drift").await;
    let (deployments, forced) = (env.api::<Deployment>(), PatchParams::apply("meddler").force());
    let scaled = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 7}});
    deployments.patch("shop-detector", &forced, &Patch::Apply(&scaled)).await.unwrap();
    env.api::<Service>().delete("shop-api", &DeleteParams::default()).await.unwrap();
    let emptied = json!({"data": {"plan.json": "{}"}});
    env.api::<ConfigMap>()
        .patch("shop-collector", &PatchParams::default(), &Patch::Merge(&emptied))
        .await
        .unwrap();
    let begun = std::time::Instant::now();
    until("the detector's replicas", async || {
        let replicas = env.deployment("shop-detector").await.unwrap().spec.unwrap().replicas;
        if replicas == Some(1) { Ok(()) } else { Err(replicas) }
    })
    .await;
    until("the api's Service", async || env.api::<Service>().get_opt("shop-api").await.unwrap().ok_or(()))
        .await;
    until("the collector's plan", async || {
        let data = env.api::<ConfigMap>().get("shop-collector").await.unwrap().data.unwrap();
        if data["plan.json"].contains("shop.events") { Ok(()) } else { Err(data) }
    })
    .await;
    println!("reset after {:?}", begun.elapsed());
    env.end().await;
}

#[tokio::test]
#[ignore = "needs HERD_TEST_KUBECONFIG: make test sets it"]
async fn undesired_objects_are_deleted_and_foreign_ones_kept() {
    let env = shop("pruning").await;
    let foreign = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "foreign", "labels": {
        "herd.dev/pipeline": "shop", "app.kubernetes.io/managed-by": "herd-operator"}}});
    env.api::<ConfigMap>()
        .patch("foreign", &PatchParams::apply("person"), &Patch::Apply(&foreign))
        .await
        .unwrap();
    let mut pipeline = example("shop.yaml");
    pipeline["spec"]["sinks"] = json!([]);
    env.apply(&pipeline).await.unwrap();
    until("the sink to go", async || {
        let live = live_objects(&env, "shop").await;
        if live.keys().any(|name| name.contains("shop-sink")) { Err(live) } else { Ok(()) }
    })
    .await;
    assert!(env.api::<ConfigMap>().get_opt("foreign").await.unwrap().is_some());
    env.end().await;
}

#[tokio::test]
#[ignore = "needs HERD_TEST_KUBECONFIG: make test sets it"]
async fn paused_pipeline_has_no_detectors_and_sinks() {
    let env = shop("paused").await;
    let replicas = async |name: &str| env.deployment(name).await.unwrap().spec.unwrap().replicas.unwrap();
    let mut pipeline = example("shop.yaml");
    for (paused, wanted) in [(true, [1, 0, 0, 1]), (false, [1, 1, 1, 1])] {
        pipeline["spec"]["paused"] = paused.into();
        env.apply(&pipeline).await.unwrap();
        until(&format!("paused: {paused}"), async || {
            let mut now = [0; 4];
            for (at, stage) in ["collector", "detector", "sink-history", "api"].into_iter().enumerate() {
                now[at] = replicas(&format!("shop-{stage}")).await;
            }
            if now == wanted { Ok(()) } else { Err(now) }
        })
        .await;
    }
    env.end().await;
}

#[tokio::test]
#[ignore = "needs HERD_TEST_KUBECONFIG: make test sets it"]
async fn missing_secret_stalls_and_new_value_replaces_pods() {
    let env = TestEnv::new("secrets").await;
    env.apply(&example("shop.yaml")).await.unwrap();
    let stalled = env.await_reason("shop", "Stalled", "SecretMissing").await;
    assert_eq!(stalled.message, "the Secret `store` does not exist: create it, or correct the spec");
    env.secret("store", "url", "postgres://one").await;
    let template = async || {
        let sink = env.deployment("shop-sink-history").await.ok_or(())?;
        Ok::<_, ()>(sink.spec.unwrap().template)
    };
    let before = until("the sink", async || template().await).await;
    env.secret("store", "url", "postgres://two").await;
    until("other pods", async || if template().await? == before { Err(()) } else { Ok(()) }).await;
    env.end().await;
}

#[tokio::test]
#[ignore = "needs HERD_TEST_KUBECONFIG: make test sets it"]
async fn object_of_another_owner_is_not_changed() {
    let env = TestEnv::new("taken").await;
    env.secret("store", "url", "postgres://store").await;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop-api"}, "spec": {"ports": [{"port": 1}]}});
    env.api::<Service>()
        .patch("shop-api", &PatchParams::apply("person"), &Patch::Apply(&service))
        .await
        .unwrap();
    env.apply(&example("shop.yaml")).await.unwrap();
    let ready = env.await_reason("shop", "Ready", "NameTaken").await;
    assert!(ready.message.contains("Service shop-api already exists and has no owner"), "{}", ready.message);
    env.end().await;
}

/// The operator's metric of its writes.
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
async fn unchanged_pipeline_is_not_written() {
    let env = shop("steady").await;
    let unchanged = async || {
        let before = (writes(env.port()).await, live_objects(&env, "shop").await);
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        let after = (writes(env.port()).await, live_objects(&env, "shop").await);
        if before == after { Ok(before) } else { Err((before, after)) }
    };
    let (before, objects) = until("no more writes", unchanged).await;
    // Triggers that do not change the desired objects.
    let touch = json!({"metadata": {"annotations": {"person": "was here"}}});
    env.api::<Service>().patch("shop-api", &PatchParams::default(), &Patch::Merge(&touch)).await.unwrap();
    env.api::<HerdPipeline>().patch("shop", &PatchParams::default(), &Patch::Merge(&touch)).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let objects_of = |kind: &str, all: &BTreeMap<String, String>| {
        all.iter()
            .filter(|(name, _)| name.starts_with(kind))
            .map(|(a, b)| (a.clone(), b.clone()))
            .collect::<Vec<_>>()
    };
    let after = live_objects(&env, "shop").await;
    let applies = |text: &str| {
        text.lines().filter(|line| line.contains("apply")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(applies(&before), applies(&writes(env.port()).await));
    assert_eq!(objects_of("Deployment", &objects), objects_of("Deployment", &after));
    assert_eq!(objects_of("ConfigMap", &objects), objects_of("ConfigMap", &after));
    println!("22 objects were created with\n{before}");
    env.end().await;
}
