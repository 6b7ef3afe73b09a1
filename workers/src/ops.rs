//! The operational endpoints beside a stage, and what they say of the broker.

use std::time::Duration;

use herd_bus::{Bus, BusError};
use herd_spec::health::Trouble;
use herd_spec::plan::TopicPlan;
use herd_stage::{Health, Stage};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How often the bus is asked whether it answers, and how long it may take.
const PING: Duration = Duration::from_secs(2);
/// One of several brokers may be away: asked again, another answers. Only this many failures in a row are the bus's.
const FAILURES: u32 = 2;
/// The step that is about topics which this process creates.
pub const TOPICS: &str = "topics";
/// The step that is about the bus.
const BROKER: &str = "broker";

/// Serves [`herd_stage::ops::router`] until `end`: longer than the stage itself, which may have to finish.
///
/// # Errors
/// If the listener fails.
pub async fn serve(stage: Stage, listener: TcpListener, end: CancellationToken) -> std::io::Result<()> {
    axum::serve(listener, herd_stage::ops::router(stage)).with_graceful_shutdown(end.cancelled_owned()).await
}

/// Keeps the report up to date about the bus, for ever: a stage waits for a broker in silence, and nobody would know what for.
pub async fn watch_broker<B: Bus>(bus: B, health: Health) {
    let mut tick = tokio::time::interval(PING);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failures = 0;
    loop {
        tick.tick().await;
        match asked(bus.clone(), |bus| bus.ping(PING)).await {
            Ok(()) => {
                failures = 0;
                health.ok(BROKER);
            }
            Err((reason, why)) => {
                failures += 1;
                if failures >= FAILURES {
                    health.fail(BROKER, reason, why);
                }
            }
        }
    }
}

/// Waits until all of these topics are there, for ever if need be, and says what it waits for: a stage that ended instead would only
/// be started again.
pub async fn await_topics<B: Bus>(bus: B, topics: Vec<String>, health: &Health) {
    health.starting(BROKER, "Kafka has not been asked yet for the topics of the pipeline");
    let mut said = None;
    loop {
        let names = topics.clone();
        let found = asked(bus.clone(), move |bus| {
            bus.ping(PING)?;
            names.iter().try_for_each(|topic| bus.partitions(topic).map(drop))
        });
        let Err((reason, why)) = found.await else {
            health.ok(BROKER);
            return;
        };
        if said != Some(reason) {
            tracing::warn!(%reason, why, "waiting");
            said = Some(reason);
        }
        health.fail(BROKER, reason, why);
        tokio::time::sleep(PING).await;
    }
}

/// Creates the topics that are missing, as soon as the broker lets us.
pub async fn create_topics<B: Bus>(bus: B, topics: Vec<TopicPlan>, health: Health) {
    loop {
        let wanted = topics.clone();
        let created = asked(bus.clone(), move |bus| bus.ensure_topics(&wanted.iter().collect::<Vec<_>>()));
        let Err((reason, why)) = created.await else {
            health.ok(TOPICS);
            return;
        };
        tracing::warn!(%reason, why, "the topics cannot be created yet");
        health.fail(TOPICS, reason, why);
        tokio::time::sleep(PING).await;
    }
}

/// Asks the bus, which blocks.
async fn asked<B: Bus>(
    bus: B,
    question: impl FnOnce(&B) -> Result<(), BusError> + Send + 'static,
) -> Result<(), (Trouble, String)> {
    match tokio::task::spawn_blocking(move || question(&bus)).await {
        Ok(answer) => answer.map_err(|error| (error.trouble(), error.to_string())),
        Err(error) => Err((Trouble::StageFailed, error.to_string())),
    }
}
