//! What is told of scaling: numbers for the status, a condition. Pure.

use std::collections::BTreeMap;

use herd_spec::pipeline::{ScalingStatus, StageStatus};
use herd_spec::scale::{Decision, Reason as Why};
use serde_json::Value;

use super::watch::Watch;
use crate::reason::{Reason, Trouble};
use crate::stage::{Role, Stage};

/// What is told of a stage.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StageReport {
    /// Records that wait.
    pub lag: Option<u64>,
    /// Seconds that a record waits.
    pub lag_seconds: Option<u64>,
    /// Records that come in, a second.
    pub input_rate: Option<u64>,
    /// Records a second of one replica.
    pub capacity: Option<u64>,
    /// What is recommended where nothing is carried out.
    pub recommended: Option<u32>,
    /// Why in one word.
    pub reason: &'static str,
    /// The decision in a sentence.
    pub decision: String,
    /// What scaling cannot put right.
    pub findings: Vec<String>,
    /// The names of these.
    finding: Option<&'static str>,
    /// The last change.
    pub last_scaling: Option<ScalingStatus>,
    /// What is to be remembered.
    pub memory: Value,
    scaled: bool,
    active: bool,
}

/// What is told of a pipeline.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PipelineReport {
    /// Events that come in, a second.
    pub events_per_second: Option<u64>,
    /// Alerts that are open.
    pub alerts: Option<u64>,
    /// What is wrong with its Kafka; none: it answers, or was not looked at.
    pub outage: Option<Trouble>,
    /// Its stages.
    pub stages: BTreeMap<Role, StageReport>,
}

/// What is said about scaling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalingWord {
    /// Whether something scales.
    pub active: bool,
    /// Why, in one word.
    pub reason: Reason,
    /// Why, for a person.
    pub message: String,
}

/// The report of a stage as it is watched; none before something was decided.
pub(super) fn of(watch: &Watch) -> Option<StageReport> {
    let decision = watch.decision.as_ref()?;
    let signals = decision.signals.as_ref();
    let told = decision.recommended != decision.replicas;
    Some(StageReport {
        lag: signals.map(|signals| signals.lag),
        lag_seconds: signals.and_then(|signals| signals.delay).map(|delay| two_digits(delay.as_secs_f64())),
        input_rate: signals.map(|signals| two_digits(signals.recent)),
        capacity: watch.memory.capacity.map(|capacity| two_digits(capacity.records_per_second)),
        recommended: told.then_some(decision.recommended.0),
        reason: decision.reason.name(),
        decision: sentence(decision, watch),
        findings: decision.findings.iter().map(|finding| format!("{}: {finding}", finding.name())).collect(),
        finding: decision.findings.first().map(|finding| finding.name()),
        last_scaling: watch.memory.last.as_ref().map(|last| ScalingStatus {
            from: last.from.0,
            to: last.to.0,
            reason: last.reason.clone(),
            time: last.at.rfc3339(),
        }),
        memory: serde_json::to_value(&watch.memory).unwrap_or_default(),
        scaled: watch.is_scaled(),
        active: decision.active,
    })
}

fn sentence(decision: &Decision, watch: &Watch) -> String {
    match decision.reason {
        Why::Fixed => format!("{} run: no scaling is asked for", decision.replicas),
        _ => decision.sentence(watch.pods),
    }
}

/// Rounded to two digits, so that a status says something new only when something is.
pub(super) fn two_digits(number: f64) -> u64 {
    if number < 100.0 {
        return number.round() as u64;
    }
    let unit = 10_f64.powi(number.log10().floor() as i32 - 1);
    ((number / unit).round() * unit) as u64
}

impl StageReport {
    /// Whether another report says the same but for numbers in sentences, which change all the time.
    fn says(&self, other: &Self) -> bool {
        let numbers = |report: &Self| {
            let Self { lag, lag_seconds, input_rate, capacity, recommended, reason, finding, .. } = report;
            let lag = lag.map(|lag| two_digits(lag as f64));
            (lag, *lag_seconds, *input_rate, *capacity, *recommended, *reason, *finding)
        };
        numbers(self) == numbers(other) && self.last_scaling == other.last_scaling
    }

    /// Writes it into the status of its stage.
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
    /// Whether another report says the same.
    pub(super) fn says(&self, other: &Self) -> bool {
        (self.events_per_second, self.alerts) == (other.events_per_second, other.alerts)
            && self.stages.len() == other.stages.len()
            && self.stages.iter().all(|(role, report)| other.stages.get(role).is_some_and(|o| report.says(o)))
    }

    /// Whether replicas were changed since an earlier report.
    pub(super) fn has_scaled(&self, before: &Self) -> bool {
        let last = |report: &Self, role| report.stages.get(role).and_then(|stage| stage.last_scaling.clone());
        self.stages.keys().any(|role| last(self, role) != last(before, role))
    }

    /// Records that wait, over all stages.
    #[must_use]
    pub fn lag(&self) -> Option<u64> {
        let mut lags = self.stages.values().filter_map(|stage| stage.lag).peekable();
        lags.peek()?;
        Some(lags.sum())
    }
}

/// What the condition `ScalingActive` says.
#[must_use]
pub fn word(stages: &[Stage], paused: bool, report: Option<&PipelineReport>) -> ScalingWord {
    let asked: Vec<&Stage> = stages.iter().filter(|stage| super::is_scaled(stage)).collect();
    let inactive = |reason, message: String| ScalingWord { active: false, reason, message };
    if asked.is_empty() {
        return inactive(
            Reason::OfScaling("NotAsked"),
            "no stage asks for scaling: `replicas` of each run".into(),
        );
    }
    if paused && asked.iter().all(|stage| stage.role.pauses()) {
        return inactive(Reason::Paused, "nothing is scaled until `paused` is false".into());
    }
    let reports = || report.into_iter().flat_map(|report| &report.stages).filter(|(_, report)| report.scaled);
    if let Some(outage) = report.and_then(|report| report.outage.as_ref()) {
        return inactive(outage.reason, format!("nothing is changed without data: {}", outage.message));
    }
    if let Some((role, report)) = reports().find(|(_, report)| !report.active) {
        return inactive(Reason::OfScaling(report.reason), format!("{role}: {}", report.decision));
    }
    if reports().next().is_none() {
        return inactive(Reason::OfScaling("Gathering"), "the stages have not been looked at yet".into());
    }
    let active = |reason, message: String| ScalingWord { active: true, reason, message };
    if let Some((role, report)) = reports().find(|(_, report)| report.finding.is_some()) {
        let message = format!("{role}: {}", report.findings.join("; "));
        return active(Reason::OfScaling(report.finding.unwrap_or("Finding")), message);
    }
    let names: Vec<String> = asked.iter().map(|stage| stage.role.to_string()).collect();
    let verb = if names.len() == 1 { "is" } else { "are" };
    active(Reason::OfScaling("Active"), format!("{} {verb} scaled by what waits", names.join(", ")))
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
    fn rates_are_told_to_two_digits(#[case] number: f64, #[case] told: u64) {
        assert_eq!(two_digits(number), told);
    }

    fn report(lag: u64, decision: &str) -> StageReport {
        StageReport {
            lag: Some(lag),
            decision: decision.into(),
            reason: "Settling",
            ..StageReport::default()
        }
    }

    #[test]
    fn a_sentence_with_other_numbers_is_no_news() {
        assert!(report(10_010, "for 5s more").says(&report(10_020, "for 10s more")));
        assert!(!report(10_010, "").says(&report(12_000, "")));
    }
}
