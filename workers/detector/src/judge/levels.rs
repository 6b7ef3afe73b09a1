//! How the detectors of the algorithm `level` judge the windows of a metric: [`herd_detection::level`], applied to the keys of a
//! partition.
//!
//! A key's state knows all windows before the one that closes. All keys of a partition have in common how many windows of keys
//! there are a day, by which a budget of alerts becomes a threshold; like what `crowd` knows of all keys, it is acknowledged before
//! the keys are saved, and remembers the last windows for a successor that judges them again.

use std::collections::VecDeque;

use herd_detection::crowd::HISTORY;
use herd_detection::level::{self, Level, LevelRule, LevelScore, Progress};
use herd_spec::plan::AlertLimit;
use herd_spec::units::EventTime;
use herd_spec::wire::{Alert, AlertState, Band, Ending, Episode};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::baseline::Watching;
use super::crowds::Judgement;
use super::episodes::{self, Finding};
use super::verdict::Candidate;
use super::watch::{Index, Watch, Watched};
use crate::algorithm::{Crossing, History};

const DAY_MS: f64 = 86_400_000.0;
/// A mean has no windows without events: after so many of them an alert of a key is over.
const MEAN_GONE: Index = 30;

/// What `level` is told, fixed while it runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Length of a window in milliseconds.
    pub size_ms: u64,
    /// Which way a value must leave the usual range.
    pub direction: level::Direction,
    /// Whether values of windows add up, and a window without events is worth 0: sums and counts, not means.
    pub additive: bool,
    /// When to alert.
    pub limit: AlertLimit,
    /// The part of a budget that is for keys.
    pub share: f64,
    /// Over how many partitions the keys are spread: each has its share of the budget.
    pub partitions: u32,
}

/// What a detector keeps of a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// The newest window taken in.
    #[serde(rename = "i")]
    newest: Index,
    #[serde(rename = "s")]
    level: Level,
}

/// How many windows of keys a partition has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Traffic {
    #[serde(rename = "w")]
    newest: Index,
    /// Windows so far, at most those of a day.
    #[serde(rename = "n")]
    windows: f64,
    /// Mean number of keys with events in a window.
    #[serde(rename = "k")]
    keys: f64,
    /// That mean after the last windows with events, newest last.
    #[serde(rename = "h")]
    history: VecDeque<(Index, f64)>,
}

/// A detector, with what the keys of a partition have in common.
#[derive(Debug)]
pub(super) struct LevelDetector {
    /// Its place among the detectors of the metric.
    pub(super) place: usize,
    pub(super) settings: Settings,
    traffic: Option<Traffic>,
    unsaved: bool,
}

impl Traffic {
    fn new(first: Index) -> Self {
        Self { newest: first.saturating_sub(1), windows: 0.0, keys: 0.0, history: VecDeque::new() }
    }

    /// Takes in a window with events of this many keys. Windows before it that were not taken in had none.
    fn close(&mut self, index: Index, keys: f64, day: f64) {
        if index <= self.newest {
            return;
        }
        let silent = index - self.newest - 1;
        if self.windows > 0.0 && silent > 0 {
            // A night without events makes alerts no cheaper than a day's worth of windows allows.
            let silent = f64::from(silent);
            self.keys *= (-silent / day).exp();
        }
        self.newest = index;
        self.windows = (self.windows + 1.0).min(day);
        self.keys += (keys - self.keys) / self.windows;
        self.history.push_back((index, self.keys));
        if self.history.len() > HISTORY {
            self.history.pop_front();
        }
    }
}

impl Traffic {
    /// The mean number of keys with events as it was known when the window `index` had closed.
    fn keys_at(&self, index: Index) -> Option<f64> {
        let later = self.history.partition_point(|(at, _)| *at <= index);
        self.history.get(later.saturating_sub(1)).map(|(_, keys)| *keys)
    }
}

impl LevelDetector {
    /// The detectors of this algorithm among those of a metric.
    pub(super) fn all(watched: &Watched) -> Vec<Self> {
        let detectors = watched.watches.iter().enumerate();
        let levels = detectors.filter_map(|(place, watch)| Some((place, watch.level?)));
        levels.map(|(place, settings)| Self { place, settings, traffic: None, unsaved: false }).collect()
    }

