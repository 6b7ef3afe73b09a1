//! The failures of pods, by their status in Kubernetes and their own health reports. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use herd_spec::health::{Complaint, HealthReport};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};
use kube::ResourceExt;

use crate::desired::stage_of;
use crate::reason::{Failure, Reason};

/// How long after its last exit a running container that exits repeatedly is reported.
const RECENT: Duration = Duration::from_secs(60);
/// From this many restarts on, a container exits repeatedly.
const REPEATED: i32 = 3;
/// The most bytes of a pod's message in a condition.
const MAX_MESSAGE: usize = 600;

/// The failure of each stage that has one, by stage name: that of the first failing pod in the order of names. Health reports take
/// precedence over the pod status, because they are closer to the cause. `reports` are by pod name.
#[must_use]
pub fn by_stage(
    pods: &[Pod],
    reports: &BTreeMap<String, HealthReport>,
    now: Timestamp,
) -> BTreeMap<String, Failure> {
    let mut failures = BTreeMap::new();
    let mut pods: Vec<&Pod> = pods.iter().collect();
    pods.sort_by_key(|pod| pod.name_any());
    let reported = pods.iter().filter_map(|pod| Some((*pod, of_report(pod, reports.get(&pod.name_any())?)?)));
    let complaints = pods.iter().filter_map(|pod| Some((*pod, of_pod(pod, now)?)));
    for (pod, failure) in reported.chain(complaints) {
        if let Some(id) = stage_of(pod.labels()) {
            failures.entry(id.to_owned()).or_insert(failure);
        }
    }
    failures
}

fn of_report(pod: &Pod, report: &HealthReport) -> Option<Failure> {
    // A terminating pod closes its connections and may report them as failures.
    if is_over(pod) {
        return None;
    }
    let Complaint { step, reason, message, .. } = report.troubles.first()?;
    let message = shortened(message);
    Some(Failure::new((*reason).into(), format!("pod {}: {step}: {message}", pod.name_any())))
}

/// The failure of a pod by its status, if any. The message has no counts or times, so that it does not change while the failure lasts.
#[must_use]
pub fn of_pod(pod: &Pod, now: Timestamp) -> Option<Failure> {
    let (name, status) = (pod.name_any(), pod.status.as_ref()?);
    if is_over(pod) {
        return None;
    }
    let mut conditions = status.conditions.iter().flatten();
    let unscheduled =
        conditions.find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    if let Some(condition) = unscheduled {
        let message = condition.message.clone().unwrap_or_default();
        return Some(Failure::new(Reason::Unschedulable, format!("pod {name}: {message}")));
    }
    let mut containers = status.container_statuses.iter().flatten();
    let (reason, message) = containers.find_map(|container| of_container(pod, container, now))?;
    Some(Failure::new(reason, format!("pod {name}: {message}")))
}

/// Whether a pod is terminating, or was evicted: it is replaced.
fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Failed" | "Succeeded")) || pod.metadata.deletion_timestamp.is_some()
}

fn of_container(pod: &Pod, container: &ContainerStatus, now: Timestamp) -> Option<(Reason, String)> {
    let exit = last_exit(container);
    if container.ready {
        return exit.filter(|exit| exits_repeatedly(container, exit, now)).map(|exit| of_exit(pod, exit));
    }
    let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
    match waiting.and_then(|waiting| waiting.reason.as_deref()) {
        Some("ErrImagePull" | "ImagePullBackOff" | "InvalidImageName") => {
            Some((Reason::ImageUnavailable, format!("the image {} cannot be pulled", container.image)))
        }
        None | Some("ContainerCreating" | "PodInitializing" | "CrashLoopBackOff") => {
            exit.map(|exit| of_exit(pod, exit))
        }
        Some(reason) => {
            let message = waiting.and_then(|waiting| waiting.message.clone()).unwrap_or_default();
            Some((Reason::PodRefused, format!("{reason}: {message}")))
        }
    }
}

/// The last exit of a container.
fn last_exit(container: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    let states = [container.state.as_ref(), container.last_state.as_ref()];
    states.into_iter().flatten().find_map(|state| state.terminated.as_ref())
}

/// Whether a running container is expected to exit again as it did before.
fn exits_repeatedly(container: &ContainerStatus, exit: &ContainerStateTerminated, now: Timestamp) -> bool {
    let at = exit.finished_at.as_ref().map(|time| time.0);
    let recent = at.is_some_and(|at| now.duration_since(at) < RECENT.try_into().unwrap_or_default());
    recent && exit.exit_code != 0 && (is_oom(exit) || container.restart_count >= REPEATED)
}

fn is_oom(exit: &ContainerStateTerminated) -> bool {
    exit.reason.as_deref() == Some("OOMKilled")
}

fn of_exit(pod: &Pod, exit: &ContainerStateTerminated) -> (Reason, String) {
    if is_oom(exit) {
        let limit = memory_limit(pod).map_or_else(String::new, |limit| format!(" of {limit}"));
        let message = format!(
            "the container exceeded its memory limit{limit}: raise `resources.limits.memory` of the stage"
        );
        return (Reason::OomKilled, message);
    }
    let written = exit.message.as_deref().map(error_message).filter(|message| !message.is_empty());
    let message = match written {
        Some(message) => format!("the container exited: {message}"),
        None => format!(
            "the container exited with code {}: see `kubectl logs --previous {}`",
            exit.exit_code,
            pod.name_any()
        ),
    };
    (Reason::Crashing, message)
}

