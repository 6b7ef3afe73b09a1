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
        ("/spec/kafka/retention", json!("0s"), "must be from 1h to 3650d"),
        ("/spec/kafka/retention", json!("59m59s"), "must be from 1h to 3650d"),
        ("/spec/kafka/retention", json!("3650d1s"), "must be from 1h to 3650d"),
        ("/spec/kafka/retention", json!("999999999d"), "must be from 1h to 3650d"),
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
        ("/spec/detection", json!({"scaling": {"catchUp": "4s"}}), "must be from 5s to 1d"),
        ("/spec/detection", json!({"scaling": {"stabilisation": "2d"}}), "must be from 0s to 1d"),
        ("/spec/detection", floor("0 25 * * *", "1h", 1, "UTC"), "is not a schedule"),
        ("/spec/detection", floor("60 8 * * *", "1h", 1, "UTC"), "is not a schedule"),
        ("/spec/detection", floor("0 8 * *", "1h", 1, "UTC"), "is not a schedule"),
        ("/spec/detection", floor("0 8 * * someday", "1h", 1, "UTC"), "is not a schedule"),
        ("/spec/detection", floor("0 8 */0 * *", "1h", 1, "UTC"), "is not a schedule"),
        ("/spec/detection", floor("0 8 * * *", "0s", 1, "UTC"), "must be from 1m to 1d"),
        ("/spec/detection", floor("0 8 * * *", "25h", 1, "UTC"), "must be from 1m to 1d"),
        ("/spec/detection", floor("0 8 * * *", "1h", 13, "UTC"), "`min` of a floor must not be more"),
        ("/spec/detection", floor("0 8 * * *", "1h", 1, "Europe Berlin"), "is not a time zone"),
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

fn floor(schedule: &str, lasts: &str, min: u32, zone: &str) -> Value {
    json!({"scaling": {"floors": [{"schedule": schedule, "for": lasts, "min": min, "timeZone": zone}]}})
}

/// Fields with what only just is right.
fn rights() -> Vec<(&'static str, Value)> {
    vec![
        ("/spec/kafka/retention", json!("1h")),
        ("/spec/kafka/retention", json!("3600s")),
        ("/spec/kafka/retention", json!("3650d")),
        ("/spec/kafka/retention", json!("1d12h30m")),
        ("/spec/detection", json!({"scaling": {"catchUp": "1d", "stabilisation": "0s"}})),
        (
            "/spec/detection",
            floor("*/15,3 0-23/2 1,31 JAN-dec mon-fri", "1d", 12, "America/Argentina/Ushuaia"),
        ),
        ("/spec/detection", floor("059 08 1 12 7", "60s", 1, "Etc/GMT+1")),
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
    for (pointer, value) in rights() {
        let pipeline = changed(pointer, &value);
        let dry = PatchParams::apply("person").dry_run();
        let taken = bed.api::<HerdPipeline>().patch("shop", &dry, &Patch::Apply(&pipeline)).await;
        let parsed: HerdPipeline = serde_json::from_value(pipeline).unwrap();
        if let Err(error) = taken {
            lost.push(format!("{pointer} = {value}: {error}"));
        } else if let Err(problems) = herd_spec::plan::Plan::parse(&parsed) {
            lost.push(format!("{pointer} = {value} is taken, and then refused: {problems:?}"));
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
async fn another_topic_prefix_is_refused_with_what_to_do_instead() {
    let bed = Bed::bare("prefix").await;
    let mut named = example("shop.yaml");
    named["spec"]["kafka"]["topicPrefix"] = "old".into();
    let unnamed = example("shop.yaml");
    let with = |prefix: &str| {
        let mut pipeline = named.clone();
        pipeline["spec"]["kafka"]["topicPrefix"] = prefix.into();
        pipeline
    };
    let refused = async |pipeline: &Value, what: &str| {
        let error = bed.apply(pipeline).await.expect_err(what).to_string();
        assert!(error.contains("spec.kafka.topicPrefix cannot be changed"), "{what}: {error}");
        assert!(error.contains("Create a second pipeline with another name and the new prefix"), "{error}");
    };
    bed.apply(&named).await.unwrap();
    refused(&with("new"), "another prefix").await;
    refused(&unnamed, "no prefix: then it is the pipeline's name").await;
    // The rule is about the prefix alone: what else is changed beside the same prefix is taken.
    let mut more = named.clone();
    more["spec"]["kafka"]["partitions"] = 4.into();
    bed.apply(&more).await.unwrap();
    // Deleted and created again, it may have any.
    bed.api::<HerdPipeline>().delete("shop", &Default::default()).await.unwrap();
    crate::bed::until("the pipeline to be gone", async || {
        match bed.api::<HerdPipeline>().get_opt("shop").await.unwrap() {
            None => Ok(()),
            Some(there) => Err(there.metadata.deletion_timestamp),
        }
    })
    .await;
    bed.apply(&unnamed).await.unwrap();
    refused(&with("new"), "a prefix where there was none").await;
    // What counts is the effective prefix: the pipeline's own name written out is no change.
    bed.apply(&with("shop")).await.unwrap();
    bed.apply(&unnamed).await.unwrap();
    bed.end().await;
}

#[tokio::test]
#[ignore = "needs HERD_TEST_KUBECONFIG: make test sets it"]
async fn what_only_we_can_see_becomes_a_condition() {
    let bed = Bed::new("invalid").await;
    let mut pipeline = example("shop.yaml");
    // The API server can look neither into a JSON Schema nor into the list of time zones.
    pipeline["spec"]["events"]["schema"] = json!({"properties": {"price": {"type": "money"}}});
    pipeline["spec"]["detection"] = floor("0 8 * * *", "1h", 1, "Mars");
    bed.apply(&pipeline).await.unwrap();
    let stalled = bed.await_reason("shop", "Stalled", "Invalid").await;
    assert_eq!(stalled.status, "True");
    for words in [
        "spec.events.schema.properties.price.type: is not a JSON Schema: ",
        "spec.detection.scaling.floors[0].timeZone: `Mars` is not a time zone",
    ] {
        assert!(stalled.message.contains(words), "{words}: {}", stalled.message);
    }
    pipeline["spec"]["events"].as_object_mut().unwrap().remove("schema");
    pipeline["spec"].as_object_mut().unwrap().remove("detection");
    bed.secret("store", "url", "postgres://store").await;
    bed.apply(&pipeline).await.unwrap();
    crate::bed::until("it to go on", async || {
        let stalled = bed.condition("shop", "Stalled").await.unwrap();
        if stalled.status == "False" { Ok(()) } else { Err(stalled) }
    })
    .await;
    bed.end().await;
}
