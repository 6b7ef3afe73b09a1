//! Where the alerts that were raised differ from those that must have been.

use herd_spec::wire::{AlertState, Ending, Episode};

/// How close to its bound a value may be before rounding may decide.
pub(super) const ROUNDING: f64 = 1e-5;

/// An alert that must have been raised.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Expected {
    pub(super) detector: String,
    /// Start of its window.
    pub(super) start: i64,
    pub(super) value: f64,
    pub(super) expected: f64,
    /// Start of the first window of its episode.
    pub(super) since: i64,
    /// What its episode amounts to by the newest window.
    pub(super) newest: Told,
    /// What was told of that while it lasted, oldest first; the first with the alert.
    pub(super) told: Vec<Told>,
    /// How it ended.
    pub(super) end: Option<End>,
}

/// What an episode amounts to when a window has closed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Told {
    /// Start of the window that closed.
    pub(super) at: i64,
    /// End of the newest window that is part of it.
    pub(super) until: i64,
    pub(super) peak: f64,
    pub(super) excess: f64,
}

/// The end of an episode.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct End {
    pub(super) last: Told,
    pub(super) ending: Ending,
}

/// An alert that was raised, as it stands in the end.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Found {
    pub(crate) id: String,
    pub(crate) detector: String,
    pub(crate) start: i64,
    pub(crate) state: AlertState,
    pub(crate) value: f64,
    pub(crate) expected: f64,
    pub(crate) resolved: Option<i64>,
    /// None where it is not known.
    pub(crate) episode: Option<Episode>,
}

/// Where the alerts of a key differ from those that follow from its windows.
#[derive(Debug)]
pub(crate) enum Difference {
    Unseen(Expected),
    Invented(Found),
    Inconsistent(Found, Expected),
}

/// Where `found` differs from `expected`, two lists of one key. `is_certain` says of a detector and the start of a window whether
/// it certainly closed, and with what. Also how many of `found` were held against what was expected.
pub(super) fn compare(
    expected: Vec<Expected>,
    found: Vec<Found>,
    is_certain: impl Fn(&str, i64) -> bool,
) -> (Vec<Difference>, usize) {
    let certain = expected.into_iter().filter(|alert| is_certain(&alert.detector, alert.start));
    let mut missing: Vec<Expected> = certain.collect();
    let mut differences = Vec::new();
    let mut checked = 0;
    let found = found.into_iter().filter(|found| found.state != AlertState::Withdrawn);
    for found in found.filter(|found| is_certain(&found.detector, found.start)) {
        checked += 1;
        let same = |known: &Expected| (&known.detector, known.start) == (&found.detector, found.start);
        let Some(place) = missing.iter().position(same) else {
            differences.push(Difference::Invented(found));
            continue;
        };
        let known = missing.swap_remove(place);
        if !known.is(&found, |at| is_certain(&found.detector, at)) {
            differences.push(Difference::Inconsistent(found, known));
        }
    }
    differences.extend(missing.into_iter().map(Difference::Unseen));
    (differences, checked)
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 10.0 * ROUNDING * (1.0 + b.abs())
}

impl Expected {
    /// Whether this is what was found.
    fn is(&self, found: &Found, is_certain: impl Fn(i64) -> bool) -> bool {
        let end = self.end.filter(|end| is_certain(end.last.at));
        let state = match (found.state, end) {
            (AlertState::Resolved, Some(end)) => found.resolved == Some(end.last.until),
            (AlertState::Firing, None) => found.resolved.is_none(),
            // It ended beyond what is certain.
            (AlertState::Resolved, None) => {
                found.resolved.is_some_and(|until| self.may_end(until, &is_certain))
            }
            _ => false,
        };
        let episode = found.episode.as_ref().is_none_or(|episode| self.is_of(episode, end, &is_certain));
        state && episode && close(found.value, self.value) && close(found.expected, self.expected)
    }

    /// Whether this is the episode that was found. `end`: its end, as far as that is certain.
    fn is_of(&self, episode: &Episode, end: Option<End>, is_certain: impl Fn(i64) -> bool) -> bool {
        let told = |told: &Told| {
            episode.until.0 == told.until
                && close(episode.peak, told.peak)
                && close(episode.excess, told.excess)
        };
        let rest = match (episode.ending, end) {
            (Some(Ending::NewLevel(found)), Some(End { last, ending: Ending::NewLevel(level) })) => {
                close(found, level) && told(&last)
            }
            (Some(found), Some(End { last, ending })) => found == ending && told(&last),
            // It ended beyond what is certain.
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => {
                let newest = self.told.iter().rfind(|told| is_certain(told.at));
                // Beyond what is certain there may be more.
                newest.is_some_and(told) || !is_certain(episode.until.0 - 1)
            }
        };
        rest && episode.since.0 == self.since
    }

    /// Whether it may have ended like this after the last window that is certain: at most eight windows after the last that was
    /// not ordinary.
    fn may_end(&self, until: i64, is_certain: impl Fn(i64) -> bool) -> bool {
        let size = self.told.first().map_or(0, |told| told.until - told.at);
        !is_certain(until + 7 * size)
    }
}
