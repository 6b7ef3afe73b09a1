//! What a detector says of a window, and the life of an alert.
//!
//! One alert for one crowd, whatever the timing. Windows of a key are judged in order as they close; an alert is raised by
//! the first that crosses, and no other until it is resolved (a window is usual again) and the cooldown is over. A window
//! still open may be known to cross already, and then fires early. Should an older window, open at that time too, turn out
//! to have crossed first (its events came late), the alert is that window's, and the younger one's early alert is withdrawn
//! when it closes. So the alerts that remain are a function of the closed windows alone.

use herd_spec::pipeline::AggregateFunction;
use herd_spec::plan::MetricPlan;
use herd_spec::wire::{Alert, AlertId, AlertState, VERSION};

use super::baseline::Watching;
use super::watch::{Index, Watch, Watched};
use crate::algorithm::{Crossing, Expectation};

/// A window under judgement.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The pipeline's name.
    pub pipeline: &'a str,
    /// The metric.
    pub watched: &'a Watched,
    /// The key.
    pub key: &'a str,
    /// The window.
    pub index: Index,
    /// Its value.
    pub value: f64,
    /// Its events.
    pub count: u64,
}

/// Judges a closed window: updates what the detector keeps, and returns the alert record that is due, if any.
pub fn close(
    candidate: &Candidate<'_>,
    watch: &Watch,
    kept: &mut Watching,
    expectation: Option<&Expectation>,
) -> Option<Alert> {
    let crossing = expectation.and_then(|expectation| {
        Some((expectation, watch.rule.crossing(expectation, candidate.value, candidate.count)?))
    });
    let Some((expectation, crossing)) = crossing else {
        let mut alert = *kept.firing.take()?;
        alert.state = AlertState::Resolved;
        alert.resolved = Some(candidate.watched.start(candidate.index));
        return Some(alert);
    };
    if may_alert(kept, watch, candidate.index) {
        let alert = alert(candidate, watch, expectation, crossing, AlertState::Firing);
        kept.alerted = Some(candidate.index);
        kept.firing = Some(Box::new(alert.clone()));
        return Some(alert);
    }
    // Only a window younger than the alert's by less than the lag can have fired early without knowing of it.
    let ambiguous = kept.alerted.is_some_and(|alerted| candidate.index - alerted < candidate.watched.lag);
    (ambiguous && fires_early(candidate.watched) && crossing == Crossing::Up)
        .then(|| alert(candidate, watch, expectation, crossing, AlertState::Withdrawn))
}

/// The early alert of a window still open, if it is known to cross and nothing known stands against it. `early`: the
/// window for which this detector last fired early for this key.
pub fn early(
    candidate: &Candidate<'_>,
    watch: &Watch,
    kept: Option<&Watching>,
    expectation: &Expectation,
    early: Option<Index>,
) -> Option<Alert> {
    if !fires_early(candidate.watched)
        || watch.rule.crossing(expectation, candidate.value, candidate.count) != Some(Crossing::Up)
    {
        return None;
    }
    let again = early
        .is_some_and(|early| early <= candidate.index && candidate.index - early < watch.cooldown.max(1));
    let stands = kept.is_none_or(|kept| may_alert(kept, watch, candidate.index));
    (stands && !again).then(|| alert(candidate, watch, expectation, Crossing::Up, AlertState::Early))
}

/// A count only grows while its window is open, so what crosses early crosses at the close. Sums, means and estimates may
/// come down again: they are judged at the close.
#[must_use]
pub fn fires_early(watched: &Watched) -> bool {
    watched.metric.aggregate.function() == AggregateFunction::Count
}

fn may_alert(kept: &Watching, watch: &Watch, index: Index) -> bool {
    let cooled = kept.alerted.is_none_or(|alerted| index.saturating_sub(alerted) >= watch.cooldown.max(1));
    kept.firing.is_none() && cooled
}

fn alert(
    candidate: &Candidate<'_>,
    watch: &Watch,
    expectation: &Expectation,
    crossing: Crossing,
    state: AlertState,
) -> Alert {
    let metric = &candidate.watched.metric;
    let start = candidate.watched.start(candidate.index);
    Alert {
        v: VERSION,
        id: AlertId::of(candidate.pipeline, &watch.name, candidate.key, start),
        pipeline: candidate.pipeline.to_owned(),
        detector: watch.name.clone(),
        metric: metric.name.to_string(),
        rule: watch.rule_hash,
        key: candidate.key.to_owned(),
        severity: watch.severity,
        state,
        start,
        size_ms: u64::try_from(metric.window.as_millis()).unwrap_or(u64::MAX),
        span_ms: u64::try_from(metric.window.as_millis()).unwrap_or(u64::MAX),
        count: candidate.count,
        value: candidate.value,
        expected: bound(watch, expectation, crossing),
        spread: expectation.spread,
        score: watch.rule.score(expectation, candidate.value),
        summary: summary(candidate, watch, expectation, crossing, metric),
        resolved: None,
        episode: None,
    }
}

fn bound(watch: &Watch, expectation: &Expectation, crossing: Crossing) -> f64 {
    match (watch.rule.is_threshold(), crossing) {
        (false, _) => expectation.expected,
        (true, Crossing::Up) => expectation.upper,
        (true, Crossing::Down) => expectation.lower,
    }
}

/// Why, in words: "product-123: 412 views in 10 s, expected about 35 ± 6, 63 times the usual spread".
fn summary(
    candidate: &Candidate<'_>,
    watch: &Watch,
    expectation: &Expectation,
    crossing: Crossing,
    metric: &MetricPlan,
) -> String {
    let only = if crossing == Crossing::Down { "only " } else { "" };
    let value = number(candidate.value);
    let what = match metric.aggregate.function() {
        AggregateFunction::Count | AggregateFunction::Unique => format!("{only}{value} {}", metric.name),
        AggregateFunction::Sum => format!("{} of {only}{value}", metric.name),
        AggregateFunction::Mean => format!("{} of {only}{value} on average", metric.name),
    };
    let head = format!("{}: {what} in {}", candidate.key, span(metric.window.as_secs()));
    if watch.rule.is_threshold() {
        let side = if crossing == Crossing::Up { "above" } else { "below" };
        return format!("{head}, {side} the bound of {}", number(bound(watch, expectation, crossing)));
    }
    let times = match (candidate.value - expectation.expected).abs() / expectation.spread {
        times if times > 1000.0 => "over 1000".to_owned(), // it was always the same
        times => number(times),
    };
    format!(
        "{head}, expected about {} ± {}, {times} times the usual spread",
        number(expectation.expected),
        number(expectation.spread),
    )
}

/// As a person writes it: no decimals from ten on, one below, two below one, and none that are zero.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 10.0 => 0,
        size if size >= 1.0 => 1,
        _ => 2,
    };
    let written = format!("{value:.decimals$}");
    match written.split_once('.') {
        Some(_) => written.trim_end_matches('0').trim_end_matches('.').to_owned(),
        None => written,
    }
}

fn span(seconds: u64) -> String {
    match seconds {
        60 => "a minute".to_owned(),
        s if s > 60 && s.is_multiple_of(60) => format!("{} minutes", s / 60),
        s => format!("{s} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(412.0, "412")]
    #[case(35.04, "35")]
    #[case(5.96, "6")]
    #[case(2.52, "2.5")]
    #[case(0.043, "0.04")]
    #[case(0.0, "0")]
    #[case(-3.25, "-3.2")]
    fn numbers_are_written_for_people(#[case] value: f64, #[case] written: &str) {
        assert_eq!(number(value), written);
    }
}
