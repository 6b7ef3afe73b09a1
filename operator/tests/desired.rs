//! The objects that a pipeline becomes, as snapshots; and what must not change them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use herd_operator::desired::{self, Object, Sized, Surroundings};
use herd_operator::kind::Kind;
use herd_operator::plan::{self, Doors};
use herd_operator::stage::stages;
use herd_spec::pipeline::HerdPipeline;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use rstest::rstest;

const SHOP: &str = "
apiVersion: herd.dev/v1alpha1
kind: HerdPipeline
metadata: {name: shop, namespace: default}
spec:
  kafka:
    bootstrapServers: [kafka:9092]
    tls: {ca: {name: kafka, key: ca.crt}}
    sasl: {mechanism: SCRAM-SHA-512, username: {name: kafka, key: user}, password: {name: kafka, key: password}}
  collector:
    auth: {keys: [{name: web, secretRef: {name: keys, key: web}}]}
    stage: {replicas: 2, resources: {requests: {cpu: 500m}, limits: {memory: 512Mi}}}
  metrics: [{name: views}]
  detectors: [{name: crowd, metric: views, algorithm: {poisson: {}}}]
  sinks:
    - name: store
      postgres: {url: {name: store, key: url}}
    - name: chat
      webhook: {urlFrom: {name: chat, key: url}}
  api: {token: {name: readers, key: token}}
";

fn pipeline(yaml: &str) -> HerdPipeline {
    serde_yaml::from_str(yaml).unwrap()
}

fn surroundings(pod_monitors: bool) -> Surroundings {
    Surroundings {
        pipeline: "shop".into(),
        namespace: "default".into(),
        owner: OwnerReference {
            api_version: "herd.dev/v1alpha1".into(),
            kind: "HerdPipeline".into(),
            name: "shop".into(),
            uid: "00000000-0000-0000-0000-000000000001".into(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        },
        image: "herd/worker:dev".into(),
        pull_secrets: vec!["registry".into()],
        doors: Doors::default(),
        pod_monitors,
    }
}

fn objects(yaml: &str, pod_monitors: bool) -> Vec<Object> {
    let plan = plan::of(&pipeline(yaml)).unwrap();
    let sized: Vec<Sized> = stages(&plan.plan)
        .into_iter()
        .map(|stage| Sized { replicas: stage.size.replicas, secrets: "secrets".into(), stage })
        .collect();
    desired::objects(&surroundings(pod_monitors), &sized).unwrap()
}

fn find<'o>(objects: &'o [Object], kind: Kind, name: &str) -> &'o Object {
    objects.iter().find(|object| object.kind == kind && object.name == name).unwrap()
}

#[test]
fn a_pipeline_becomes_these_objects() {
    let names: Vec<String> =
        objects(SHOP, true).iter().map(|object| format!("{} {}", object.kind.name(), object.name)).collect();
    insta::assert_yaml_snapshot!(names);
}

#[rstest]
#[case(Kind::Deployment, "shop-collector")]
#[case(Kind::Deployment, "shop-sink-store")]
#[case(Kind::Service, "shop-api")]
#[case(Kind::ServiceAccount, "shop-detector")]
#[case(Kind::NetworkPolicy, "shop-detector")]
#[case(Kind::PodDisruptionBudget, "shop-detector")]
#[case(Kind::PodMonitor, "shop-detector")]
fn an_object_is_written_so(#[case] kind: Kind, #[case] name: &str) {
    let all = objects(SHOP, true);
    insta::assert_yaml_snapshot!(format!("{}-{name}", kind.name()), find(&all, kind, name).body);
}

#[test]
fn a_door_is_there_when_it_is_asked_for() {
    let asked = SHOP.replace(
        "  collector:\n",
        "  collector:\n    ingress: {host: events.shop.example, className: nginx, tlsSecret: shop-tls, annotations: {a: b}}\n",
    );
    let plan = plan::of(&pipeline(&asked)).unwrap();
    let around = Surroundings { doors: plan.doors.clone(), ..surroundings(false) };
    let sized: Vec<Sized> = stages(&plan.plan)
        .into_iter()
        .map(|stage| Sized { replicas: 1, secrets: String::new(), stage })
        .collect();
    let all = desired::objects(&around, &sized).unwrap();
    let doors: Vec<&Object> = all.iter().filter(|object| object.kind == Kind::Ingress).collect();
    assert_eq!(doors.len(), 1);
    insta::assert_yaml_snapshot!("Ingress-shop-collector", doors[0].body);
}