    /// Takes what was saved back in, if it can be read. The newest wins, not the last.
    pub(super) fn recall(&mut self, record: &[u8]) {
        let Ok(traffic) = serde_json::from_slice::<Traffic>(record) else { return };
        if self.traffic.as_ref().is_none_or(|known| known.newest <= traffic.newest) {
            self.traffic = Some(traffic);
        }
    }

    /// What is to be saved, if it changed since this was last called.
    pub(super) fn take_unsaved(&mut self) -> Option<Vec<u8>> {
        let traffic = self.traffic.as_ref().filter(|_| std::mem::take(&mut self.unsaved))?;
        // String keys and no failing serializers: this cannot fail.
        serde_json::to_vec(traffic).ok()
    }

    /// Takes in that the window `index` closes with events of this many keys.
    #[allow(clippy::cast_precision_loss)] // far fewer keys than 2^53
    pub(super) fn close(&mut self, index: Index, keys: usize) {
        let day = self.windows_a_day();
        self.traffic.get_or_insert_with(|| Traffic::new(index)).close(index, keys as f64, day);
        self.unsaved = true;
    }

    #[allow(clippy::cast_precision_loss)] // a day has few milliseconds
    fn windows_a_day(&self) -> f64 {
        DAY_MS / self.settings.size_ms.max(1) as f64
    }

    /// From which score on the window `index` alerts.
    fn threshold(&self, index: Index) -> f64 {
        let probability = match self.settings.limit {
            AlertLimit::Probability(probability) => probability,
            AlertLimit::Budget(budget) => {
                let known = self.traffic.as_ref().and_then(|traffic| traffic.keys_at(index));
                let tests = known.unwrap_or(1.0).max(1.0) * self.windows_a_day();
                let budget = self.settings.share * budget.alerts_per_day();
                budget / f64::from(self.settings.partitions.max(1)) / tests
            }
        };
        -probability.clamp(1e-300, 0.1).log10()
    }

    /// From which score on the newest window alerts; none before the first.
    pub(super) fn newest_threshold(&self) -> Option<f64> {
        self.traffic.as_ref().map(|traffic| self.threshold(traffic.newest))
    }

    /// Judges a closed window of a key with events.
    pub(super) fn judge(
        &mut self,
        watch: &Watch,
        watching: &mut Watching,
        candidate: &Candidate<'_>,
    ) -> Judgement {
        let mut judgement = Judgement::nothing();
        let index = candidate.index;
        let rule = self.rule(self.threshold(index));
        let Watching { history, alerted, firing } = watching;
        let History::Level(series) = history else { return judgement };
        let series =
            series.get_or_insert_with(|| Box::new(Series { newest: index - 1, level: Level::default() }));
        if series.newest >= index {
            return judgement; // judged before
        }
        let watched = candidate.watched;
        // Windows of silence in which an alert went on were judged as they closed: nothing is to be told of the others.
        let silent = index - series.newest - 1;
        if self.settings.additive && silent > 0 {
            let start = time(watched.start(series.newest + 1));
            series.level.silence(&self.rule(f64::INFINITY), start, self.settings.size_ms, silent, |_, _| {});
        }
        series.newest = index;
        #[allow(clippy::cast_precision_loss)] // no such counts
        let count = candidate.count as f64;
        let may_begin = episodes::may_begin(watch, candidate, *alerted, count, Crossing::Up);
        let asked = if may_begin { rule } else { self.rule(f64::INFINITY) };
        let start = time(watched.start(index));
        let score = series.level.observe(&asked, start, self.settings.size_ms, candidate.value);
        judgement.band = band(watch, &score);
        judgement.alerts = told(watch, candidate, &score, alerted, firing).into_iter().collect();
        judgement
    }