fn memory_limit(pod: &Pod) -> Option<String> {
    let container = pod.spec.as_ref()?.containers.first()?;
    Some(container.resources.as_ref()?.limits.as_ref()?.get("memory")?.0.clone())
}

/// The error in a termination message: the message that a worker wrote, or that of the last line of its log.
fn error_message(message: &str) -> String {
    let last = message.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    let line: Option<serde_json::Value> = serde_json::from_str(last).ok();
    shortened(line.as_ref().and_then(|line| line["fields"]["message"].as_str()).unwrap_or(last))
}

fn shortened(message: &str) -> String {
    let message = message.trim();
    let end = message.char_indices().map(|(at, _)| at).find(|at| *at >= MAX_MESSAGE);
    end.map_or_else(|| message.to_owned(), |end| format!("{}…", &message[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use herd_spec::health::Trouble;
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

    fn exited(reason: &str, code: i32, message: &str, finished: &str) -> Value {
        json!({"terminated": {"exitCode": code, "reason": reason, "message": message, "finishedAt": finished}})
    }

    fn failure(container: Value) -> Option<Failure> {
        of_pod(&pod("shop-detector-x", container), NOW.parse().unwrap())
    }

    #[rstest]
    #[case::oom(
        container(json!({"lastState": exited("OOMKilled", 137, "", NOW), "state": {"waiting": {"reason": "CrashLoopBackOff"}}})),
        Reason::OomKilled, "the container exceeded its memory limit of 16Mi"
    )]
    #[case::termination_message(
        container(json!({"lastState": exited("Error", 1, "the database `shop` does not exist", NOW)})),
        Reason::Crashing, "the container exited: the database `shop` does not exist"
    )]
    #[case::end_of_log(
        container(json!({"lastState": exited("Error", 101, "{\"level\":\"INFO\",\"fields\":{\"message\":\"starting\"}}\n{\"level\":\"ERROR\",\"fields\":{\"message\":\"no plan\"}}\n", NOW)})),
        Reason::Crashing, "the container exited: no plan"
    )]
    #[case::no_message(
        container(json!({"state": exited("Error", 3, "", NOW)})),
        Reason::Crashing, "exited with code 3: see `kubectl logs --previous shop-detector-x`"
    )]
    #[case::image_unavailable(
        container(json!({"state": {"waiting": {"reason": "ImagePullBackOff"}}})),
        Reason::ImageUnavailable, "the image herd/worker:1 cannot be pulled"
    )]
    #[case::ready_between_two_exits(
        container(json!({"ready": true, "lastState": exited("OOMKilled", 137, "", "2026-01-02T03:03:55Z")})),
        Reason::OomKilled, "raise `resources.limits.memory`"
    )]
    fn failing_container_is_reported_with_its_cause(
        #[case] container: Value,
        #[case] reason: Reason,
        #[case] message: &str,
    ) {
        let found = failure(container).unwrap();
        assert_eq!(found.reason, reason);
        assert!(
            found.message.starts_with("pod shop-detector-x: ") && found.message.contains(message),
            "{found:?}"
        );
    }

    #[rstest]
    #[case::starting(container(json!({"state": {"waiting": {"reason": "ContainerCreating"}}})))]
    #[case::recovered(container(json!({"ready": true, "lastState": exited("OOMKilled", 137, "", "2026-01-02T03:00:00Z")})))]
    #[case::exited_once(container(json!({"ready": true, "lastState": exited("Error", 1, "", "2026-01-02T03:04:00Z")})))]
    fn starting_or_healthy_pod_has_no_failure(#[case] container: Value) {
        assert_eq!(failure(container), None);
    }

    #[test]
    fn health_report_takes_precedence_over_pod_status() {
        let crashed = container(json!({"lastState": exited("Error", 1, "", NOW)}));
        let well = container(json!({"ready": true}));
        let report: HealthReport = serde_json::from_value(json!({
            "ready": true, "draining": false, "starting": {},
            "troubles": [{"step": "store", "reason": "DatabaseUnreachable", "message": "connecting to db:5432: refused", "since": 1}],
        }))
        .unwrap();
        let reports = BTreeMap::from([("shop-detector-b".to_owned(), report)]);
        let pods = [pod("shop-detector-b", well), pod("shop-detector-a", crashed)];
        let failures = by_stage(&pods, &reports, NOW.parse().unwrap());
        let message = "pod shop-detector-b: store: connecting to db:5432: refused";
        let expected = Failure::new(Reason::Trouble(Trouble::DatabaseUnreachable), message);
        assert_eq!(failures, BTreeMap::from([("detector".to_owned(), expected)]));
    }

    #[test]
    fn unknown_reason_of_a_newer_worker_is_stage_failing() {
        let report =
            json!({"ready": true, "troubles": [{"step": "a", "reason": "New", "message": "m", "since": 1}]});
        let report: HealthReport = serde_json::from_value(report).unwrap();
        let pod = pod("a", container(json!({"ready": true})));
        assert_eq!(of_report(&pod, &report).unwrap().reason, Reason::StageFailing);
    }
}
