//! Polls pods: their health reports, and from their metrics their utilisation and the requests that they served.
//!
//! Collectors are scaled by utilisation alone, because they have no lag. Of other stages it shows the capacity of a replica before one
//! is at its limit.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use herd_spec::health::HealthReport;
use herd_spec::openmetrics;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{Client, ResourceExt};

use crate::desired::{OPS_PORT, stage_of};
use crate::field_conflicts::{self, FieldConflict};
use crate::identity::PipelineIdentity;
use crate::observe;
use crate::pod_failures;
use crate::reason::Failure;
use crate::stage::StageId;

/// Timeout of a request to a pod.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Counters of one pod.
#[derive(Clone, Debug, PartialEq)]
struct PodCounters {
    at: Instant,
    requests: f64,
    cpu_seconds: f64,
    /// Share of its capacity for events in flight that is used.
    saturation: f64,
    /// Seconds in which each of its loops waited for work.
    waiting: BTreeMap<String, f64>,
}

/// The counters of one stage's pods at the last poll. A pod that is new or was restarted counts from its first poll.
#[derive(Default)]
pub(super) struct StageCounters {
    pods: HashMap<String, PodCounters>,
    total: f64,
}

/// The utilisation of one stage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Utilisation {
    /// Requests served since the first poll, by all pods together.
    pub(super) served: u64,
    /// The mean utilisation of its pods, 0 to 1. That of a pod is the highest of: its busiest loop, its CPU usage of its limit, and its
    /// saturation.
    pub(super) busy: Option<f64>,
}

/// What to poll of one pipeline's pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct PodRequest {
    /// The stages whose utilisation is needed, with the CPU limit of each pod, where there is one.
    pub(super) cores: BTreeMap<String, Option<f64>>,
}

/// Polls the health of a pipeline's pods, and the utilisation of some stages.
///
/// # Errors
/// Why the pods could not be listed.
pub(super) async fn poll(
    client: &Client,
    http: &reqwest::Client,
    pipeline: &PipelineIdentity,
    request: &PodRequest,
) -> Result<PodReports, String> {
    let pods = observe::pods(client, pipeline).await.map_err(|error| error.to_string())?;
    let api = StageId::Api.to_string();
    let answers = pods.iter().filter_map(|pod| {
        let id = stage_of(pod.labels())?.to_owned();
        let address = pod.status.as_ref()?.pod_ip.clone()?;
        let measured = is_ready(pod) && (id == api || request.cores.contains_key(&id));
        Some(async move {
            let text = async |path: &str| {
                let url = format!("http://{}/{path}", socket(&address));
                http.get(url).timeout(TIMEOUT).send().await.ok()?.text().await.ok()
            };
            let metrics = async { if measured { text("metrics").await } else { None } };
            let (report, metrics) = tokio::join!(text("statusz"), metrics);
            let report = report.and_then(|text| serde_json::from_str::<HealthReport>(&text).ok());
            (
                id,
                pod.name_any(),
                report,
                metrics.map(|text| (counters(&text, Instant::now()), open_alerts(&text))),
            )
        })
    });
    let (mut reports, mut health) = (PodReports::default(), BTreeMap::new());
    for (id, pod, report, metrics) in join_all(answers).await {
        health.extend(report.map(|report| (pod.clone(), report)));
        let Some((counters, alerts)) = metrics else { continue };
        reports.alerts = reports.alerts.max(alerts);
        if request.cores.contains_key(&id) {
            reports.metrics.entry(id).or_default().0.insert(pod, counters);
        }
    }
    reports.failures = pod_failures::by_stage(&pods, &health, Timestamp::now());
    reports.field_conflicts = field_conflicts::of_pods(&pods);
    Ok(reports)
}

/// The answers of a pipeline's pods.
#[derive(Clone, Debug, Default)]
pub(super) struct PodReports {
    /// Their metrics, by stage.
    pub(super) metrics: BTreeMap<String, StageMetrics>,
    /// Their failures, by stage.
    pub(super) failures: BTreeMap<String, Failure>,
    /// Open alerts, from the api; none if none of its pods is ready.
    pub(super) alerts: Option<u64>,
    /// Fields of the pods that other field managers set.
    pub(super) field_conflicts: Vec<FieldConflict>,
}

/// The metrics of one stage's pods, by pod name.
#[derive(Clone, Debug, Default)]
pub(super) struct StageMetrics(BTreeMap<String, PodCounters>);

/// The address of a pod's `ops` port.
fn socket(address: &str) -> String {
    if address.contains(':') { format!("[{address}]:{OPS_PORT}") } else { format!("{address}:{OPS_PORT}") }
}

/// The number of open alerts in OpenMetrics text.
fn open_alerts(text: &str) -> Option<u64> {
    let open = openmetrics::samples(text).find(|sample| sample.name == "herd_api_alerts_open")?;
    Some(open.value as u64)
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
    pod.metadata.deletion_timestamp.is_none() && ready.any(|condition| condition.status == "True")
}

/// The counters in a pod's OpenMetrics text.
fn counters(text: &str, at: Instant) -> PodCounters {
    let waiting = openmetrics::samples(text).filter(|sample| sample.name == "herd_waiting_seconds_total");
    PodCounters {
        at,
        requests: openmetrics::sum(text, "herd_collector_requests_total", ""),
        cpu_seconds: openmetrics::sum(text, "process_cpu_seconds_total", ""),
        saturation: openmetrics::sum(text, "herd_collector_saturation", ""),
        waiting: waiting.map(|sample| (sample.labels.to_owned(), sample.value)).collect(),
    }
}

