//! The loop: looks at everything every few seconds, decides, and brings back to mind whom it concerns.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use herd_spec::scale::{POLL, SECOND_LOOK};
use herd_spec::units::{WallTime, millis};
use kube::Client;
use tokio::time::{Instant, MissedTickBehavior, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::pods::{self, Served};
use super::{Scaler, Scope, look};
use crate::contest::Contests;
use crate::metrics::Metrics;

/// Pipelines whose pods are asked at the same time.
const AT_ONCE: usize = 16;

/// Looks and decides until `stop`.
pub async fn run(
    scaler: Arc<Scaler>,
    contests: Arc<Contests>,
    client: Client,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let http = crate::tls::http_client();
    let mut served = HashMap::new();
    let mut ticks = tokio::time::interval(POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut second_look = None;
    loop {
        let scope = tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => Scope::All,
            () = until(second_look) => Scope::InDoubt,
        };
        let begun = Instant::now();
        tokio::join!(
            look_at_clusters(&scaler, scope),
            ask_pods(&scaler, &client, &http, &contests, scope, &mut served)
        );
        let decided = scaler.decide(scope, now());
        second_look = (scope == Scope::All && scaler.is_in_doubt()).then(|| begun + SECOND_LOOK);
        for (pipeline, reasons) in decided {
            for reason in reasons {
                metrics.decided(reason);
                info!(%pipeline, reason, "replicas are to change");
            }
            scaler.remind(pipeline);
        }
    }
}

/// Until a moment; for ever if there is none.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

async fn look_at_clusters(scaler: &Arc<Scaler>, scope: Scope) {
    let looks = scaler.asks(scope).into_iter().map(|ask| {
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

/// What was seen last of the pods of a pipeline's stage.
type Remembered = HashMap<(String, String), Served>;

async fn ask_pods(
    scaler: &Scaler,
    client: &Client,
    http: &reqwest::Client,
    contests: &Contests,
    scope: Scope,
    remembered: &mut Remembered,
) {
    let asks = scaler.pods(scope);
    if scope == Scope::All {
        remembered.retain(|(uid, role), _| {
            asks.iter().any(|(other, _, asked)| other == uid && asked.busy.contains_key(role))
        });
    }
    let mut answers = futures_util::stream::iter(asks)
        .map(|(uid, place, asked)| async move {
            let said = pods::ask(client, http, (&place.0, &place.1), &asked).await;
            (uid, asked, said)
        })
        .buffer_unordered(AT_ONCE);
    while let Some((uid, asked, said)) = answers.next().await {
        let mut said = match said {
            Ok(said) => {
                scaler.pods_report(&uid, said.troubles, said.alerts);
                if contests.see(&uid, said.contests) {
                    scaler.urge(&uid);
                }
                said.busy
            }
            Err(error) => {
                debug!(uid, error, "pods could not be asked how they are");
                Default::default()
            }
        };
        for (role, cores) in asked.busy {
            let served = remembered.entry((uid.clone(), role.clone())).or_default();
            let seen = served.take(said.remove(&role).unwrap_or_default(), cores);
            scaler.pods_said(now(), &uid, &role, seen);
        }
    }
}

/// The time by this machine's clock.
#[must_use]
pub fn now() -> WallTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    WallTime(millis(since))
}
