//! Renders the status of a pipeline as text. Pure.

use std::fmt::Write as _;

use herd_spec::pipeline::{HerdPipeline, HerdPipelineStatus, StageStatus, StatusCondition};
use kube::ResourceExt;

/// A pipeline on one screen: readiness, stages, findings and URLs.
pub(super) fn status(pipeline: &HerdPipeline) -> String {
    let name = pipeline.name_any();
    let Some(status) = &pipeline.status else {
        return format!("{name}  no status yet: check that the operator is running\n");
    };
    // Writing to a `String` cannot fail, here and below.
    let mut text = format!("{name}  {}\n", readiness(status));
    let count = |number: Option<u64>| number.map_or_else(|| "–".to_owned(), |number| number.to_string());
    let _ = writeln!(
        text,
        "  {} events/s   lag {}   alerts {}",
        count(status.events_per_second),
        count(status.lag),
        count(status.alerts)
    );
    let _ = writeln!(
        text,
        "\n  {:<18} {:>7} {:>9} {:>8} {:>9}  last change",
        "STAGE", "READY", "IN/S", "LAG", "DELAY"
    );
    for stage in &status.stages {
        let last = stage.last_scaling.as_ref();
        let last =
            last.map_or_else(String::new, |last| format!("{} → {} {}", last.from, last.to, time(&last.time)));
        let _ = writeln!(
            text,
            "  {:<18} {:>7} {:>9} {:>8} {:>9}  {last}",
            stage.name,
            format!("{}/{}", stage.ready, stage.desired),
            count(stage.input_rate),
            count(stage.lag),
            stage.lag_seconds.map_or_else(|| "–".into(), |seconds| format!("{seconds} s")),
        );
    }
    for stage in &status.stages {
        for finding in &stage.findings {
            let _ = writeln!(text, "  ! {}: {finding}", stage.name);
        }
    }
    for condition in &status.conditions {
        let part = !["Ready", "Reconciling", "Stalled"].contains(&&*condition.kind);
        let shown = part
            && (condition.status != "True" || ["Differ", "FieldsContested"].contains(&&*condition.reason));
        if shown && condition.reason != "NotConfigured" {
            let _ = writeln!(text, "  {}: {}", condition.kind, condition.message);
        }
    }
    if let Some(urls) = &status.urls {
        let _ = writeln!(text, "\n  collector  {}/track\n  dashboard  {}", urls.collector, urls.api);
    }
    text
}

/// The last scaling decision of each stage and its inputs.
pub(super) fn explanation(pipeline: &HerdPipeline) -> String {
    let name = pipeline.name_any();
    let Some(status) = &pipeline.status else {
        return format!("{name}: no status yet: check that the operator is running");
    };
    let mut text = String::new();
    if let Some(condition) = find(status, "ScalingActive") {
        let _ = writeln!(text, "{name}: {}", condition.message);
    }
    for stage in status.stages.iter().filter(|stage| stage.decision.is_some()) {
        let _ = write!(text, "\n{}", reasons(stage));
    }
    text
}

fn reasons(stage: &StageStatus) -> String {
    let mut text = format!("{}  {} of {} ready\n", stage.name, stage.ready, stage.desired);
    let unit = if stage.name == "collector" { "requests/s" } else { "records/s" };
    let mut row = |what: &str, value: String| {
        let _ = writeln!(text, "  {what:<12} {value}");
    };
    row("decision", stage.decision.clone().unwrap_or_default());
    if let Some(recommended) = stage.recommended {
        row("recommended", format!("{recommended} replicas (applied in `mode: Auto`)"));
    }
    if let Some(rate) = stage.input_rate {
        row("input", format!("{rate} {unit}"));
    }
    match stage.capacity {
        Some(one) => row(
            "capacity",
            format!("{one} {unit} per replica, {} {unit} with {}", one * u64::from(stage.ready), stage.ready),
        ),
        None => row("capacity", "unknown".into()),
    }
    if let Some(lag) = stage.lag {
        let delay =
            stage.lag_seconds.map_or_else(|| "no progress".into(), |seconds| format!("delay {seconds} s"));
        row("lag", if lag == 0 { "0 records".into() } else { format!("{lag} records, {delay}") });
    }
    if let Some(last) = &stage.last_scaling {
        row("last change", format!("{} → {} {}: {}", last.from, last.to, time(&last.time), last.reason));
    }
    for finding in &stage.findings {
        row("finding", finding.clone());
    }
    text
}

