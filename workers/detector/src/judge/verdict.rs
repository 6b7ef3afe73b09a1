//! What a detector says of a window, and the life of an alert.
//!
//! One alert for one episode, whatever the timing. Windows of a key are judged in order as they close; an alert is raised by
//! the first that crosses, brought up to date by those that follow, and no other is raised until it is resolved (a window is
//! usual again) and the cooldown is over. A window still open may be known to cross already, and then fires early. Should an
//! older window, open at that time too, turn out to have crossed first (its events came late), the alert is that window's, and
//! the younger one's early alert is withdrawn when it closes. So the alerts that remain are a function of the closed windows
//! alone.

use herd_spec::pipeline::AggregateFunction;
use herd_spec::wire::{Alert, AlertId, AlertState, Ending, Episode, VERSION};
use smallvec::SmallVec;

use super::baseline::Watching;
use super::sentence::{self, Subject};
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
    /// Its different users, where they are counted.
    pub users: u64,
}

/// Which way the value of a window crosses a bound, if an alert may come of that.
pub(super) fn crossing(
    candidate: &Candidate<'_>,
    watch: &Watch,
    expectation: &Expectation,
) -> Option<Crossing> {
    let crossing = watch.rule.crossing(expectation, candidate.value, candidate.count)?;
    has_enough_users(candidate, watch, crossing).then_some(crossing)
}

/// Whether there are as many different users as an alert of more than usual needs.
pub(super) fn has_enough_users(candidate: &Candidate<'_>, watch: &Watch, crossing: Crossing) -> bool {
    crossing == Crossing::Down || candidate.users >= watch.min_users
}

/// Judges a closed window: updates what the detector keeps, and returns the alert records that are due, if any: hardly ever two.
pub fn close(
    candidate: &Candidate<'_>,
    watch: &Watch,
    kept: &mut Watching,
    expectation: Option<&Expectation>,
) -> SmallVec<[Alert; 0]> {
    let crossing = expectation
        .and_then(|expectation| Some((expectation, self::crossing(candidate, watch, expectation)?)));
    let Some((expectation, crossing)) = crossing else {
        let firing = kept.firing.take();
        return firing.map(|alert| resolve(candidate, watch, *alert, Ending::Usual)).into_iter().collect();
    };
    if may_alert(kept, watch, candidate.index) {
        let alert = alert(candidate, watch, expectation, crossing, AlertState::Firing);
        kept.alerted = Some(candidate.index);
        kept.firing = Some(Box::new(alert.clone()));
        return [alert].into_iter().collect();
    }
    // A silence below a bound is not judged window by window, however long it is: it adds nothing until it ends.
    let is_silence = watch.rule.is_threshold() && candidate.count == 0;
    let update = kept.firing.as_mut().filter(|_| !is_silence).and_then(|firing| {
        let is_told = prolong(candidate, watch, firing, bound(watch, expectation, crossing));
        is_told.then(|| (**firing).clone())
    });
    // Only a window younger than the alert's by less than the lag can have fired early without knowing of it.
    let ambiguous = kept.alerted.is_some_and(|alerted| candidate.index - alerted < candidate.watched.lag);
    let withdrawn = (ambiguous && fires_early(candidate.watched) && crossing == Crossing::Up)
        .then(|| alert(candidate, watch, expectation, crossing, AlertState::Withdrawn));
    update.into_iter().chain(withdrawn).collect()
}

