//! The operator against a fake API server with faults: crashes around each write of a first reconcile, rejections, interrupted watches.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use herd_operator::context::Context;
use herd_operator::error::{Error, Retry};
use herd_operator::reconcile::reconcile;
use herd_operator::watch;
use herd_spec::pipeline::HerdPipeline;
use kube::Api;
use kube::api::DeleteParams;
use rstest::rstest;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use server::{Fault, Server, WatchFault};

const SHOP: &str = "/apis/herd.dev/v1alpha1/namespaces/demo/herdpipelines/shop";

/// A server with a pipeline and its Secret. Its Kafka cluster is unavailable, so that only the API server matters.
fn server() -> Server {
    let server = Server::default();
    server.put(
        SHOP,
        json!({
            "apiVersion": "herd.dev/v1alpha1", "kind": "HerdPipeline",
            "metadata": {"name": "shop", "namespace": "demo", "generation": 1},
            "spec": {
                "kafka": {"bootstrapServers": ["127.0.0.1:1"], "deletionPolicy": "Delete"},
                "metrics": [{"name": "views"}],
                "sinks": [{"name": "store", "postgres": {"url": {"name": "store", "key": "url"}}}],
            },
        }),
    );
    let secret =
        json!({"metadata": {"name": "store", "namespace": "demo"}, "data": {"url": "cG9zdGdyZXM6Ly9h"}});
    server.put("/api/v1/namespaces/demo/secrets/store", secret);
    server
}

async fn reconcile_once(server: &Server, operator: &Arc<Context>) -> Result<(), Error> {
    let pipeline: HerdPipeline = serde_json::from_value(server.get(SHOP).unwrap()).unwrap();
    reconcile(Arc::new(pipeline), Arc::clone(operator)).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn next_operator_applies_the_same_objects_after_a_crash_at_any_write() {
    let undisturbed = server();
    reconcile_once(&undisturbed, &undisturbed.operator()).await.unwrap();
    let (wanted, writes) = (undisturbed.objects(), undisturbed.0.lock().writes);
    assert!(writes > 20, "{writes}");
    let wanted = &wanted;
    let runs = (0..writes).flat_map(|at| [Fault::CrashBefore, Fault::CrashAfter].map(|fault| (at, fault)));
    let runs = runs.map(|(at, fault)| async move {
        let server = server();
        server.0.lock().fault = Some((at, fault));
        let crashed = reconcile_once(&server, &server.operator()).await;
        assert!(crashed.is_err(), "{at} {fault:?}");
        server.recover();
        let next = server.operator();
        reconcile_once(&server, &next).await.unwrap();
        assert_eq!(&server.objects(), wanted, "{at} {fault:?}");
        let before = server.0.lock().writes;
        reconcile_once(&server, &next).await.unwrap();
        assert_eq!(server.0.lock().writes, before, "{at} {fault:?}: an unchanged pipeline is written");
    });
    join_all(runs).await;
    println!("crashed before and after each of {writes} writes");
}

#[rstest]
#[case(409, 0, Retry::After(Duration::ZERO))]
#[case(410, 0, Retry::After(Duration::ZERO))]
#[case(429, 7, Retry::After(Duration::from_secs(7)))]
#[case(500, 0, Retry::After(Duration::ZERO))]
#[case(403, 0, Retry::Never)]
#[tokio::test]
async fn rejected_write_ends_the_reconcile_and_sets_its_retry(
    #[case] code: u16,
    #[case] retry_after: u32,
    #[case] retry: Retry,
) {
    let server = server();
    // The write after the finalizer: the first object.
    server.0.lock().fault = Some((1, Fault::Rejected { code, retry_after }));
    let operator = server.operator();
    let error = reconcile_once(&server, &operator).await.unwrap_err();
    assert_eq!(error.retry(), retry, "{error}");
    assert!(error.to_string().contains("rejected by the test"), "{error}");
    // The finalizer, the rejected one and the status: nothing else was tried.
    assert_eq!(server.0.lock().writes, 3);
    let ready = server.get(SHOP).unwrap()["status"]["conditions"][0].clone();
    assert_eq!((&ready["type"], &ready["status"]), (&json!("Ready"), &json!("False")));
    server.recover();
    reconcile_once(&server, &operator).await.unwrap();
    assert!(server.get("/apis/apps/v1/namespaces/demo/deployments/shop-collector").is_some());
}

#[tokio::test]
async fn unavailable_server_is_asked_once_a_reconcile() {
    let server = server();
    let operator = server.operator();
    server.0.lock().fault = Some((0, Fault::CrashBefore));
    assert!(reconcile_once(&server, &operator).await.is_err());
    let before = server.0.lock().calls.len();
    for _ in 0..10 {
        let pipeline: HerdPipeline = serde_json::from_value(server.get(SHOP).unwrap()).unwrap();
        assert!(reconcile(Arc::new(pipeline), Arc::clone(&operator)).await.is_err());
    }
    assert_eq!(server.0.lock().calls.len() - before, 10);
}

#[tokio::test]
async fn changed_object_is_reset_with_one_write() {
    let server = server();
    let operator = server.operator();
    reconcile_once(&server, &operator).await.unwrap();
    let path = "/api/v1/namespaces/demo/services/shop-api";
    let mut service: Value = server.get(path).unwrap();
    service["spec"]["ports"][0]["port"] = 81.into();
    server.put(path, service);
    let before = server.0.lock().writes;
    reconcile_once(&server, &operator).await.unwrap();
    assert_eq!(server.get(path).unwrap()["spec"]["ports"][0]["port"], 80);
    assert_eq!(server.0.lock().writes - before, 1);
}

const SERVICE: &str = "/api/v1/namespaces/demo/services/shop-api";

async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "waited for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn change_service(server: &Server) {
    let mut service: Value = server.get(SERVICE).unwrap();
    service["spec"]["ports"][0]["port"] = 81.into();
    server.put(SERVICE, service);
}

