//! Deletion of a pipeline.

use std::collections::BTreeSet;

use herd_bus::Bus as _;
use herd_spec::pipeline::HerdPipeline;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use crate::env::{TestEnv, until};
use crate::topics::{kafka, shop};

async fn delete(env: &TestEnv) {
    env.api::<HerdPipeline>().delete("shop", &DeleteParams::default()).await.unwrap();
    until("the pipeline to go", async || match env.api::<HerdPipeline>().get_opt("shop").await.unwrap() {
        None => Ok(()),
        Some(pipeline) => Err(pipeline.metadata.finalizers),
    })
    .await;
    let params = ListParams::default().labels("herd.dev/pipeline=shop");
    until("its objects to go", async || {
        let deployments = env.api::<Deployment>().list(&params).await.unwrap().items.len();
        let plans = env.api::<ConfigMap>().list(&params).await.unwrap().items.len();
        if deployments + plans == 0 { Ok(()) } else { Err((deployments, plans)) }
    })
    .await;
}

#[tokio::test]
#[ignore = "needs HERD_TEST_KUBECONFIG and HERD_TEST_KAFKA: make test sets them"]
async fn topics_are_deleted_or_kept_by_policy_and_foreign_ones_kept() {
    for (policy, left) in [("Retain", 6), ("Delete", 1)] {
        let env = TestEnv::new(&format!("delete-{}", policy.to_lowercase())).await;
        env.secret("store", "url", "postgres://store").await;
        let mut pipeline = shop(&env);
        pipeline["spec"]["kafka"]["deletionPolicy"] = policy.into();
        let parsed: HerdPipeline = serde_json::from_value(pipeline.clone()).unwrap();
        let topics = herd_spec::plan::Plan::parse(&parsed).unwrap().topics;
        // One that the operator did not create.
        kafka().make_topics(std::slice::from_ref(&topics.alerts), &mut BTreeSet::new()).unwrap();
        env.apply(&pipeline).await.unwrap();
        env.await_reason("shop", "TopicsReady", "MatchesSpec").await;
        delete(&env).await;
        let names = topics.all().map(|topic| topic.name.as_str());
        let there = until("the topics", async || {
            let facts = kafka().topic_facts(&names).unwrap();
            if facts.len() == left { Ok(facts) } else { Err(facts.len()) }
        })
        .await;
        assert!(there.contains_key(&topics.alerts.name));
        kafka().ping(std::time::Duration::from_secs(5)).unwrap();
        env.end().await;
    }
}

#[tokio::test]
#[ignore = "needs HERD_TEST_KUBECONFIG: make test sets it"]
async fn unavailable_kafka_delays_deletion_for_a_minute_at_most() {
    let env = TestEnv::new("dead-kafka").await;
    env.secret("store", "url", "postgres://store").await;
    let mut pipeline = shop(&env);
    pipeline["spec"]["kafka"]["bootstrapServers"] = json!(["127.0.0.1:1"]);
    pipeline["spec"]["kafka"]["deletionPolicy"] = "Delete".into();
    env.apply(&pipeline).await.unwrap();
    env.await_reason("shop", "TopicsReady", "KafkaUnreachable").await;
    // As if they had been created while Kafka was available.
    let status =
        json!({"status": {"topics": [{"name": "lost", "partitions": 1, "replication": 1, "created": true}]}});
    let (api, patch) = (env.api::<HerdPipeline>(), kube::api::Patch::Merge(&status));
    api.patch_status("shop", &kube::api::PatchParams::default(), &patch).await.unwrap();
    let begun = std::time::Instant::now();
    env.api::<HerdPipeline>().delete("shop", &DeleteParams::default()).await.unwrap();
    let deadline = begun + std::time::Duration::from_secs(100);
    while env.api::<HerdPipeline>().get_opt("shop").await.unwrap().is_some() {
        assert!(std::time::Instant::now() < deadline, "still there");
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    println!("deleted after {:?}", begun.elapsed());
    let events = env.events("TopicsLeft").await;
    assert!(events.len() == 1 && events[0].contains("remain in Kafka"), "{events:?}");
    assert!(
        events[0].contains("lost") && events[0].contains("127.0.0.1:1 refuses the connection"),
        "{events:?}"
    );
    env.end().await;
}
