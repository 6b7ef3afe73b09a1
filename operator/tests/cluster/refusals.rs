//! What the API server refuses, with the words that say what to write instead; and what is taken that is right.

use herd_spec::pipeline::HerdPipeline;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::bed::{Bed, example};

/// A spec with one field changed (a JSON pointer), and words of the answer.
fn cases() -> Vec<(&'static str, Value, &'static str)> {
    vec![
        ("/spec/kafka", Value::Null, "on Kubernetes there is no embedded broker"),
        ("/spec/kafka/bootstrapServers", json!([]), "write at least one `host:port`"),
        ("/spec/kafka/bootstrapServers/0", json!("kafka"), "write `host:port`, e.g. `kafka:9092`"),
        ("/spec/kafka/topicPrefix", json!("a b"), "cannot begin the name of a topic"),
        ("/spec/kafka/tls", json!({"certificate": {"name": "a", "key": "b"}}), "write both or neither"),
        ("/spec/kafka/config", json!({"retention.ms": "5"}), "is set by `retention`"),
        ("/spec/kafka/config", json!({"cleanup.policy": "compact"}), "differs from topic to topic"),
        (
            "/spec/kafka/sasl",
            json!({"mechanism": "PLAIN", "username": {"name": "a", "key": "b"}, "password": {"name": "a", "key": "b"}}),
            "add `tls`, or write `SCRAM-SHA-512`",
        ),
        ("/spec/events/maxLateness", json!("11m"), "must be from 0s to 10m"),
        ("/spec/events/types", json!([""]), "write the name of a type, or remove it"),
        ("/spec/events/key", json!("a..b"), "names joined by single dots"),
        ("/spec/collector", json!({"auth": {"keys": []}}), "nobody could write"),
        ("/spec/collector", json!({"cors": {"origins": ["shop.example"]}}), "write scheme and host"),
        ("/spec/collector", json!({"trustedProxies": ["10.0.0.1"]}), "write a CIDR"),
        ("/spec/collector", json!({"trustedProxies": ["10.0.0.300/8"]}), "write a CIDR"),
        ("/spec/collector", json!({"trustedProxies": ["10.0.0.0/33"]}), "write a CIDR"),
        ("/spec/collector", json!({"trustedProxies": ["2001:db8::/129"]}), "write a CIDR"),
        ("/spec/events/maxAge", json!("5m"), "must be 0s, for no bound, or from 10m"),
        ("/spec/collector", json!({"limits": {"inflatedBytes": 1024}}), "raise it"),
        ("/spec/collector", json!({"limits": {"ackTimeout": "11m"}}), "must be from 100ms to 10m"),
        ("/spec/collector", json!({"ingress": {"host": "Shop!"}}), "is not a host: write"),
        ("/spec/api", json!({"ingress": {"host": "a.example", "path": "x"}}), "begin it with `/`"),
        ("/spec/metrics/0/name", json!("Views"), "is not a name"),
        ("/spec/metrics/0/window", json!("11m"), "must be whole seconds from 1s to 10m"),
        ("/spec/metrics/0/emit", json!("3s"), "from 100ms to the length of the window"),
        ("/spec/metrics/0/key", json!([]), "name the field whose values are counted"),
        ("/spec/metrics/0/aggregate", json!({"field": "price"}), "has no meaning for `count`"),
        ("/spec/metrics/0/aggregate", json!({"function": "sum"}), "name the field of which"),
        ("/spec/metrics/0/events", json!({"where": [{"field": "a"}]}), "exactly one of `in`"),
        ("/spec/detectors/0/metric", json!("clicks"), "write the name of one of spec.metrics"),
        ("/spec/detectors/0/algorithm", json!({}), "must have exactly one of `threshold`"),
        ("/spec/detectors/0/algorithm", json!({"threshold": {}}), "must have `above`, `below` or both"),
        ("/spec/detectors/0/algorithm", json!({"threshold": {"above": 1, "below": 2}}), "swap them"),
        ("/spec/detectors/0/algorithm", json!({"ewma": {"sigmas": 0}}), "must be more than 0"),
        ("/spec/detectors/0/algorithm", json!({"poisson": {"probability": 0.5}}), "at most 0.1"),
        ("/spec/detectors/0/metric", json!("revenue"), "`poisson` is for counts"),
        ("/spec/sinks/0", json!({"name": "a", "sqlite": {}}), "on Kubernetes write `postgres"),
        ("/spec/sinks/0", json!({"name": "a", "druid": {"url": "http://d"}}), "druid is reserved"),
        ("/spec/sinks/0", json!({"name": "a"}), "must have exactly one of `postgres`, `webhook`"),
        ("/spec/sinks/0", json!({"name": "a", "webhook": {}}), "exactly one of `url` and `urlFrom`"),
        ("/spec/sinks/0", json!({"name": "a", "webhook": {"url": "chat"}}), "write `https://host/path`"),
        ("/spec/detection", json!({"scaling": {"min": 5, "max": 2}}), "lower `min` or raise `max`"),
        ("/spec/detection", json!({"resources": {"requests": {"cpu": "much"}}}), "is not a quantity"),
        (
            "/spec/detection",
            json!({"resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "900m"}}}),
            "a request must not be more than its limit",
        ),
        ("/spec/detection", json!({"resources": {"requests": {"cpus": "1"}}}), "names what is no resource"),
        ("/spec/api/store", json!("archive"), "not the name of a postgres sink"),
        ("/spec/sinks/1", json!({"name": "history", "webhook": {"url": "http://a"}}), "uplicate"),
        ("/metadata/name", json!("9lives"), "metadata.name is not a name"),
    ]
}

fn changed(pointer: &str, value: &Value) -> Value {
    let mut pipeline = example("shop.yaml");
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    match pipeline.pointer_mut(parent).unwrap() {
        Value::Array(items) => {
            let at: usize = field.parse().unwrap();
            items.truncate(at.max(1));
            if at < items.len() { items[at] = value.clone() } else { items.push(value.clone()) }
        }
        Value::Object(map) if value.is_null() => drop(map.remove(field)),
        Value::Object(map) => drop(map.insert(field.into(), value.clone())),
        other => panic!("{parent} is {other}"),
    }
    if pointer.starts_with("/spec/sinks/0") {
        pipeline["spec"]["detectors"] = json!([]);
    }
    pipeline
}

#[tokio::test]
#[ignore = "needs HERD_TEST_KUBECONFIG: make test sets it"]
async fn a_spec_that_cannot_be_is_refused_with_what_to_write_instead() {
    let bed = Bed::bare("refused").await;
    let mut lost = Vec::new();
    for (pointer, value, words) in cases() {
        let pipeline = changed(pointer, &value);
        let dry = PatchParams::apply("person").dry_run();
        let name = pipeline["metadata"]["name"].as_str().unwrap();
        match bed.api::<HerdPipeline>().patch(name, &dry, &Patch::Apply(&pipeline)).await {
            Err(kube::Error::Api(status)) if status.message.contains(words) => {}
            Err(error) => lost.push(format!("{pointer} = {value}: {error}")),
            Ok(_) => lost.push(format!("{pointer} = {value} was taken")),
        }
    }
    assert!(lost.is_empty(), "{} of {}:\n{}", lost.len(), cases().len(), lost.join("\n"));
    println!("{} specs were refused with the right words", cases().len());
    bed.end().await;
}

#[tokio::test]
#[ignore = "needs HERD_TEST_KUBECONFIG: make test sets it"]
async fn partitions_only_grow() {
    let bed = Bed::bare("grow").await;
    let mut pipeline = example("shop.yaml");
    pipeline["spec"]["kafka"]["detectorPartitions"] = 2.into();
    for partitions in [2, 4] {
        pipeline["spec"]["kafka"]["partitions"] = partitions.into();
        bed.apply(&pipeline).await.unwrap();
    }
    for (field, value, words) in [("partitions", 3, "never shrink"), ("detectorPartitions", 4, "fixed when")]
    {
        let mut less = pipeline.clone();
        less["spec"]["kafka"][field] = value.into();
        let error = bed.apply(&less).await.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    bed.end().await;
}

#[tokio::test]
#[ignore = "needs HERD_TEST_KUBECONFIG: make test sets it"]
async fn what_only_we_can_see_becomes_a_condition() {
    let bed = Bed::new("invalid").await;
    let mut pipeline = example("shop.yaml");
    pipeline["spec"]["kafka"]["retention"] = "1s".into();
    bed.apply(&pipeline).await.unwrap();
    let stalled = bed.await_reason("shop", "Stalled", "Invalid").await;
    assert_eq!(stalled.status, "True");
    assert_eq!(stalled.message, "spec.kafka.retention: is 1s, must be from 1h to 3650d");
    pipeline["spec"]["kafka"]["retention"] = "1d".into();
    bed.secret("store", "url", "postgres://store").await;
    bed.apply(&pipeline).await.unwrap();
    crate::bed::until("it to go on", async || {
        let stalled = bed.condition("shop", "Stalled").await.unwrap();
        if stalled.status == "False" { Ok(()) } else { Err(stalled) }
    })
    .await;
    bed.end().await;
}
