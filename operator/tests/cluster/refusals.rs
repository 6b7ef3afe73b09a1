//! What the API server refuses, with the words that say what to write instead; and what is taken that is right.

use herd_spec::pipeline::HerdPipeline;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::bed::{Bed, example};

#[path = "../../../spec/tests/rules/table.rs"]
mod table;

use table::{Table, changed};

#[tokio::test]
#[ignore = "needs HERD_TEST_KUBECONFIG: make test sets it"]
async fn api_server_answers_each_case_of_the_table_of_rules_as_it_says() {
    let bed = Bed::bare("refused").await;
    let apply = async |set| {
        let mut pipeline = changed(set);
        pipeline["metadata"].as_object_mut().unwrap().remove("namespace");
        let name = pipeline["metadata"]["name"].as_str().unwrap();
        let dry = PatchParams::apply("person").dry_run();
        bed.api::<HerdPipeline>().patch(name, &dry, &Patch::Apply(&pipeline)).await
    };
    let (table, mut wrong) = (Table::read(), Vec::new());
    for case in &table.refused {
        let set = &case.set;
        match (apply(set).await, &case.server) {
            (Ok(_), None) => {}
            (Err(kube::Error::Api(status)), Some(words)) if status.message.contains(words) => {}
            (Ok(_), Some(words)) => {
                wrong.push(format!("{set:?} was accepted, and not refused with `{words}`"))
            }
            (Err(error), _) => wrong.push(format!("{set:?}: {error}")),
        }
    }
    for case in &table.accepted {
        if let Err(error) = apply(&case.set).await {
            wrong.push(format!("{:?}: {error}", case.set));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), table.refused.len(), wrong.join("\n"));
    println!("{} cases were answered as the table says", table.refused.len() + table.accepted.len());
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
    pipeline["spec"]["detection"] = json!({"scaling": {"floors": [{"schedule": "0 8 * * *", "for": "1h", "min": 1, "timeZone": "Mars"}]}});
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
