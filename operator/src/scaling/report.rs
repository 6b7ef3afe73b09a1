//! The scaling part of the status: numbers, decisions, and the condition `ScalingActive`. Pure.

use std::collections::BTreeMap;

use herd_spec::pipeline::{ScalingStatus, StageStatus};
use herd_spec::scale::{FindingKind, ReasonKind};
use serde_json::Value;

use super::monitor::StageMonitor;
use crate::reason::{Failure, Reason};
use crate::stage::{Stage, StageId};

/// The report about a stage.
#[derive(Clone, Debug, PartialEq)]
pub struct StageReport {
    /// Its lag in records.
    pub lag: Option<u64>,
    /// How long a new record will wait, in seconds.
    pub lag_seconds: Option<u64>,
    /// Input in records per second.
    pub input_rate: Option<u64>,
    /// Capacity of one replica in records per second.
    pub capacity: Option<u64>,
    /// The recommended number of replicas, where decisions are not applied.
    pub recommended: Option<u32>,
    /// The kind of reason of the decision.
    pub reason: ReasonKind,
    /// The decision in one sentence.
    pub decision: String,
    /// Problems that scaling cannot solve.
    pub findings: Vec<String>,
    /// The kind of the first of them.
    finding: Option<FindingKind>,
    /// The last change of replicas.
    pub last_scaling: Option<ScalingStatus>,
    /// The scaling memory, for the next start of the operator.
    pub memory: Value,
    scaled: bool,
    active: bool,
}

/// The report about a pipeline.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PipelineReport {
    /// Events per second.
    pub events_per_second: Option<u64>,
    /// Open alerts.
    pub alerts: Option<u64>,
    /// The failure of its Kafka cluster; none if it answers or was not polled yet.
    pub outage: Option<Failure>,
    /// Its stages.
    pub stages: BTreeMap<StageId, StageReport>,
}

/// The condition `ScalingActive`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalingCondition {
    /// Its status.
    pub active: bool,
    /// Its reason.
    pub reason: Reason,
    /// Its message.
    pub message: String,
}

/// The report about a stage; none before the first decision.
pub(super) fn of(monitor: &StageMonitor) -> Option<StageReport> {
    let decision = monitor.decision.as_ref()?;
    let signals = decision.signals.as_ref();
    let only_recommended = decision.recommended != decision.replicas;
    Some(StageReport {
        lag: signals.map(|signals| signals.lag),
        lag_seconds: signals.and_then(|signals| signals.delay).map(|delay| two_digits(delay.as_secs_f64())),
        input_rate: signals.map(|signals| two_digits(signals.recent)),
        capacity: monitor.memory.capacity.map(|capacity| two_digits(capacity.records_per_second)),
        recommended: only_recommended.then_some(decision.recommended.0),
        reason: decision.reason.kind(),
        decision: decision.sentence(monitor.pods),
        findings: decision.findings.iter().map(|finding| format!("{}: {finding}", finding.kind())).collect(),
        finding: decision.findings.first().map(|finding| finding.kind()),
        last_scaling: monitor.memory.last.as_ref().map(|last| ScalingStatus {
            from: last.from.0,
            to: last.to.0,
            reason: last.reason.clone(),
            time: last.at.rfc3339(),
        }),
        memory: serde_json::to_value(&monitor.memory).unwrap_or_default(),
        scaled: monitor.is_scaled(),
        active: decision.active,
    })
}

/// Rounds to two digits, so that the status changes only when the number does noticeably.
pub(super) fn two_digits(number: f64) -> u64 {
    if number < 100.0 {
        return number.round() as u64;
    }
    let unit = 10_f64.powi(number.log10().floor() as i32 - 1);
    ((number / unit).round() * unit) as u64
}

impl StageReport {
    /// Whether another report is the same, except for the numbers in sentences, which change all the time.
    fn is_similar(&self, other: &Self) -> bool {
        let numbers = |report: &Self| {
            let Self { lag, lag_seconds, input_rate, capacity, recommended, reason, finding, .. } = report;
            let lag = lag.map(|lag| two_digits(lag as f64));
            (lag, *lag_seconds, *input_rate, *capacity, *recommended, *reason, *finding)
        };
        numbers(self) == numbers(other) && self.last_scaling == other.last_scaling
    }

