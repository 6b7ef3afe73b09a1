//! Topics on a real broker.

use std::time::Duration;

use herd_bus::Bus as _;
use herd_bus::kafka::{KafkaBus, KafkaSettings};
use serde_json::Value;

use crate::bed::{Bed, example, until};

pub(crate) fn kafka() -> KafkaBus {
    let servers = std::env::var("HERD_TEST_KAFKA").expect("HERD_TEST_KAFKA=host:port");
    KafkaBus::connect(&KafkaSettings::plain(&servers, "test")).unwrap()
}

/// A shop whose topics nobody else has.
pub(crate) fn shop(bed: &Bed) -> Value {
    let mut pipeline = example("shop.yaml");
    pipeline["spec"]["kafka"]["topicPrefix"] = bed.namespace.clone().into();
    pipeline
}

#[tokio::test]
#[ignore = "needs HERD_TEST_KUBECONFIG and HERD_TEST_KAFKA: make test sets them"]
async fn topics_are_made_grown_and_their_settings_put_right() {
    let bed = Bed::new("topics").await;
    bed.secret("store", "url", "postgres://store").await;
    let mut pipeline = shop(&bed);
    bed.apply(&pipeline).await.unwrap();
    bed.await_reason("shop", "TopicsReady", "AsAsked").await;
    let (kafka, events) = (kafka(), format!("{}.events", bed.namespace));
    assert_eq!(kafka.partitions(&events).unwrap(), 2);
    pipeline["spec"]["kafka"]["partitions"] = 5.into();
    pipeline["spec"]["kafka"]["retention"] = "2h".into();
    bed.apply(&pipeline).await.unwrap();
    let ready = bed.await_reason("shop", "TopicsReady", "Differ").await;
    assert!(ready.message.contains("parts keeps its 2 partitions (5 are asked for)"), "{}", ready.message);
    until("five partitions and the retention", async || {
        let facts = kafka.topic_facts(&[&events]).unwrap().remove(&events).unwrap();
        let retention = facts.config.get("retention.ms").cloned();
        if facts.partitions == 5 && retention.as_deref() == Some("7200000") {
            Ok(())
        } else {
            Err((facts.partitions, retention))
        }
    })
    .await;
    let told = bed.events("TopicsCreated").await.join(", ");
    assert_eq!(told.matches(" (").count(), 6, "{told}");
    bed.end().await;
}

#[tokio::test]
#[ignore = "needs HERD_TEST_KUBECONFIG: make test sets it"]
async fn without_kafka_the_condition_says_so_and_objects_are_kept_all_the_same() {
    let bed = Bed::new("no-kafka").await;
    bed.secret("store", "url", "postgres://store").await;
    let mut pipeline = shop(&bed);
    pipeline["spec"]["kafka"]["bootstrapServers"] = serde_json::json!(["127.0.0.1:1"]);
    bed.apply(&pipeline).await.unwrap();
    let ready = bed.await_reason("shop", "TopicsReady", "KafkaUnreachable").await;
    assert!(ready.message.contains("does not answer"), "{}", ready.message);
    let again = std::time::Instant::now();
    let api = bed.api::<k8s_openapi::api::apps::v1::Deployment>();
    api.delete("shop-collector", &kube::api::DeleteParams::default()).await.unwrap();
    until("the collector", async || bed.deployment("shop-collector").await.ok_or(())).await;
    assert!(again.elapsed() < Duration::from_secs(20), "{:?}", again.elapsed());
    bed.end().await;
}
