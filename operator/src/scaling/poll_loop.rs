//! The loop: polls all pipelines every few seconds, decides, and requeues those whose replicas or numbers change.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use herd_spec::scale::{CONFIRM_AFTER, POLL};
use herd_spec::units::{WallTime, millis};
use tokio::time::{Instant, MissedTickBehavior, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::pods::{self, StageCounters};
use super::{Scaler, Scope, kafka_poll};
use crate::context::Context;

/// Pipelines whose pods are polled concurrently.
const CONCURRENCY: usize = 16;

/// Polls and decides until `stop`.
pub async fn run(context: Arc<Context>, stop: CancellationToken) {
    let scaler = &context.scaler;
    let http = crate::tls::http_client();
    let mut counters = HashMap::new();
    let mut ticks = tokio::time::interval(POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut confirmation = None;
    loop {
        let scope = tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => Scope::All,
            () = sleep_until_some(confirmation) => Scope::Unconfirmed,
        };
        let started = Instant::now();
        tokio::join!(poll_clusters(scaler, scope), poll_pods(&context, &http, scope, &mut counters));
        let decided = scaler.decide(scope, now());
        confirmation = (scope == Scope::All && scaler.needs_confirmation()).then(|| started + CONFIRM_AFTER);
        for (pipeline, reasons) in decided {
            for reason in reasons {
                context.metrics.decided(reason);
                info!(%pipeline, reason = reason.name(), "decided to change replicas");
            }
            scaler.requeue(pipeline);
        }
    }
}

/// Sleeps until a moment; for ever if there is none.
async fn sleep_until_some(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

async fn poll_clusters(scaler: &Arc<Scaler>, scope: Scope) {
    let polls = scaler.cluster_requests(scope).into_iter().map(|request| {
        let scaler = Arc::clone(scaler);
        tokio::task::spawn_blocking(move || {
            kafka_poll::poll(request, |uid, id, ends| scaler.idle_commits(uid, id, ends))
        })
    });
    for poll in join_all(polls).await {
        match poll {
            Ok(poll) => scaler.record_poll(now(), &poll),
            Err(error) => warn!(%error, "a poll of Kafka was aborted"),
        }
    }
}

/// The counters of each stage at the last poll, by the pipeline's uid and the stage's name.
type AllCounters = HashMap<(String, String), StageCounters>;

async fn poll_pods(context: &Context, http: &reqwest::Client, scope: Scope, counters: &mut AllCounters) {
    let (scaler, client) = (&context.scaler, &context.client);
    let requests = scaler.pod_requests(scope);
    if scope == Scope::All {
        counters.retain(|(uid, id), _| {
            requests.iter().any(|(other, request)| other.uid == *uid && request.cores.contains_key(id))
        });
    }
    let mut polls = futures_util::stream::iter(requests)
        .map(|(pipeline, request)| async move {
            let reports = pods::poll(client, http, &pipeline, &request).await;
            (pipeline.uid, request, reports)
        })
        .buffer_unordered(CONCURRENCY);
    while let Some((uid, request, reports)) = polls.next().await {
        let mut metrics = match reports {
            Ok(reports) => {
                scaler.record_pod_health(&uid, reports.failures, reports.alerts);
                if context.field_conflicts.record(&uid, reports.field_conflicts) {
                    scaler.report_now(&uid);
                }
                reports.metrics
            }
            Err(error) => {
                debug!(uid, error, "polling pods failed");
                Default::default()
            }
        };
        for (id, cores) in request.cores {
            let stage = counters.entry((uid.clone(), id.clone())).or_default();
            let utilisation = stage.update(metrics.remove(&id).unwrap_or_default(), cores);
            scaler.record_utilisation(now(), &uid, &id, utilisation);
        }
    }
}

/// The time by this machine's clock.
#[must_use]
pub fn now() -> WallTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    WallTime(millis(since))
}