fn readiness(status: &HerdPipelineStatus) -> String {
    match find(status, "Ready") {
        Some(ready) if ready.status == "True" && ready.reason == "Paused" => {
            format!("paused: {}", ready.message)
        }
        Some(ready) if ready.status == "True" => "ready".into(),
        Some(ready) => format!("not ready: {}: {}", ready.reason, ready.message),
        None => "readiness unknown".into(),
    }
}

fn find<'s>(status: &'s HerdPipelineStatus, kind: &str) -> Option<&'s StatusCondition> {
    status.conditions.iter().find(|condition| condition.kind == kind)
}

/// `at 12:34:56 UTC` of a time in RFC 3339.
fn time(rfc3339: &str) -> String {
    rfc3339.get(11..19).map_or_else(|| rfc3339.to_owned(), |time| format!("at {time} UTC"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shop(status: &str) -> HerdPipeline {
        serde_json::from_str(&format!(
            r#"{{"apiVersion": "herd.dev/v1alpha1", "kind": "HerdPipeline", "metadata": {{"name": "shop"}}, "spec": {{}}, "status": {status}}}"#
        ))
        .unwrap()
    }

    const BUSY: &str = r#"{
        "conditions": [
            {"type": "Ready", "status": "True", "reason": "AllReady", "message": "all stages are ready", "lastTransitionTime": "2026-01-02T03:04:05Z"},
            {"type": "ScalingActive", "status": "True", "reason": "Active", "message": "scaling detector", "lastTransitionTime": "2026-01-02T03:04:05Z"}
        ],
        "eventsPerSecond": 4100, "lag": 12000, "alerts": 7,
        "stages": [
            {"name": "collector", "desired": 1, "ready": 1, "decision": "fixed at 1 replica: the stage has no `scaling`"},
            {"name": "detector", "desired": 4, "ready": 2, "lag": 12000, "lagSeconds": 3, "inputRate": 4100, "capacity": 1100,
             "decision": "keeping 4 replicas: 2 of 4 replicas ready",
             "lastScaling": {"from": 2, "to": 4, "reason": "input 4,100 records/s exceeds capacity 2,200 records/s", "time": "2026-01-02T03:10:00.000Z"},
             "findings": ["HotPartition: input 2,000 records/s on partition 3 of shop.events exceeds the capacity of one replica, 1,100 records/s"]}
        ],
        "urls": {"collector": "http://shop-collector.demo.svc", "api": "http://shop-api.demo.svc"}
    }"#;

    #[test]
    fn status_shows_readiness_stages_and_findings() {
        insta::assert_snapshot!(status(&shop(BUSY)));
    }

    #[test]
    fn explanation_shows_the_inputs_of_each_decision() {
        insta::assert_snapshot!(explanation(&shop(BUSY)));
    }

    #[test]
    fn status_of_an_unobserved_pipeline_names_the_operator() {
        assert!(status(&shop("null")).contains("check that the operator is running"));
    }

    #[test]
    fn status_starts_with_the_reason_of_an_unready_pipeline() {
        let failing = BUSY.replacen(
            r#""status": "True", "reason": "AllReady", "message": "all stages are ready""#,
            r#""status": "False", "reason": "StageFailing", "message": "detector: pod x: no""#,
            1,
        );
        assert!(status(&shop(&failing)).starts_with("shop  not ready: StageFailing: detector: pod x: no\n"));
    }
}
