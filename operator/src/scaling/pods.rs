//! What pods say of themselves: what is not well, and by their own metrics how busy they are and how many requests they served.
//!
//! Collectors are scaled by it alone, for nothing waits before them that could be counted. Of the others it says what a replica can
//! do before one is at its limit.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use herd_spec::health::HealthReport;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{Client, ResourceExt};

use crate::complaint;
use crate::contest::{self, Contest};
use crate::desired::{OPS_PORT, role_of};
use crate::observe;
use crate::reason::Trouble;
use crate::stage::Role;

/// How long a pod may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Counters of one pod.
#[derive(Clone, Debug, PartialEq)]
struct Counters {
    at: Instant,
    requests: f64,
    cpu_seconds: f64,
    /// Share of its room for events in flight that is taken.
    saturation: f64,
    /// Seconds in which each of its loops waited for something to do.
    waiting: BTreeMap<String, f64>,
}

/// The pods of one stage as they were seen last. A pod that is new, or started again, counts from then on.
#[derive(Default)]
pub(super) struct Served {
    pods: HashMap<String, Counters>,
    total: f64,
}

/// What one stage's pods did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Seen {
    /// Requests served since the beginning, all pods together.
    pub(super) served: u64,
    /// How busy they are on average: each as much as its busiest loop, its CPU of its limit, or its room taken.
    pub(super) busy: Option<f64>,
}

/// What is asked of the pods of one pipeline.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Asked {
    /// The stages whose pods are asked how busy they are, with the CPUs of each pod where they are limited.
    pub(super) busy: BTreeMap<String, Option<f64>>,
}

/// Asks the pods of a pipeline how they are, and those of some stages how busy.
///
/// # Errors
/// Why they could not be asked.
pub(super) async fn ask(
    client: &Client,
    http: &reqwest::Client,
    (namespace, pipeline): (&str, &str),
    asked: &Asked,
) -> Result<Answers, String> {
    let pods = observe::pods(client, namespace, pipeline).await.map_err(|error| error.to_string())?;
    let api = Role::Api.to_string();
    let answers = pods.iter().filter_map(|pod| {
        let role = role_of(pod.labels())?.to_owned();
        let address = pod.status.as_ref()?.pod_ip.clone()?;
        let measured = is_ready(pod) && (role == api || asked.busy.contains_key(&role));
        Some(async move {
            let text = async |path: &str| {
                let url = format!("http://{}/{path}", socket(&address));
                http.get(url).timeout(PATIENCE).send().await.ok()?.text().await.ok()
            };
            let metrics = async { if measured { text("metrics").await } else { None } };
            let (report, metrics) = tokio::join!(text("statusz"), metrics);
            let report = report.and_then(|text| serde_json::from_str::<HealthReport>(&text).ok());
            (
                role,
                pod.name_any(),
                report,
                metrics.map(|text| (counters(&text, Instant::now()), open_alerts(&text))),
            )
        })
    });
    let (mut said, mut reports) = (Answers::default(), BTreeMap::new());
    for (role, pod, report, metrics) in join_all(answers).await {
        reports.extend(report.map(|report| (pod.clone(), report)));
        let Some((counters, alerts)) = metrics else { continue };
        said.alerts = said.alerts.max(alerts);
        if asked.busy.contains_key(&role) {
            said.busy.entry(role).or_default().0.insert(pod, counters);
        }
    }
    said.troubles = complaint::of_stages(&pods, &reports, Timestamp::now());
    said.contests = contest::of_pods(&pods);
    Ok(said)
}

/// What the pods of a pipeline said.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers {
    /// How busy they are, by stage.
    pub(super) busy: BTreeMap<String, PodAnswers>,
    /// What is wrong with them, by stage.
    pub(super) troubles: BTreeMap<String, Trouble>,
    /// Alerts that are open, as the api knows them; none: none of its pods is ready.
    pub(super) alerts: Option<u64>,
    /// Who else has changed them.
    pub(super) contests: Vec<Contest>,
}

/// What the pods of one stage said.
#[derive(Clone, Debug, Default)]
pub(super) struct PodAnswers(BTreeMap<String, Counters>);

/// Where a pod tells of itself.
fn socket(address: &str) -> String {
    if address.contains(':') { format!("[{address}]:{OPS_PORT}") } else { format!("{address}:{OPS_PORT}") }
}

/// The alerts that are open, of OpenMetrics text.
fn open_alerts(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("herd_api_alerts_open "))?.trim().parse().ok()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
    pod.metadata.deletion_timestamp.is_none() && ready.any(|condition| condition.status == "True")
}

