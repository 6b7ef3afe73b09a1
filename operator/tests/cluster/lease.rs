//! Leader election between operators.

use std::time::Instant;

use k8s_openapi::api::coordination::v1::Lease;

use crate::env::{TestEnv, example, until};

async fn holder(env: &TestEnv) -> Option<String> {
    let lease = env.api::<Lease>().get_opt("herd-operator").await.unwrap()?;
    lease.spec?.holder_identity
}

async fn await_holder(env: &TestEnv, wanted: &str) {
    until(&format!("{wanted} to lead"), async || {
        let holder = holder(env).await;
        if holder.as_deref() == Some(wanted) { Ok(()) } else { Err(holder) }
    })
    .await;
}

#[tokio::test]
#[ignore = "needs HERD_TEST_KUBECONFIG: make test sets it"]
async fn next_operator_leads_after_a_stop_and_after_a_kill() {
    let env = TestEnv::without_operator("lease").await;
    env.secret("store", "url", "postgres://store").await;
    let first = env.operator("first").await;
    await_holder(&env, "first").await;
    let second = env.operator("second").await;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(holder(&env).await.as_deref(), Some("first"));
    let stopped = Instant::now();
    first.end().await.unwrap();
    await_holder(&env, "second").await;
    println!("next leader {:?} after a stop", stopped.elapsed());
    let third = env.operator("third").await;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let killed = Instant::now();
    second.kill().await;
    await_holder(&env, "third").await;
    println!("next leader {:?} after a kill", killed.elapsed());
    env.apply(&example("shop.yaml")).await.unwrap();
    until("the collector", async || env.deployment("shop-collector").await.ok_or(())).await;
    third.end().await.unwrap();
    env.end().await;
}