#[test]
fn the_plan_in_a_config_map_is_a_plan() {
    let all = objects(SHOP, false);
    for stage in ["collector", "detector", "sink-store", "sink-chat", "api"] {
        let config_map = find(&all, Kind::ConfigMap, &format!("shop-{stage}"));
        let text = config_map.body["data"]["plan.json"].as_str().unwrap();
        let plan: herd_spec::plan::Plan = serde_json::from_str(text).unwrap();
        assert_eq!(plan.pipeline, "shop");
    }
}

/// The stages whose pods are started anew by a change of the spec.
fn rolled(change: (&str, &str)) -> Vec<String> {
    assert!(SHOP.contains(change.0), "{change:?}");
    let (before, after) = (objects(SHOP, false), objects(&SHOP.replace(change.0, change.1), false));
    let template = |object: &Object| object.body["spec"]["template"].clone();
    let deployments = before.iter().filter(|object| object.kind == Kind::Deployment);
    deployments
        .filter(|object| template(object) != template(find(&after, Kind::Deployment, &object.name)))
        .map(|object| object.name.clone())
        .collect()
}

#[rstest]
#[case::replicas(("replicas: 2", "replicas: 5"), &[])]
#[case::retention(("bootstrapServers: [kafka:9092]", "bootstrapServers: [kafka:9092]\n    retention: 2d"), &[])]
#[case::deletion(("bootstrapServers: [kafka:9092]", "bootstrapServers: [kafka:9092]\n    deletionPolicy: Delete"), &[])]
#[case::a_detector(("poisson: {}", "poisson: {warmup: 9}"), &["shop-detector", "shop-api"])]
#[case::a_key(("keys: [{name: web", "keys: [{eventsPerSecond: 9, name: web"), &["shop-collector", "shop-api"])]
#[case::a_sink(("urlFrom: {name: chat, key: url}", "url: 'https://chat.example/x'"), &["shop-sink-chat", "shop-api"])]
#[case::kafka(("kafka:9092", "kafka:9093"), &["shop-collector", "shop-detector", "shop-sink-store", "shop-sink-chat", "shop-api"])]
#[case::resources(("cpu: 500m", "cpu: 700m"), &["shop-collector"])]
fn a_change_starts_only_those_anew_whom_it_concerns(#[case] change: (&str, &str), #[case] stages: &[&str]) {
    assert_eq!(rolled(change), stages);
}

#[test]
fn a_rotated_secret_starts_its_readers_anew() {
    let plan = plan::of(&pipeline(SHOP)).unwrap();
    let with = |value: &str| {
        let stage = stages(&plan.plan).remove(0);
        let sized = Sized { replicas: 1, secrets: value.into(), stage };
        let all = desired::objects(&surroundings(false), &[sized]).unwrap();
        find(&all, Kind::Deployment, "shop-collector").body["spec"]["template"].clone()
    };
    assert_ne!(with("before"), with("after"));
}

#[test]
fn a_pipeline_without_kafka_is_refused() {
    let mut pipeline = pipeline(SHOP);
    pipeline.spec.kafka = None;
    let error = plan::of(&pipeline).unwrap_err().to_string();
    assert!(error.starts_with("spec.kafka: missing: on Kubernetes"), "{error}");
}

#[test]
fn a_store_in_a_file_is_refused() {
    let pipeline = pipeline(&SHOP.replace("postgres: {url: {name: store, key: url}}", "sqlite: {}"));
    let error = plan::of(&pipeline).unwrap_err().to_string();
    assert!(error.contains("spec.sinks[0].sqlite: is a file of one process"), "{error}");
}
