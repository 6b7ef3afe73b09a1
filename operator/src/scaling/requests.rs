//! What collectors say of the requests they serve: their own metrics, read from each pod. They are scaled by how busy they are, for
//! nothing waits before them that could be counted.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::{Client, ResourceExt};

use crate::desired::of_stage;
use crate::observe;
use crate::stage::Role;

/// How long a pod may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Counters of one pod.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Counters {
    at: Instant,
    requests: f64,
    cpu_seconds: f64,
    /// Share of its room for events in flight that is taken.
    saturation: f64,
}

/// The pods of one collector as they were seen last. A pod that is new, or started again, counts from then on.
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
    /// How busy they are on average: the larger of room taken and CPU used of its limit.
    pub(super) busy: Option<f64>,
}

/// Asks the pods of a stage. `cores` is the limit of each, where there is one.
///
/// # Errors
/// Why they could not be asked.
pub(super) async fn ask(
    client: &Client,
    http: &reqwest::Client,
    (namespace, pipeline): (&str, &str),
    role: &Role,
    cores: Option<f64>,
    served: &mut Served,
) -> Result<Seen, String> {
    let pods = observe::pods_of(client, namespace, &of_stage(pipeline, role)).await;
    let pods = pods.map_err(|error| error.to_string())?;
    let asked = pods.iter().filter(|pod| is_ready(pod)).map(|pod| async move {
        let address = pod.status.as_ref()?.pod_ip.clone()?;
        let url = format!("http://{}/metrics", socket(&address));
        let answer = http.get(url).timeout(PATIENCE).send().await.ok()?;
        Some((pod.name_any(), answer.text().await.ok()?))
    });
    let texts: Vec<Option<(String, String)>> = join_all(asked).await;
    let answers: BTreeMap<String, Counters> =
        texts.into_iter().flatten().map(|(pod, text)| (pod, counters(&text, Instant::now()))).collect();
    if answers.is_empty() {
        return Err(format!("none of the {} pods of {role} says how busy it is", pods.len()));
    }
    Ok(served.take(answers, cores))
}

fn socket(address: &str) -> String {
    if address.contains(':') { format!("[{address}]:8080") } else { format!("{address}:8080") }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
    pod.metadata.deletion_timestamp.is_none() && ready.any(|condition| condition.status == "True")
}

/// Reads what matters of OpenMetrics text.
fn counters(text: &str, at: Instant) -> Counters {
    let sum = |name: &str| -> f64 {
        let lines = text.lines().filter_map(|line| line.strip_prefix(name));
        // The name ends where labels or the value begin.
        let own = lines.filter(|rest| rest.starts_with([' ', '{']));
        own.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    Counters {
        at,
        requests: sum("herd_collector_requests_total"),
        cpu_seconds: sum("process_cpu_seconds_total"),
        saturation: sum("herd_collector_saturation"),
    }
}

impl Served {
    fn take(&mut self, answers: BTreeMap<String, Counters>, cores: Option<f64>) -> Seen {
        let mut busy = Vec::new();
        for (pod, now) in &answers {
            let Some(before) = self.pods.get(pod).filter(|before| before.requests <= now.requests) else {
                continue;
            };
            self.total += now.requests - before.requests;
            let seconds = now.at.duration_since(before.at).as_secs_f64();
            let cpu = cores.filter(|cores| *cores > 0.0 && seconds > 0.0);
            let cpu = cpu.map_or(0.0, |cores| (now.cpu_seconds - before.cpu_seconds) / seconds / cores);
            busy.push(now.saturation.max(cpu).clamp(0.0, 1.0));
        }
        self.pods = answers.into_iter().collect();
        let mean = busy.iter().sum::<f64>() / busy.len().max(1) as f64;
        Seen { served: self.total as u64, busy: (!busy.is_empty()).then_some(mean) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# TYPE herd_collector_requests counter\n\
        herd_collector_requests_total{status=\"200\"} 90\nherd_collector_requests_total{status=\"429\"} 10\n\
        herd_collector_saturation 0.25\nprocess_cpu_seconds_total 3.5\nherd_collector_requests_total_other 7\n# EOF\n";

    #[test]
    fn what_matters_is_read_and_summed() {
        let read = counters(TEXT, Instant::now());
        assert_eq!((read.requests, read.saturation, read.cpu_seconds), (100.0, 0.25, 3.5));
    }

    #[test]
    fn pods_that_come_and_go_do_not_look_like_requests() {
        let begun = Instant::now();
        let pod = |seconds: u64, requests: f64, cpu_seconds: f64| Counters {
            at: begun + Duration::from_secs(seconds),
            requests,
            cpu_seconds,
            saturation: 0.0,
        };
        let mut served = Served::default();
        let mut take = |pods: &[(&str, Counters)]| {
            served.take(pods.iter().map(|(name, pod)| ((*name).to_owned(), *pod)).collect(), Some(0.5))
        };
        assert_eq!(take(&[("a", pod(0, 1000.0, 0.0))]), Seen { served: 0, busy: None });
        assert_eq!(take(&[("a", pod(5, 1100.0, 1.25))]), Seen { served: 100, busy: Some(0.5) });
        assert_eq!(take(&[("a", pod(10, 1200.0, 1.25)), ("b", pod(10, 500.0, 0.0))]).served, 200);
        // `a` is gone, `b` was started again.
        assert_eq!(take(&[("b", pod(15, 3.0, 0.0))]).served, 200);
        assert_eq!(take(&[("b", pod(20, 13.0, 0.0))]).served, 210);
    }
}
