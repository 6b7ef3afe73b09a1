//! The alert of an episode: how it begins, is brought up to date and ends, whichever algorithm follows the episode.

use herd_detection::crowd;
use herd_spec::units::EventTime;
use herd_spec::wire::{Alert, AlertState, Ending, Episode};

use super::sentence;
use super::verdict::{self, Candidate};
use super::watch::{Index, Watch, Watched};
use crate::algorithm::Crossing;

/// What was found in a window.
pub(super) struct Finding {
    /// Of how many windows value and expected value are, ending with this one.
    pub(super) windows: u32,
    pub(super) value: f64,
    pub(super) expected: f64,
    pub(super) spread: f64,
    pub(super) score: f64,
    pub(super) crossing: Crossing,
}

/// The alert of a finding; with an episode where the window is closed and begins one.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // counts are small and not negative
pub(super) fn raised(
    watch: &Watch,
    candidate: &Candidate<'_>,
    finding: &Finding,
    state: AlertState,
    episode: Option<Episode>,
) -> Alert {
    let mut alert = verdict::blank(candidate, watch, state);
    alert.span_ms = alert.size_ms.saturating_mul(u64::from(finding.windows));
    if verdict::counts_events(candidate.watched) {
        alert.count = finding.value as u64;
    }
    alert.value = finding.value;
    alert.expected = finding.expected;
    alert.spread = finding.spread;
    alert.score = finding.score;
    alert.episode = episode;
    alert.summary = sentence::begun(&alert, verdict::subject(candidate.watched, watch, finding.crossing));
    alert
}

/// A firing alert with its episode as it is after another window; none if there is little to tell.
pub(super) fn continued(
    watch: &Watch,
    candidate: &Candidate<'_>,
    firing: &Alert,
    episode: Episode,
) -> Option<Alert> {
    let watched = candidate.watched;
    let windows = candidate.index.saturating_sub(watched.index(firing.start)) + 1;
    let is_further = episode.peak_start == watched.start(candidate.index);
    if !(is_further || verdict::is_told(windows)) {
        return None;
    }
    let mut alert = firing.clone();
    let subject = verdict::subject(watched, watch, verdict::direction(&alert));
    alert.summary = sentence::continued(&alert, subject, &episode);
    alert.episode = Some(episode);
    Some(alert)
}

/// Where an episode ends that was found to be over in the window `now`, `last` being its newest window that was not ordinary: back to
/// usual since the first window after that, at a new level as of now.
pub(super) fn end_of(
    watched: &Watched,
    ending: crowd::Ending,
    last: Index,
    now: Index,
) -> (EventTime, Ending) {
    let (ending, newest) = match ending {
        crowd::Ending::Usual => (Ending::Usual, last),
        crowd::Ending::NewLevel(level) => (Ending::NewLevel(level), now),
    };
    (watched.start(newest.saturating_add(1)), ending)
}

/// The resolved alert of an episode that ended at `end`.
pub(super) fn ended(
    watch: &Watch,
    watched: &Watched,
    mut alert: Alert,
    mut episode: Episode,
    end: EventTime,
    ending: Ending,
) -> Alert {
    (episode.until, episode.ending) = (end, Some(ending));
    alert.state = AlertState::Resolved;
    alert.resolved = Some(end);
    let subject = verdict::subject(watched, watch, verdict::direction(&alert));
    alert.summary = sentence::ended(&alert, subject, &episode, ending);
    alert.episode = Some(episode);
    alert
}

/// Whether an alert may begin in the candidate's window: enough events, of which `count` are in question, and users if it is of more than
/// usual, and the pause after the last alert is over.
pub(super) fn may_begin(
    watch: &Watch,
    candidate: &Candidate<'_>,
    alerted: Option<Index>,
    count: f64,
    crossing: Crossing,
) -> bool {
    #[allow(clippy::cast_precision_loss)] // no such counts
    let enough = crossing == Crossing::Down || count >= watch.min_count as f64;
    let is_paused = alerted.is_some_and(|alerted| candidate.index.saturating_sub(alerted) < watch.cooldown);
    enough && verdict::has_enough_users(candidate, watch, crossing) && !is_paused
}
