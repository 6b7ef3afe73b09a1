//! What is wrong with a pod, by what Kubernetes says of it and by its own report. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use herd_spec::health::{Complaint, HealthReport};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};
use kube::ResourceExt;

use crate::desired::role_of;
use crate::reason::{Reason, Trouble};

/// For how long after its end a container that runs again is told of, where it ends again and again.
const RECENT: Duration = Duration::from_secs(60);
/// From so many restarts on a container ends again and again.
const AGAIN: i32 = 3;
/// The most bytes of a pod's words that a condition shows.
const WORDS: usize = 600;

/// What is wrong with each stage that has something wrong, by its name: the first trouble of its pods in the order of their names.
/// What pods report comes before what Kubernetes says of them, for it is closer to the cause. `reports` are by pod.
#[must_use]
pub fn of_stages(
    pods: &[Pod],
    reports: &BTreeMap<String, HealthReport>,
    now: Timestamp,
) -> BTreeMap<String, Trouble> {
    let mut troubles = BTreeMap::new();
    let mut pods: Vec<&Pod> = pods.iter().collect();
    pods.sort_by_key(|pod| pod.name_any());
    let reported = pods.iter().filter_map(|pod| Some((*pod, of_report(pod, reports.get(&pod.name_any())?)?)));
    let complaints = pods.iter().filter_map(|pod| Some((*pod, of_pod(pod, now)?)));
    for (pod, trouble) in reported.chain(complaints) {
        if let Some(role) = role_of(pod.labels()) {
            troubles.entry(role.to_owned()).or_insert(trouble);
        }
    }
    troubles
}

fn of_report(pod: &Pod, report: &HealthReport) -> Option<Trouble> {
    // Who leaves closes its connections: what it says of them is no news.
    if is_over(pod) {
        return None;
    }
    let Complaint { step, reason, message, .. } = report.troubles.first()?;
    let words = bounded(message);
    Some(Trouble::new((*reason).into(), format!("pod {}: {step}: {words}", pod.name_any())))
}

/// What Kubernetes says is wrong with a pod, if anything. In words that stay the same while it is: no counts, no pauses.
#[must_use]
pub fn of_pod(pod: &Pod, now: Timestamp) -> Option<Trouble> {
    let (name, status) = (pod.name_any(), pod.status.as_ref()?);
    if is_over(pod) {
        return None;
    }
    let mut conditions = status.conditions.iter().flatten();
    let unscheduled =
        conditions.find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    if let Some(condition) = unscheduled {
        let why = condition.message.clone().unwrap_or_default();
        return Some(Trouble::new(Reason::Unschedulable, format!("pod {name}: {why}")));
    }
    let mut containers = status.container_statuses.iter().flatten();
    let (reason, why) = containers.find_map(|container| of_container(pod, container, now))?;
    Some(Trouble::new(reason, format!("pod {name}: {why}")))
}

/// Who leaves, or was evicted, is replaced.
fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Failed" | "Succeeded")) || pod.metadata.deletion_timestamp.is_some()
}

fn of_container(pod: &Pod, container: &ContainerStatus, now: Timestamp) -> Option<(Reason, String)> {
    let ended = ended(container);
    if container.ready {
        return ended.filter(|ended| repeats(container, ended, now)).map(|ended| of_end(pod, ended));
    }
    let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
    match waiting.and_then(|waiting| waiting.reason.as_deref()) {
        Some("ErrImagePull" | "ImagePullBackOff" | "InvalidImageName") => {
            Some((Reason::ImageUnavailable, format!("the image {} cannot be pulled", container.image)))
        }
        None | Some("ContainerCreating" | "PodInitializing" | "CrashLoopBackOff") => {
            ended.map(|ended| of_end(pod, ended))
        }
        Some(reason) => {
            let message = waiting.and_then(|waiting| waiting.message.clone()).unwrap_or_default();
            Some((Reason::PodRefused, format!("{reason}: {message}")))
        }
    }
}

/// How a container ended last.
fn ended(container: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    let states = [container.state.as_ref(), container.last_state.as_ref()];
    states.into_iter().flatten().find_map(|state| state.terminated.as_ref())
}

/// Whether a container that runs now will soon end as it did before.
fn repeats(container: &ContainerStatus, ended: &ContainerStateTerminated, now: Timestamp) -> bool {
    let at = ended.finished_at.as_ref().map(|time| time.0);
    let recent = at.is_some_and(|at| now.duration_since(at) < RECENT.try_into().unwrap_or_default());
    recent && ended.exit_code != 0 && (is_oom(ended) || container.restart_count >= AGAIN)
}

fn is_oom(ended: &ContainerStateTerminated) -> bool {
    ended.reason.as_deref() == Some("OOMKilled")
}

fn of_end(pod: &Pod, ended: &ContainerStateTerminated) -> (Reason, String) {
    if is_oom(ended) {
        let limit = memory_limit(pod).map_or_else(String::new, |limit| format!(" of {limit}"));
        let why = format!(
            "its container was ended for taking more memory than its limit{limit}: raise `resources.limits.memory` of the stage"
        );
        return (Reason::OomKilled, why);
    }
    let said = ended.message.as_deref().map(last_words).filter(|words| !words.is_empty());
    let why = match said {
        Some(words) => format!("its container ended: {words}"),
        None => format!(
            "its container ended with exit code {}: see `kubectl logs --previous {}`",
            ended.exit_code,
            pod.name_any()
        ),
    };
    (Reason::Crashing, why)
}

fn memory_limit(pod: &Pod) -> Option<String> {
    let container = pod.spec.as_ref()?.containers.first()?;
    Some(container.resources.as_ref()?.limits.as_ref()?.get("memory")?.0.clone())
}

