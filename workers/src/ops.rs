//! The operational endpoints of stages that have no HTTP of their own, and what these say of the broker.

use std::time::Duration;

use herd_bus::Bus;
use herd_stage::{Health, Stage};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How often the bus is asked whether it answers, and how long it may take.
const PING: Duration = Duration::from_secs(2);
/// One of several brokers may be away: asked again, another answers. Only this many failures in a row are the bus's.
const FAILURES: u32 = 2;

/// Serves `/healthz`, `/readyz` and `/metrics` of a stage until `end`: longer than the stage itself, which may have to finish.
///
/// # Errors
/// If the listener fails.
pub async fn serve(stage: Stage, listener: TcpListener, end: CancellationToken) -> std::io::Result<()> {
    axum::serve(listener, herd_stage::ops::router(stage)).with_graceful_shutdown(end.cancelled_owned()).await
}

/// Keeps readiness up to date about the bus, for ever: a stage waits for a broker in silence, and nobody would know what for.
pub async fn watch_broker<B: Bus>(bus: B, health: Health) {
    let mut tick = tokio::time::interval(PING);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failures = 0;
    loop {
        tick.tick().await;
        let asked = bus.clone();
        let answer = tokio::task::spawn_blocking(move || asked.ping(PING)).await;
        let why = match answer {
            Ok(Ok(())) => {
                failures = 0;
                health.ok("broker");
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        failures += 1;
        if failures >= FAILURES {
            health.fail("broker", why);
        }
    }
}