    /// Judges a closed window of a key without events, where an alert of it goes on.
    pub(super) fn judge_silence(
        &mut self,
        watch: &Watch,
        watching: &mut Watching,
        candidate: &Candidate<'_>,
    ) -> SmallVec<[Alert; 0]> {
        let index = candidate.index;
        let rule = self.rule(self.threshold(index));
        let Watching { history, alerted, firing } = watching;
        let History::Level(Some(series)) = history else { return SmallVec::new() };
        if series.newest >= index {
            return SmallVec::new();
        }
        let watched = candidate.watched;
        if !self.settings.additive {
            let gone = index - series.newest >= MEAN_GONE;
            if gone {
                series.level.end_episode();
            }
            let over = firing.take_if(|_| gone).map(|alert| {
                let end = watched.start(series.newest.saturating_add(1));
                let episode = alert.episode.clone();
                match episode {
                    Some(episode) => episodes::ended(watch, watched, *alert, episode, end, Ending::Usual),
                    None => *alert,
                }
            });
            return over.into_iter().collect();
        }
        let mut alerts = SmallVec::new();
        let size = self.settings.size_ms;
        // Windows that were judged before, but not saved, because nothing began in them.
        let before = index - series.newest - 1;
        let start = time(watched.start(series.newest + 1));
        series.level.silence(&self.rule(f64::INFINITY), start, size, before, |_, _| {});
        series.newest = index;
        series.level.silence(&rule, time(watched.start(index)), size, 1, |_, score| {
            alerts.extend(told(watch, candidate, &score, alerted, firing));
        });
        alerts
    }

    /// Whether windows without an event must be judged one by one.
    pub(super) fn watches_drops(&self) -> bool {
        self.settings.additive && self.settings.direction != level::Direction::Up
    }

    fn rule(&self, threshold: f64) -> LevelRule {
        LevelRule { direction: self.settings.direction, additive: self.settings.additive, threshold }
    }
}

/// The alert record that is due after a window.
fn told(
    watch: &Watch,
    candidate: &Candidate<'_>,
    score: &LevelScore,
    alerted: &mut Option<Index>,
    firing: &mut Option<Box<Alert>>,
) -> Option<Alert> {
    let (episode, progress) = score.episode.as_ref()?;
    let on_wire = Episode {
        since: EventTime(i64::try_from(episode.since_ms).unwrap_or(i64::MAX)),
        until: EventTime(i64::try_from(episode.until_ms).unwrap_or(i64::MAX)),
        peak: episode.peak,
        peak_start: EventTime(i64::try_from(episode.peak_start_ms).unwrap_or(i64::MAX)),
        excess: episode.excess,
        ending: None,
    };
    match progress {
        Progress::Began => {
            let crossing = if candidate.value < score.expected { Crossing::Down } else { Crossing::Up };
            let finding = Finding {
                windows: 1,
                value: candidate.value,
                expected: score.expected,
                spread: 0.0,
                score: score.score,
                crossing,
            };
            let alert = episodes::raised(watch, candidate, &finding, AlertState::Firing, Some(on_wire));
            *alerted = Some(candidate.index);
            *firing = Some(Box::new(alert.clone()));
            Some(alert)
        }
        Progress::Continues => {
            let firing = firing.as_mut()?;
            // Kept up to date, for where the key falls silent for good.
            firing.episode = Some(on_wire.clone());
            episodes::continued(watch, candidate, firing, on_wire)
        }
        Progress::Ended(ending) => {
            let alert = firing.take()?;
            let end = on_wire.until;
            let ending = match ending {
                level::Ending::Usual => Ending::Usual,
                level::Ending::NewLevel(level) => Ending::NewLevel(*level),
            };
            Some(episodes::ended(watch, candidate.watched, *alert, on_wire, end, ending))
        }
    }
}

fn band(watch: &Watch, score: &LevelScore) -> Option<Band> {
    score.upper.is_finite().then(|| Band {
        detector: watch.name.clone(),
        expected: score.expected,
        lower: if score.lower.is_finite() { score.lower } else { score.expected.min(0.0) },
        upper: score.upper,
        score: score.score,
    })
}

fn time(start: EventTime) -> u64 {
    start.0.max(0).unsigned_abs()
}
