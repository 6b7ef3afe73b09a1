//! Two operators: one leads, the other takes over.

use std::time::Instant;

use k8s_openapi::api::coordination::v1::Lease;

use crate::bed::{Bed, example, until};

async fn holder(bed: &Bed) -> Option<String> {
    let lease = bed.api::<Lease>().get_opt("herd-operator").await.unwrap()?;
    lease.spec?.holder_identity
}

async fn await_holder(bed: &Bed, wanted: &str) {
    until(&format!("{wanted} to lead"), async || {
        let holder = holder(bed).await;
        if holder.as_deref() == Some(wanted) { Ok(()) } else { Err(holder) }
    })
    .await;
}

#[tokio::test]
#[ignore = "needs HERD_TEST_KUBECONFIG: make test sets it"]
async fn the_second_takes_over_when_the_first_stops_and_when_it_is_killed() {
    let bed = Bed::bare("lease").await;
    bed.secret("store", "url", "postgres://store").await;
    let first = bed.operator("first").await;
    await_holder(&bed, "first").await;
    let second = bed.operator("second").await;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(holder(&bed).await.as_deref(), Some("first"));
    let stopped = Instant::now();
    first.end().await.unwrap();
    await_holder(&bed, "second").await;
    println!("taken over {:?} after a stop", stopped.elapsed());
    let third = bed.operator("third").await;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let killed = Instant::now();
    second.kill().await;
    await_holder(&bed, "third").await;
    println!("taken over {:?} after a kill", killed.elapsed());
    bed.apply(&example("shop.yaml")).await.unwrap();
    until("the collector", async || bed.deployment("shop-collector").await.ok_or(())).await;
    third.end().await.unwrap();
    bed.end().await;
}