impl PodCounters {
    /// The utilisation of a pod since `before`, with this many `cores`.
    fn busy_since(&self, before: &Self, cores: Option<f64>) -> f64 {
        let seconds = self.at.duration_since(before.at).as_secs_f64();
        if seconds <= 0.0 {
            return 0.0;
        }
        let cpu = cores.filter(|cores| *cores > 0.0);
        let cpu = cpu.map_or(0.0, |cores| (self.cpu_seconds - before.cpu_seconds) / seconds / cores);
        let loops = self.waiting.iter().filter_map(|(step, waited)| {
            let before = before.waiting.get(step)?;
            Some(1.0 - (waited - before) / seconds)
        });
        loops.fold(self.saturation.max(cpu), f64::max).clamp(0.0, 1.0)
    }
}

impl StageCounters {
    /// Updates the counters after a poll. `cores` is the CPU limit of each pod, where there is one. None if no pod answered.
    pub(super) fn update(&mut self, metrics: StageMetrics, cores: Option<f64>) -> Option<Utilisation> {
        let StageMetrics(metrics) = metrics;
        let mut busy = Vec::new();
        for (pod, now) in &metrics {
            let Some(before) = self.pods.get(pod) else { continue };
            if before.requests > now.requests || before.cpu_seconds > now.cpu_seconds {
                continue;
            }
            self.total += now.requests - before.requests;
            busy.push(now.busy_since(before, cores));
        }
        let none = metrics.is_empty();
        self.pods = metrics.into_iter().collect();
        let mean = busy.iter().sum::<f64>() / busy.len().max(1) as f64;
        (!none).then(|| Utilisation { served: self.total as u64, busy: (!busy.is_empty()).then_some(mean) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# TYPE herd_collector_requests counter\n\
        herd_collector_requests_total{status=\"200\"} 90\nherd_collector_requests_total{status=\"429\"} 10\n\
        herd_collector_saturation 0.25\nprocess_cpu_seconds_total 3.5\nherd_collector_requests_total_other 7\n\
        herd_waiting_seconds_total{step=\"fold\"} 12.5\nherd_waiting_seconds_total{step=\"judge\"} 14\n# EOF\n";

    #[test]
    fn open_alerts_are_parsed_if_present() {
        assert_eq!(
            open_alerts("# TYPE herd_api_alerts_open gauge\nherd_api_alerts_open 3\n# EOF\n"),
            Some(3)
        );
        assert_eq!(open_alerts(TEXT), None);
    }

    #[test]
    fn counters_are_parsed_and_summed_over_labels() {
        let read = counters(TEXT, Instant::now());
        assert_eq!((read.requests, read.saturation, read.cpu_seconds), (100.0, 0.25, 3.5));
        assert_eq!(read.waiting.values().copied().collect::<Vec<_>>(), [12.5, 14.0]);
    }

    fn pod(at: Instant, requests: f64, cpu_seconds: f64, waiting: &[(&str, f64)]) -> PodCounters {
        let waiting = waiting.iter().map(|(step, waited)| ((*step).to_owned(), *waited)).collect();
        PodCounters { at, requests, cpu_seconds, saturation: 0.0, waiting }
    }

    fn update(counters: &mut StageCounters, pods: &[(&str, PodCounters)]) -> Option<Utilisation> {
        let metrics = pods.iter().map(|(name, pod)| ((*name).to_owned(), pod.clone())).collect();
        counters.update(StageMetrics(metrics), Some(0.5))
    }

    #[test]
    fn added_and_removed_pods_do_not_count_as_requests() {
        let begun = Instant::now();
        let pod = |seconds: u64, requests: f64, cpu: f64| {
            pod(begun + Duration::from_secs(seconds), requests, cpu, &[])
        };
        let mut counters = StageCounters::default();
        let mut update = |pods: &[(&str, PodCounters)]| update(&mut counters, pods);
        assert_eq!(update(&[("a", pod(0, 1000.0, 0.0))]), Some(Utilisation { served: 0, busy: None }));
        assert_eq!(
            update(&[("a", pod(5, 1100.0, 1.25))]),
            Some(Utilisation { served: 100, busy: Some(0.5) })
        );
        assert_eq!(update(&[("a", pod(10, 1200.0, 1.25)), ("b", pod(10, 500.0, 0.0))]).unwrap().served, 200);
        // `a` was removed, `b` was restarted.
        assert_eq!(update(&[("b", pod(15, 3.0, 0.0))]).unwrap().served, 200);
        assert_eq!(update(&[("b", pod(20, 13.0, 0.0))]).unwrap().served, 210);
        assert_eq!(update(&[]), None);
    }

    #[test]
    fn utilisation_of_a_pod_is_that_of_its_busiest_loop() {
        let begun = Instant::now();
        let mut counters = StageCounters::default();
        let after = begun + Duration::from_secs(10);
        update(&mut counters, &[("a", pod(begun, 0.0, 0.0, &[("fold", 100.0), ("judge", 7.0)]))]);
        // Fold waited for four seconds of ten, judge for nine; a fifth of its half a core was used.
        let utilisation =
            update(&mut counters, &[("a", pod(after, 0.0, 1.0, &[("fold", 104.0), ("judge", 16.0)]))]);
        assert_eq!(utilisation.unwrap().busy, Some(0.6));
    }
}