    /// Writes the report into the status of its stage.
    pub fn write(&self, status: &mut StageStatus) {
        let Self { lag, lag_seconds, input_rate, capacity, recommended, decision, findings, .. } =
            self.clone();
        status.lag = lag;
        status.lag_seconds = lag_seconds;
        status.input_rate = input_rate;
        status.capacity = capacity;
        status.recommended = recommended;
        status.decision = Some(decision);
        status.findings = findings;
        status.last_scaling.clone_from(&self.last_scaling);
        status.memory = Some(self.memory.clone()).filter(|_| self.scaled);
    }
}

impl PipelineReport {
    /// Whether another report is the same, except for the numbers in sentences.
    pub(super) fn is_similar(&self, other: &Self) -> bool {
        (self.events_per_second, self.alerts) == (other.events_per_second, other.alerts)
            && self.stages.len() == other.stages.len()
            && self
                .stages
                .iter()
                .all(|(id, report)| other.stages.get(id).is_some_and(|o| report.is_similar(o)))
    }

    /// Whether replicas were changed since an earlier report.
    pub(super) fn has_scaled(&self, before: &Self) -> bool {
        let last = |report: &Self, id| report.stages.get(id).and_then(|stage| stage.last_scaling.clone());
        self.stages.keys().any(|id| last(self, id) != last(before, id))
    }

    /// The lag of all stages together.
    #[must_use]
    pub fn lag(&self) -> Option<u64> {
        let mut lags = self.stages.values().filter_map(|stage| stage.lag).peekable();
        lags.peek()?;
        Some(lags.sum())
    }
}

/// The condition `ScalingActive`.
#[must_use]
pub fn condition(stages: &[Stage], paused: bool, report: Option<&PipelineReport>) -> ScalingCondition {
    let scaled: Vec<&Stage> = stages.iter().filter(|stage| super::is_scaled(stage)).collect();
    let inactive = |reason, message: String| ScalingCondition { active: false, reason, message };
    if scaled.is_empty() {
        let message = "no stage has `scaling`: each runs `replicas`";
        return inactive(Reason::ScalingNotRequested, message.into());
    }
    if paused && scaled.iter().all(|stage| stage.id.pauses()) {
        return inactive(Reason::Paused, "not scaling until `paused` is false".into());
    }
    let reports = || report.into_iter().flat_map(|report| &report.stages).filter(|(_, report)| report.scaled);
    if let Some(outage) = report.and_then(|report| report.outage.as_ref()) {
        return inactive(outage.reason, format!("not scaling without data: {}", outage.message));
    }
    if let Some((id, report)) = reports().find(|(_, report)| !report.active) {
        return inactive(Reason::ScalingDecision(report.reason), format!("{id}: {}", report.decision));
    }
    if reports().next().is_none() {
        return inactive(
            Reason::ScalingDecision(ReasonKind::Gathering),
            "no stage has been polled yet".into(),
        );
    }
    let active = |reason, message: String| ScalingCondition { active: true, reason, message };
    if let Some((id, report, finding)) =
        reports().find_map(|(id, report)| Some((id, report, report.finding?)))
    {
        let message = format!("{id}: {}", report.findings.join("; "));
        return active(Reason::ScalingFinding(finding), message);
    }
    let names: Vec<String> = scaled.iter().map(|stage| stage.id.to_string()).collect();
    active(Reason::ScalingWorks, format!("scaling {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(0.4, 0)]
    #[case(99.6, 100)]
    #[case(1049.0, 1000)]
    #[case(1051.0, 1100)]
    #[case(123_456.0, 120_000)]
    fn rates_are_rounded_to_two_digits(#[case] number: f64, #[case] rounded: u64) {
        assert_eq!(two_digits(number), rounded);
    }

    fn report(lag: u64, decision: &str) -> StageReport {
        StageReport {
            lag: Some(lag),
            lag_seconds: None,
            input_rate: None,
            capacity: None,
            recommended: None,
            reason: ReasonKind::Settling,
            decision: decision.into(),
            findings: Vec::new(),
            finding: None,
            last_scaling: None,
            memory: Value::Null,
            scaled: true,
            active: true,
        }
    }

    #[test]
    fn reports_that_differ_only_in_sentences_are_similar() {
        assert!(report(10_010, "for 5s more").is_similar(&report(10_020, "for 10s more")));
        assert!(!report(10_010, "").is_similar(&report(12_000, "")));
    }
}
