//! The end of a pipeline.

use std::collections::BTreeSet;

use herd_bus::Bus as _;
use herd_spec::pipeline::HerdPipeline;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use crate::bed::{Bed, until};
use crate::topics::{kafka, shop};

async fn delete(bed: &Bed) {
    bed.api::<HerdPipeline>().delete("shop", &DeleteParams::default()).await.unwrap();
    until("the pipeline to go", async || match bed.api::<HerdPipeline>().get_opt("shop").await.unwrap() {
        None => Ok(()),
        Some(pipeline) => Err(pipeline.metadata.finalizers),
    })
    .await;
    let ours = ListParams::default().labels("herd.dev/pipeline=shop");
    until("its objects to go", async || {
        let deployments = bed.api::<Deployment>().list(&ours).await.unwrap().items.len();
        let plans = bed.api::<ConfigMap>().list(&ours).await.unwrap().items.len();
        if deployments + plans == 0 { Ok(()) } else { Err((deployments, plans)) }
    })
    .await;
}

#[tokio::test]
#[ignore = "needs HERD_TEST_KUBECONFIG and HERD_TEST_KAFKA: make test sets them"]
async fn topics_go_or_stay_as_the_policy_says_and_those_of_others_stay() {
    for (policy, left) in [("Retain", 6), ("Delete", 1)] {
        let bed = Bed::new(&format!("delete-{}", policy.to_lowercase())).await;
        bed.secret("store", "url", "postgres://store").await;
        let mut pipeline = shop(&bed);
        pipeline["spec"]["kafka"]["deletionPolicy"] = policy.into();
        let parsed: HerdPipeline = serde_json::from_value(pipeline.clone()).unwrap();
        let topics = herd_spec::plan::Plan::parse(&parsed).unwrap().topics;
        // One that we did not make.
        kafka().make_topics(std::slice::from_ref(&topics.alerts), &mut BTreeSet::new()).unwrap();
        bed.apply(&pipeline).await.unwrap();
        bed.await_reason("shop", "TopicsReady", "AsAsked").await;
        delete(&bed).await;
        let names = topics.all().map(|topic| topic.name.as_str());
        let there = until("the topics", async || {
            let facts = kafka().topic_facts(&names).unwrap();
            if facts.len() == left { Ok(facts) } else { Err(facts.len()) }
        })
        .await;
        assert!(there.contains_key(&topics.alerts.name));
        kafka().ping(std::time::Duration::from_secs(5)).unwrap();
        bed.end().await;
    }
}

#[tokio::test]
#[ignore = "needs HERD_TEST_KUBECONFIG: make test sets it"]
async fn a_dead_kafka_holds_a_pipeline_for_a_minute_at_most() {
    let bed = Bed::new("dead-kafka").await;
    bed.secret("store", "url", "postgres://store").await;
    let mut pipeline = shop(&bed);
    pipeline["spec"]["kafka"]["bootstrapServers"] = json!(["127.0.0.1:1"]);
    pipeline["spec"]["kafka"]["deletionPolicy"] = "Delete".into();
    bed.apply(&pipeline).await.unwrap();
    bed.await_reason("shop", "TopicsReady", "KafkaUnreachable").await;
    // As if they had been made while Kafka was there.
    let status =
        json!({"status": {"topics": [{"name": "lost", "partitions": 1, "replication": 1, "created": true}]}});
    let (api, patch) = (bed.api::<HerdPipeline>(), kube::api::Patch::Merge(&status));
    api.patch_status("shop", &kube::api::PatchParams::default(), &patch).await.unwrap();
    let begun = std::time::Instant::now();
    bed.api::<HerdPipeline>().delete("shop", &DeleteParams::default()).await.unwrap();
    let deadline = begun + std::time::Duration::from_secs(100);
    while bed.api::<HerdPipeline>().get_opt("shop").await.unwrap().is_some() {
        assert!(std::time::Instant::now() < deadline, "still there");
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    println!("gone after {:?}", begun.elapsed());
    let told = bed.events("TopicsLeft").await;
    assert!(told.len() == 1 && told[0].contains("the topics stay"), "{told:?}");
    assert!(told[0].contains("lost") && told[0].contains("127.0.0.1:1 refuses the connection"), "{told:?}");
    bed.end().await;
}