/// Reads what matters of OpenMetrics text.
fn counters(text: &str, at: Instant) -> Counters {
    // The name ends where labels or the value begin.
    let lines = |name: &'static str| {
        text.lines()
            .filter_map(move |line| line.strip_prefix(name))
            .filter(|rest| rest.starts_with([' ', '{']))
    };
    let value = |rest: &str| rest.rsplit(' ').next()?.parse::<f64>().ok();
    let sum = |name| -> f64 { lines(name).filter_map(value).sum() };
    let label = |rest: &str| rest.split('}').next().unwrap_or_default().to_owned();
    Counters {
        at,
        requests: sum("herd_collector_requests_total"),
        cpu_seconds: sum("process_cpu_seconds_total"),
        saturation: sum("herd_collector_saturation"),
        waiting: lines("herd_waiting_seconds_total")
            .filter_map(|rest| Some((label(rest), value(rest)?)))
            .collect(),
    }
}

impl Counters {
    /// How busy a pod was since `before`, of its `cores`.
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

impl Served {
    /// Takes in what pods said. `cores` is the limit of each, where there is one. None: nobody said anything.
    pub(super) fn take(&mut self, answers: PodAnswers, cores: Option<f64>) -> Option<Seen> {
        let PodAnswers(answers) = answers;
        let mut busy = Vec::new();
        for (pod, now) in &answers {
            let Some(before) = self.pods.get(pod) else { continue };
            if before.requests > now.requests || before.cpu_seconds > now.cpu_seconds {
                continue;
            }
            self.total += now.requests - before.requests;
            busy.push(now.busy_since(before, cores));
        }
        let none = answers.is_empty();
        self.pods = answers.into_iter().collect();
        let mean = busy.iter().sum::<f64>() / busy.len().max(1) as f64;
        (!none).then(|| Seen { served: self.total as u64, busy: (!busy.is_empty()).then_some(mean) })
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
    fn open_alerts_are_read_where_there_is_an_api() {
        assert_eq!(
            open_alerts("# TYPE herd_api_alerts_open gauge\nherd_api_alerts_open 3\n# EOF\n"),
            Some(3)
        );
        assert_eq!(open_alerts(TEXT), None);
    }

    #[test]
    fn what_matters_is_read_and_summed() {
        let read = counters(TEXT, Instant::now());
        assert_eq!((read.requests, read.saturation, read.cpu_seconds), (100.0, 0.25, 3.5));
        assert_eq!(read.waiting.values().copied().collect::<Vec<_>>(), [12.5, 14.0]);
    }

    fn pod(at: Instant, requests: f64, cpu_seconds: f64, waiting: &[(&str, f64)]) -> Counters {
        let waiting = waiting.iter().map(|(step, waited)| ((*step).to_owned(), *waited)).collect();
        Counters { at, requests, cpu_seconds, saturation: 0.0, waiting }
    }

    fn take(served: &mut Served, pods: &[(&str, Counters)]) -> Option<Seen> {
        let answers = pods.iter().map(|(name, pod)| ((*name).to_owned(), pod.clone())).collect();
        served.take(PodAnswers(answers), Some(0.5))
    }

    #[test]
    fn pods_that_come_and_go_do_not_look_like_requests() {
        let begun = Instant::now();
        let pod = |seconds: u64, requests: f64, cpu: f64| {
            pod(begun + Duration::from_secs(seconds), requests, cpu, &[])
        };
        let mut served = Served::default();
        let mut take = |pods: &[(&str, Counters)]| take(&mut served, pods);
        assert_eq!(take(&[("a", pod(0, 1000.0, 0.0))]), Some(Seen { served: 0, busy: None }));
        assert_eq!(take(&[("a", pod(5, 1100.0, 1.25))]), Some(Seen { served: 100, busy: Some(0.5) }));
        assert_eq!(take(&[("a", pod(10, 1200.0, 1.25)), ("b", pod(10, 500.0, 0.0))]).unwrap().served, 200);
        // `a` is gone, `b` was started again.
        assert_eq!(take(&[("b", pod(15, 3.0, 0.0))]).unwrap().served, 200);
        assert_eq!(take(&[("b", pod(20, 13.0, 0.0))]).unwrap().served, 210);
        assert_eq!(take(&[]), None);
    }

    #[test]
    fn a_pod_is_as_busy_as_its_busiest_loop() {
        let begun = Instant::now();
        let mut served = Served::default();
        let after = begun + Duration::from_secs(10);
        take(&mut served, &[("a", pod(begun, 0.0, 0.0, &[("fold", 100.0), ("judge", 7.0)]))]);
        // Fold waited for four seconds of ten, judge for nine; a fifth of its half a core was used.
        let seen = take(&mut served, &[("a", pod(after, 0.0, 1.0, &[("fold", 104.0), ("judge", 16.0)]))]);
        assert_eq!(seen.unwrap().busy, Some(0.6));
    }
}