/// The words of a termination message: those that a worker wrote, or of the end of its log the last line's.
fn last_words(message: &str) -> String {
    let last = message.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    let line: Option<serde_json::Value> = serde_json::from_str(last).ok();
    let words = line.as_ref().and_then(|line| line["fields"]["message"].as_str()).unwrap_or(last);
    bounded(words)
}

fn bounded(words: &str) -> String {
    let words = words.trim();
    let end = words.char_indices().map(|(at, _)| at).find(|at| *at >= WORDS);
    end.map_or_else(|| words.to_owned(), |end| format!("{}…", &words[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    const NOW: &str = "2026-01-02T03:04:05Z";

    fn pod(name: &str, container: Value) -> Pod {
        let pod = json!({
            "metadata": {"name": name, "labels": {"app.kubernetes.io/component": "detector"}},
            "spec": {"containers": [{"name": "worker", "resources": {"limits": {"memory": "16Mi"}}}]},
            "status": {"phase": "Running", "containerStatuses": [container]},
        });
        serde_json::from_value(pod).unwrap()
    }

    fn container(fields: Value) -> Value {
        let mut container = json!({"name": "worker", "image": "herd/worker:1", "imageID": "", "ready": false, "restartCount": 1});
        for (name, value) in fields.as_object().unwrap() {
            container[name] = value.clone();
        }
        container
    }

    fn ended(reason: &str, code: i32, message: &str, finished: &str) -> Value {
        json!({"terminated": {"exitCode": code, "reason": reason, "message": message, "finishedAt": finished}})
    }

    fn told(container: Value) -> Option<Trouble> {
        of_pod(&pod("shop-detector-x", container), NOW.parse().unwrap())
    }

    #[rstest]
    #[case::oom(
        container(json!({"lastState": ended("OOMKilled", 137, "", NOW), "state": {"waiting": {"reason": "CrashLoopBackOff"}}})),
        Reason::OomKilled, "more memory than its limit of 16Mi"
    )]
    #[case::own_words(
        container(json!({"lastState": ended("Error", 1, "the database `shop` does not exist", NOW)})),
        Reason::Crashing, "its container ended: the database `shop` does not exist"
    )]
    #[case::the_log_instead(
        container(json!({"lastState": ended("Error", 101, "{\"level\":\"INFO\",\"fields\":{\"message\":\"starting\"}}\n{\"level\":\"ERROR\",\"fields\":{\"message\":\"no plan\"}}\n", NOW)})),
        Reason::Crashing, "its container ended: no plan"
    )]
    #[case::no_words(
        container(json!({"state": ended("Error", 3, "", NOW)})),
        Reason::Crashing, "exit code 3: see `kubectl logs --previous shop-detector-x`"
    )]
    #[case::no_image(
        container(json!({"state": {"waiting": {"reason": "ImagePullBackOff"}}})),
        Reason::ImageUnavailable, "the image herd/worker:1 cannot be pulled"
    )]
    #[case::ready_between_two_ends(
        container(json!({"ready": true, "lastState": ended("OOMKilled", 137, "", "2026-01-02T03:03:55Z")})),
        Reason::OomKilled, "raise `resources.limits.memory`"
    )]
    fn a_container_that_fails_is_told_with_the_cause(
        #[case] container: Value,
        #[case] reason: Reason,
        #[case] words: &str,
    ) {
        let trouble = told(container).unwrap();
        assert_eq!(trouble.reason, reason);
        assert!(
            trouble.message.starts_with("pod shop-detector-x: ") && trouble.message.contains(words),
            "{trouble:?}"
        );
    }

    #[rstest]
    #[case::starting(container(json!({"state": {"waiting": {"reason": "ContainerCreating"}}})))]
    #[case::well_again(container(json!({"ready": true, "lastState": ended("OOMKilled", 137, "", "2026-01-02T03:00:00Z")})))]
    #[case::ended_once(container(json!({"ready": true, "lastState": ended("Error", 1, "", "2026-01-02T03:04:00Z")})))]
    fn a_pod_that_is_on_its_way_or_well_is_not_complained_about(#[case] container: Value) {
        assert_eq!(told(container), None);
    }

    #[test]
    fn what_a_pod_reports_comes_before_what_kubernetes_says() {
        let crashed = container(json!({"lastState": ended("Error", 1, "", NOW)}));
        let well = container(json!({"ready": true}));
        let report: HealthReport = serde_json::from_value(json!({
            "ready": true, "draining": false, "starting": {},
            "troubles": [{"step": "store", "reason": "DatabaseUnreachable", "message": "connecting to db:5432: refused", "since": 1}],
        }))
        .unwrap();
        let reports = BTreeMap::from([("shop-detector-b".to_owned(), report)]);
        let pods = [pod("shop-detector-b", well), pod("shop-detector-a", crashed)];
        let troubles = of_stages(&pods, &reports, NOW.parse().unwrap());
        let message = "pod shop-detector-b: store: connecting to db:5432: refused";
        let expected = Trouble::new(Reason::DatabaseUnreachable, message);
        assert_eq!(troubles, BTreeMap::from([("detector".to_owned(), expected)]));
    }

    #[test]
    fn a_word_of_a_newer_worker_is_a_stage_that_fails() {
        let report =
            json!({"ready": true, "troubles": [{"step": "a", "reason": "New", "message": "m", "since": 1}]});
        let report: HealthReport = serde_json::from_value(report).unwrap();
        let pod = pod("a", container(json!({"ready": true})));
        assert_eq!(of_report(&pod, &report).unwrap().reason, Reason::StageFailing);
    }
}
