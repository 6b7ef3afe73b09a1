//! The loop: looks at everything every few seconds, decides, and brings back to mind whom it concerns.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use herd_spec::scale::POLL;
use herd_spec::units::{WallTime, millis};
use kube::Client;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::requests::{self, Served};
use super::{Scaler, look};
use crate::metrics::Metrics;
use crate::stage::Role;

/// Looks and decides until `stop`.
pub async fn run(scaler: Arc<Scaler>, client: Client, metrics: Metrics, stop: CancellationToken) {
    let http = reqwest::Client::new();
    let mut served: HashMap<String, Served> = HashMap::new();
    let mut ticks = tokio::time::interval(POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        tokio::join!(look_at_clusters(&scaler), ask_collectors(&scaler, &client, &http, &mut served));
        for (pipeline, reasons) in scaler.decide(now()) {
            for reason in reasons {
                metrics.decided(reason);
                info!(%pipeline, reason, "replicas are to change");
            }
            // Nobody listens only while watches begin or end: then every pipeline is looked at anyway.
            let _ = scaler.triggers.send(pipeline);
        }
    }
}

async fn look_at_clusters(scaler: &Arc<Scaler>) {
    let looks = scaler.asks().into_iter().map(|ask| {
        let quiet = Arc::clone(scaler);
        tokio::task::spawn_blocking(move || look::at(ask, |uid, role, ends| quiet.quiet(uid, role, ends)))
    });
    for looked in join_all(looks).await {
        match looked {
            Ok(looked) => scaler.saw(now(), &looked),
            Err(error) => warn!(%error, "a look at Kafka was broken off"),
        }
    }
}

async fn ask_collectors(
    scaler: &Scaler,
    client: &Client,
    http: &reqwest::Client,
    served: &mut HashMap<String, Served>,
) {
    let collectors = scaler.collectors();
    served.retain(|uid, _| collectors.iter().any(|(other, ..)| other == uid));
    for (uid, (namespace, name), cores) in collectors {
        let served = served.entry(uid.clone()).or_default();
        let place = (namespace.as_str(), name.as_str());
        let seen = requests::ask(client, http, place, &Role::Collector, cores, served).await;
        scaler.served(now(), &uid, &seen);
    }
}

/// The time by this machine's clock.
#[must_use]
pub fn now() -> WallTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    WallTime(millis(since))
}