fn is_reset(server: &Server) -> bool {
    server.get(SERVICE).is_some_and(|service| service["spec"]["ports"][0]["port"] == 80)
}

#[rstest]
#[case::no_fault(None, 20)]
#[case::dropped(Some(WatchFault::Dropped(Duration::from_millis(250))), 200)]
#[case::gone(Some(WatchFault::Gone), 200)]
#[tokio::test(flavor = "multi_thread")]
async fn interrupted_watches_restart_with_backoff(#[case] fault: Option<WatchFault>, #[case] most: usize) {
    let server = server();
    let stop = CancellationToken::new();
    let running = tokio::spawn(watch::run(Some("demo".into()), server.operator(), stop.clone()));
    until("the api's Service", || is_reset(&server)).await;
    server.watches(fault);
    let (before, begun) = (server.0.lock().calls.len(), Instant::now());
    tokio::time::sleep(Duration::from_secs(3)).await;
    let watches = server.0.lock().calls[before..].iter().filter(|call| call.starts_with("WATCH")).count();
    assert!(watches <= most, "{watches} watches in {:?}", begun.elapsed());
    // A change during the fault is detected, at the latest once the fault ends.
    change_service(&server);
    tokio::time::sleep(Duration::from_millis(500)).await;
    server.watches(None);
    until("the Service to be reset", || is_reset(&server)).await;
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_an_unchanged_pipeline_are_not_read_again() {
    let server = server();
    let stop = CancellationToken::new();
    let running = tokio::spawn(watch::run(Some("demo".into()), server.operator(), stop.clone()));
    until("the api's Service", || is_reset(&server)).await;
    let count = |call: &str| server.0.lock().calls.iter().filter(|made| *made == call).count();
    let (lists, reads) = ("GET /apis/apps/v1/namespaces/demo/deployments", format!("GET {SHOP}"));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (listed, read) = (count(lists), count(&reads));
    let mut shop = server.get(SHOP).unwrap();
    shop["metadata"]["annotations"] = json!({"seen": "by a person"});
    server.put(SHOP, shop);
    until("a reconcile of the pipeline", || count(&reads) > read).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(count(lists), listed);
    change_service(&server);
    until("the Service to be reset", || is_reset(&server)).await;
    assert!(count(lists) > listed);
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn condition_names_the_manager_of_a_conflicting_field() {
    let server = server();
    let operator = server.operator();
    reconcile_once(&server, &operator).await.unwrap();
    let path = "/apis/apps/v1/namespaces/demo/deployments/shop-detector";
    let mut deployment = server.get(path).unwrap();
    let wanted = deployment["spec"]["replicas"].clone();
    deployment["spec"]["replicas"] = 7.into();
    deployment["metadata"]["managedFields"] = json!([{
        "manager": "kube-controller-manager", "operation": "Update", "subresource": "scale",
        "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}}},
    }]);
    server.put(path, deployment);
    reconcile_once(&server, &server.operator()).await.unwrap();
    assert_eq!(server.get(path).unwrap()["spec"]["replicas"], wanted);
    let conditions = server.get(SHOP).unwrap()["status"]["conditions"].as_array().unwrap().clone();
    let conflict = conditions.iter().find(|condition| condition["type"] == "FieldsContested").unwrap();
    let message = conflict["message"].as_str().unwrap();
    assert!(
        message.contains("a HorizontalPodAutoscaler) set spec.replicas of Deployment shop-detector"),
        "{message}"
    );
}

#[rstest]
#[case::watched(None)]
#[case::missed(Some(WatchFault::Gone))]
#[tokio::test(flavor = "multi_thread")]
async fn deleted_pipeline_without_finalizer_is_forgotten(#[case] fault: Option<WatchFault>) {
    let server = server();
    let mut shop = server.get(SHOP).unwrap();
    shop["spec"]["kafka"]["deletionPolicy"] = "Retain".into();
    server.put(SHOP, shop);
    let (operator, stop) = (server.operator(), CancellationToken::new());
    let running = tokio::spawn(watch::run(Some("demo".into()), Arc::clone(&operator), stop.clone()));
    until("the pipeline to be registered", || !operator.scaler.known_in(None).is_empty()).await;
    server.watches(fault);
    let pipelines: Api<HerdPipeline> = Api::namespaced(server.client(), "demo");
    pipelines.delete("shop", &DeleteParams::default()).await.unwrap();
    server.watches(None);
    until("the pipeline to be forgotten", || operator.scaler.known_in(None).is_empty()).await;
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_server_gets_each_request_once() {
    let server = server();
    let operator = server.operator();
    reconcile_once(&server, &operator).await.unwrap();
    let quick = server.0.lock().calls.len();
    let all = server.objects();
    let slow = self::server();
    slow.0.lock().delay = Duration::from_millis(100);
    reconcile_once(&slow, &slow.operator()).await.unwrap();
    assert_eq!(slow.objects(), all);
    assert_eq!(slow.0.lock().calls.len(), quick);
}

#[tokio::test]
async fn pipeline_without_uid_fails_with_a_clear_error() {
    let server = server();
    let mut shop = server.get(SHOP).unwrap();
    shop["metadata"].as_object_mut().unwrap().remove("uid");
    let pipeline: HerdPipeline = serde_json::from_value(shop).unwrap();
    let error = reconcile(Arc::new(pipeline), server.operator()).await.unwrap_err();
    assert!(error.to_string().contains("metadata.uid"), "{error}");
    assert_eq!(server.0.lock().calls.len(), 0);
}
