//! The alert about a whole metric: its total over all keys, judged by [`herd_detection::total`] in one partition of `parts`.
//!
//! Every partition knows the total of a closed window; the one to which the key [`ALL_KEY`] of the metric belongs watches
//! it, once for each detector that follows episodes. What is known of the total is saved with the baselines of keys: after the alerts are
//! acknowledged, so that a successor judges again what nobody may have heard of, and skips the windows before that.

use herd_detection::total::{self, Change, Total};
use herd_spec::pipeline::AggregateFunction;
use herd_spec::plan::{ALL_KEY, AlertLimit, MetricPlan};
use herd_spec::wire::{Alert, AlertState, Episode};
use serde::{Deserialize, Serialize};

use super::episodes::{self, Finding};
use super::output::Output;
use super::verdict::Candidate;
use super::watch::{Index, Watch, Watched};
use crate::algorithm::Crossing;

/// The part of a detector's alert budget that is kept for the whole metric; keys have the rest.
pub const SHARE: f64 = 0.1;

const DAY_MS: f64 = 86_400_000.0;

/// Whether detectors that follow episodes watch the total of a metric: where a value is a number of events, as a total is.
#[must_use]
pub fn is_watched(metric: &MetricPlan) -> bool {
    metric.aggregate.function() == AggregateFunction::Count
}

/// The score from which on a window alerts.
#[must_use]
#[allow(clippy::cast_precision_loss)] // a window has far fewer milliseconds than 2^53
pub fn threshold(metric: &MetricPlan, limit: AlertLimit) -> f64 {
    let probability = match limit {
        AlertLimit::Probability(probability) => probability,
        AlertLimit::Budget(budget) => {
            let windows = DAY_MS / metric.window.as_millis().max(1) as f64;
            SHARE * budget.alerts_per_day() / windows
        }
    };
    -probability.clamp(1e-300, 0.1).log10()
}

/// A detector that watches the total of its metric.
#[derive(Debug)]
pub(super) struct TotalWatch {
    /// Its place among the detectors of the metric.
    place: usize,
    threshold: f64,
    state: State,
    unsaved: bool,
}

/// What is kept of it.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    #[serde(rename = "t")]
    total: Total,
    /// The window of its last alert.
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    alerted: Option<Index>,
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    firing: Option<Box<Alert>>,
}

impl TotalWatch {
    /// Those of a metric.
    pub(super) fn all(watched: &Watched) -> Vec<Self> {
        let watches = watched.watches.iter().enumerate();
        let thresholds = watches.filter_map(|(place, watch)| Some((place, watch.total?)));
        let watch = |(place, threshold)| Self { place, threshold, state: State::default(), unsaved: false };
        thresholds.map(watch).collect()
    }

    /// Its place among the detectors of the metric.
    pub(super) fn place(&self) -> usize {
        self.place
    }

    /// Takes what was saved back in, if it can be read. The newest wins, not the last.
    pub(super) fn recall(&mut self, record: &[u8]) {
        let Ok(state) = serde_json::from_slice::<State>(record) else { return };
        if self.state.total.newest() <= state.total.newest() {
            self.state = state;
        }
    }

    /// What is to be saved, if it changed since this was last called.
    pub(super) fn take_unsaved(&mut self) -> Option<Vec<u8>> {
        if !std::mem::take(&mut self.unsaved) {
            return None;
        }
        // String keys and no failing serializers: this cannot fail.
        serde_json::to_vec(&self.state).ok()
    }