/// Takes a window into the episode of a firing alert; whether the alert is to be sent again.
fn prolong(candidate: &Candidate<'_>, watch: &Watch, alert: &mut Alert, expected: f64) -> bool {
    let watched = candidate.watched;
    let crossing = direction(alert);
    let is_mean = watched.metric.aggregate.function() == AggregateFunction::Mean;
    let Some(episode) = &mut alert.episode else { return false };
    let windows = candidate.index.saturating_sub(watched.index(episode.since)) + 1;
    let is_further = match crossing {
        Crossing::Up => candidate.value > episode.peak,
        Crossing::Down => candidate.value < episode.peak,
    };
    if is_further {
        (episode.peak, episode.peak_start) = (candidate.value, watched.start(candidate.index));
    }
    let difference = candidate.value - expected;
    episode.excess = match crossing {
        _ if !is_mean => episode.excess + difference,
        Crossing::Up => episode.excess.max(difference),
        Crossing::Down => episode.excess.min(difference),
    };
    episode.until = watched.start(candidate.index.saturating_add(1));
    let episode = episode.clone();
    alert.summary = sentence::continued(alert, subject(watched, watch, crossing), &episode);
    is_further || is_told(windows)
}

/// Whether an alert is sent again after so many windows of its episode, though nothing much is new.
pub(super) fn is_told(windows: u32) -> bool {
    windows <= EACH || windows.is_multiple_of(EACH)
}

/// An episode is told of at each of so many first windows, and then once in so many.
const EACH: u32 = 8;

/// Ends a firing alert with this window, which is usual again.
fn resolve(candidate: &Candidate<'_>, watch: &Watch, mut alert: Alert, ending: Ending) -> Alert {
    let watched = candidate.watched;
    let end = watched.start(candidate.index);
    alert.state = AlertState::Resolved;
    alert.resolved = Some(end);
    if let Some(episode) = &mut alert.episode {
        episode.until = end;
        episode.ending = Some(ending);
        let episode = episode.clone();
        alert.summary = sentence::ended(&alert, subject(watched, watch, direction(&alert)), &episode, ending);
    }
    alert
}

/// Which way an alert's value left the usual range.
pub(super) fn direction(alert: &Alert) -> Crossing {
    if alert.value < alert.expected { Crossing::Down } else { Crossing::Up }
}

pub(super) fn subject<'a>(watched: &'a Watched, watch: &Watch, crossing: Crossing) -> Subject<'a> {
    Subject { metric: &watched.metric, crossing, is_bound: watch.rule.is_threshold() }
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
    if !fires_early(candidate.watched) || crossing(candidate, watch, expectation) != Some(Crossing::Up) {
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
    counts_events(watched)
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
    let watched = candidate.watched;
    let expected = bound(watch, expectation, crossing);
    let mut alert = blank(candidate, watch, state);
    alert.expected = expected;
    alert.spread = expectation.spread;
    alert.score = watch.rule.score(expectation, candidate.value);
    alert.episode = (state == AlertState::Firing).then(|| Episode {
        since: alert.start,
        until: watched.start(candidate.index.saturating_add(1)),
        peak: candidate.value,
        peak_start: alert.start,
        excess: candidate.value - expected,
        ending: None,
    });
    alert.summary = sentence::begun(&alert, subject(watched, watch, crossing));
    alert
}

/// An alert of a window, in which nothing stands yet of what was expected.
pub(super) fn blank(candidate: &Candidate<'_>, watch: &Watch, state: AlertState) -> Alert {
    let metric = &candidate.watched.metric;
    let start = candidate.watched.start(candidate.index);
    let size_ms = u64::try_from(metric.window.as_millis()).unwrap_or(u64::MAX);
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
        size_ms,
        span_ms: size_ms,
        count: candidate.count,
        value: candidate.value,
        expected: 0.0,
        spread: 0.0,
        score: 0.0,
        summary: String::new(),
        resolved: None,
        episode: None,
        explanation: None,
    }
}

/// Whether the value of a window is the number of its events.
pub(super) fn counts_events(watched: &Watched) -> bool {
    watched.metric.aggregate.function() == AggregateFunction::Count
}

fn bound(watch: &Watch, expectation: &Expectation, crossing: Crossing) -> f64 {
    match (watch.rule.is_threshold(), crossing) {
        (false, _) => expectation.expected,
        (true, Crossing::Up) => expectation.upper,
        (true, Crossing::Down) => expectation.lower,
    }
}
