//! The first proof that counting is exact: 200,000 events, of them 5 % sent twice and 2 % invalid, out of order within the
//! lateness, over real Kafka with 6 partitions into real PostgreSQL, with one detector and one sink killed (SIGKILL) and
//! replaced on the way. In the end
//! - every accepted event is in `user_events`, once;
//! - every closed window equals a recomputation from the events themselves, by code that shares nothing with the pipeline;
//! - the dead letters are the invalid events, byte for byte.
//!
//! Needs `HERD_TEST_KAFKA=host:port` and `HERD_TEST_POSTGRES=postgres://…`; `EXACT_EVENTS` sets another number of events.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, missing_docs)]

mod pipeline;
mod script;
mod verdict;

use std::time::{Duration, Instant};

use pipeline::Pipeline;
use script::Script;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs HERD_TEST_KAFKA and HERD_TEST_POSTGRES: make test sets them"]
async fn every_event_is_counted_and_stored_once_though_stages_are_killed() {
    let events =
        std::env::var("EXACT_EVENTS").map_or(200_000, |n| n.parse().expect("EXACT_EVENTS is a number"));
    let script = Script::new(events, 20_261_121);
    let mut pipeline = Pipeline::start().await;
    let begun = Instant::now();
    let (kill_detector, kill_sink) = (script.batches.len() * 2 / 5, script.batches.len() * 3 / 5);
    for (at, batch) in script.batches.iter().enumerate() {
        if at == kill_detector {
            pipeline.replace("detector-0");
        }
        if at == kill_sink {
            pipeline.replace("sink-0");
        }
        pipeline.post(batch).await;
    }
    let sent = begun.elapsed();
    let verdict = pipeline.settle(&script, Duration::from_secs(180)).await;
    eprintln!(
        "{} events in {} requests, posted in {sent:.1?}, all stored and closed after {:.1?}: {verdict}",
        script.sent,
        script.batches.len(),
        begun.elapsed(),
    );
    pipeline.stop().await;
    assert!(verdict.problems.is_empty(), "{:#?}", verdict.problems);
}
