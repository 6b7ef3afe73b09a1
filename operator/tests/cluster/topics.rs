//! Topics on a real broker.

use std::time::Duration;

use herd_bus::Bus as _;
use herd_bus::kafka::{KafkaBus, KafkaSettings};
use serde_json::Value;

use crate::env::{TestEnv, example, until};

pub(crate) fn kafka() -> KafkaBus {
    let servers = std::env::var("HERD_TEST_KAFKA").expect("HERD_TEST_KAFKA=host:port");
    KafkaBus::connect(&KafkaSettings::plain(&servers, "test")).unwrap()
}

/// A shop with topics of its own.
pub(crate) fn shop(env: &TestEnv) -> Value {
    let mut pipeline = example("shop.yaml");
    pipeline["spec"]["kafka"]["topicPrefix"] = env.namespace.clone().into();
    pipeline
}

#[tokio::test]
#[ignore = "needs HERD_TEST_KUBECONFIG and HERD_TEST_KAFKA: make test sets them"]
async fn topics_are_created_grown_and_configured() {
    let env = TestEnv::new("topics").await;
    env.secret("store", "url", "postgres://store").await;
    let mut pipeline = shop(&env);
    env.apply(&pipeline).await.unwrap();
    env.await_reason("shop", "TopicsReady", "MatchesSpec").await;
    let (kafka, events) = (kafka(), format!("{}.events", env.namespace));
    assert_eq!(kafka.partitions(&events).unwrap(), 2);
    pipeline["spec"]["kafka"]["partitions"] = 5.into();
    pipeline["spec"]["kafka"]["retention"] = "2h".into();
    env.apply(&pipeline).await.unwrap();
    let ready = env.await_reason("shop", "TopicsReady", "Differ").await;
    assert!(ready.message.contains("parts keeps 2 partitions instead of 5"), "{}", ready.message);
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
    let events = env.events("TopicsCreated").await.join(", ");
    assert_eq!(events.matches(" (").count(), 6, "{events}");
    env.end().await;
}

#[tokio::test]
#[ignore = "needs HERD_TEST_KUBECONFIG: make test sets it"]
async fn objects_are_kept_and_condition_is_false_without_kafka() {
    let env = TestEnv::new("no-kafka").await;
    env.secret("store", "url", "postgres://store").await;
    let mut pipeline = shop(&env);
    pipeline["spec"]["kafka"]["bootstrapServers"] = serde_json::json!(["127.0.0.1:1"]);
    env.apply(&pipeline).await.unwrap();
    let ready = env.await_reason("shop", "TopicsReady", "KafkaUnreachable").await;
    assert!(ready.message.contains("does not answer"), "{}", ready.message);
    let again = std::time::Instant::now();
    let api = env.api::<k8s_openapi::api::apps::v1::Deployment>();
    api.delete("shop-collector", &kube::api::DeleteParams::default()).await.unwrap();
    until("the collector", async || env.deployment("shop-collector").await.ok_or(())).await;
    assert!(again.elapsed() < Duration::from_secs(20), "{:?}", again.elapsed());
    env.end().await;
}