    /// Takes in that the window `index` closed with this many events, of which so many are the [`total::winsorized`] ones of this partition,
    /// and the windows before it that were not taken in without any.
    pub(super) fn close<E>(
        &mut self,
        pipeline: &str,
        watched: &Watched,
        index: Index,
        (total, winsorized): (u64, u64),
        out: &mut impl FnMut(Output<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if index <= self.state.total.newest() {
            return Ok(()); // a predecessor judged it, and its alerts are out
        }
        self.close_silence(pipeline, watched, index - 1, out)?;
        let Some(watch) = watched.watches.get(self.place) else { return Ok(()) };
        let threshold = threshold_at(self.threshold, watch, self.state.alerted, index);
        let change = self.state.total.observe(threshold, index, total, winsorized);
        self.unsaved = true;
        let candidate = candidate(pipeline, watched, index, total);
        let told = self.state.told(watch, &candidate, change);
        told.into_iter().try_for_each(|alert| out(Output::Alert(alert)))
    }

    /// Takes the windows up to `newest` in that were not: they closed without an event.
    pub(super) fn close_silence<E>(
        &mut self,
        pipeline: &str,
        watched: &Watched,
        newest: Index,
        out: &mut impl FnMut(Output<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(watch) = watched.watches.get(self.place) else { return Ok(()) };
        if newest <= self.state.total.newest() {
            return Ok(());
        }
        let (usual, alerted) = (self.threshold, self.state.alerted);
        let threshold = |index| threshold_at(usual, watch, alerted, index);
        let mut changes = Vec::new();
        self.state.total.silence(threshold, newest, |at, change| changes.push((at, change)));
        self.unsaved = true;
        for (at, change) in changes {
            let told = self.state.told(watch, &candidate(pipeline, watched, at, 0), change);
            told.into_iter().try_for_each(|alert| out(Output::Alert(alert)))?;
        }
        Ok(())
    }
}

/// The score from which on the window `index` alerts: none before the pause after the last alert is over.
fn threshold_at(threshold: f64, watch: &Watch, alerted: Option<Index>, index: Index) -> f64 {
    let is_over = alerted.is_none_or(|at| index.saturating_sub(at) >= watch.cooldown);
    if is_over { threshold } else { f64::INFINITY }
}

impl State {
    /// The alert record that is due after a window.
    fn told(&mut self, watch: &Watch, candidate: &Candidate<'_>, change: Change) -> Option<Alert> {
        let watched = candidate.watched;
        match change {
            Change::None => None,
            Change::Began(found) => {
                let finding = Finding {
                    windows: found.span,
                    value: found.value,
                    expected: found.expected,
                    spread: found.spread,
                    score: found.score,
                    crossing: if found.episode.is_up { Crossing::Up } else { Crossing::Down },
                };
                let episode = Some(on_wire(watched, &found.episode));
                let alert = episodes::raised(watch, candidate, &finding, AlertState::Firing, episode);
                self.alerted = Some(candidate.index);
                self.firing = Some(Box::new(alert.clone()));
                Some(alert)
            }
            Change::Continued(episode) => {
                let firing = self.firing.as_deref()?;
                episodes::continued(watch, candidate, firing, on_wire(watched, &episode))
            }
            Change::Ended(episode, ending) => {
                let alert = self.firing.take()?;
                let (end, ending) = episodes::end_of(watched, ending, episode.last, candidate.index);
                Some(episodes::ended(watch, watched, *alert, on_wire(watched, &episode), end, ending))
            }
        }
    }
}

/// The alert that fires in a record of the `baselines` topic, if it is one of a total.
pub(super) fn unresolved(record: &[u8]) -> Option<Alert> {
    serde_json::from_slice::<State>(record).ok()?.firing.map(|alert| *alert)
}

fn candidate<'a>(pipeline: &'a str, watched: &'a Watched, index: Index, total: u64) -> Candidate<'a> {
    #[allow(clippy::cast_precision_loss)] // far fewer events than 2^53
    let value = total as f64;
    Candidate { pipeline, watched, key: ALL_KEY, index, value, count: total, users: 0 }
}

fn on_wire(watched: &Watched, episode: &total::Episode) -> Episode {
    Episode {
        since: watched.start(episode.since),
        until: watched.start(episode.until.saturating_add(1)),
        peak: episode.peak,
        peak_start: watched.start(episode.peak_at),
        excess: episode.excess,
        ending: None,
    }
}
