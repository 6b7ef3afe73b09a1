//! The objects of a pipeline, as snapshots; and which changes of the spec replace pods.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use herd_operator::desired::{self, Object, PipelineContext, ScaledStage};
use herd_operator::identity::PipelineIdentity;
use herd_operator::kind::Kind;
use herd_operator::plan::{self, Ingresses};
use herd_operator::stage::stages;
use herd_spec::pipeline::HerdPipeline;
use rstest::rstest;

const SHOP: &str = "
apiVersion: herd.dev/v1alpha1
kind: HerdPipeline
metadata: {name: shop, namespace: default, uid: 00000000-0000-0000-0000-000000000001}
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

fn context(pod_monitors: bool) -> PipelineContext {
    PipelineContext {
        identity: PipelineIdentity::of(&pipeline(SHOP)).unwrap(),
        image: "herd/worker:dev".into(),
        pull_secrets: vec!["registry".into()],
        ingresses: Ingresses::default(),
        pod_monitors,
    }
}

fn objects(yaml: &str, pod_monitors: bool) -> Vec<Object> {
    let plan = plan::of(&pipeline(yaml)).unwrap();
    let scaled: Vec<ScaledStage> = stages(&plan.plan)
        .into_iter()
        .map(|stage| ScaledStage { replicas: stage.size.replicas, secrets: "secrets".into(), stage })
        .collect();
    desired::objects(&context(pod_monitors), &scaled).unwrap()
}

fn find<'o>(objects: &'o [Object], kind: Kind, name: &str) -> &'o Object {
    objects.iter().find(|object| object.kind == kind && object.name == name).unwrap()
}

#[test]
fn pipeline_has_all_objects() {
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
fn object_matches_its_snapshot(#[case] kind: Kind, #[case] name: &str) {
    let all = objects(SHOP, true);
    insta::assert_yaml_snapshot!(format!("{}-{name}", kind.name()), find(&all, kind, name).body);
}

#[test]
fn ingress_exists_if_the_spec_has_one() {
    let spec = SHOP.replace(
        "  collector:\n",
        "  collector:\n    ingress: {host: events.shop.example, className: nginx, tlsSecret: shop-tls, annotations: {a: b}}\n",
    );
    let plan = plan::of(&pipeline(&spec)).unwrap();
    let context = PipelineContext { ingresses: plan.ingresses.clone(), ..context(false) };
    let scaled: Vec<ScaledStage> = stages(&plan.plan)
        .into_iter()
        .map(|stage| ScaledStage { replicas: 1, secrets: String::new(), stage })
        .collect();
    let all = desired::objects(&context, &scaled).unwrap();
    let ingresses: Vec<&Object> = all.iter().filter(|object| object.kind == Kind::Ingress).collect();
    assert_eq!(ingresses.len(), 1);
    insta::assert_yaml_snapshot!("Ingress-shop-collector", ingresses[0].body);
}

#[test]
fn config_map_contains_a_valid_plan() {
    let all = objects(SHOP, false);
    for stage in ["collector", "detector", "sink-store", "sink-chat", "api"] {
        let config_map = find(&all, Kind::ConfigMap, &format!("shop-{stage}"));
        let text = config_map.body["data"]["plan.json"].as_str().unwrap();
        let plan: herd_spec::plan::Plan = serde_json::from_str(text).unwrap();
        assert_eq!(plan.pipeline, "shop");
    }
}

/// The Deployments whose pods a change of the spec replaces.
fn replaced(change: (&str, &str)) -> Vec<String> {
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
fn change_replaces_only_pods_of_stages_that_depend_on_it(
    #[case] change: (&str, &str),
    #[case] stages: &[&str],
) {
    assert_eq!(replaced(change), stages);
}

#[test]
fn new_secret_value_replaces_pods() {
    let plan = plan::of(&pipeline(SHOP)).unwrap();
    let with = |value: &str| {
        let stage = stages(&plan.plan).remove(0);
        let scaled = ScaledStage { replicas: 1, secrets: value.into(), stage };
        let all = desired::objects(&context(false), &[scaled]).unwrap();
        find(&all, Kind::Deployment, "shop-collector").body["spec"]["template"].clone()
    };
    assert_ne!(with("before"), with("after"));
}

#[test]
fn rejects_a_pipeline_without_kafka() {
    let mut pipeline = pipeline(SHOP);
    pipeline.spec.kafka = None;
    let error = plan::of(&pipeline).unwrap_err().to_string();
    assert!(error.starts_with("spec.kafka: missing: on Kubernetes"), "{error}");
}

#[test]
fn rejects_a_sqlite_sink() {
    let pipeline = pipeline(&SHOP.replace("postgres: {url: {name: store, key: url}}", "sqlite: {}"));
    let error = plan::of(&pipeline).unwrap_err().to_string();
    assert!(error.contains("spec.sinks[0].sqlite: is a file of one process"), "{error}");
}
