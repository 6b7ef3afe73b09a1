//! How the detectors of the algorithm `crowd` judge the windows of a metric: [`herd_detection::crowd`], applied to the keys of a
//! partition.
//!
//! What the keys have in common (a [`Population`] for each detector) changes with every window that closes, in order: first all
//! keys of the window are taken in, then the population closes it, then its keys are scored. A successor that judges windows
//! again, because a predecessor died before it had saved all keys, finds in the saved population what was known at the time:
//! the population is acknowledged before the keys are saved.

use herd_detection::crowd::{self, Change, Closing, KeyState, OpenWindow, Population, Settings};
use herd_spec::wire::{Alert, AlertState, Band, Episode};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::baseline::Watching;
use super::episodes::{self, Finding};
use super::verdict::{self, Candidate};
use super::watch::{Index, Watch, Watched};
use crate::algorithm::{Crossing, History};

/// What a detector keeps of a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Crowd {
    #[serde(rename = "k")]
    key: KeyState,
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    /// Few keys have one.
    episode: Option<Box<crowd::Episode>>,
    /// The newest window of its last episode: after a crash windows without an event may be closed again.
    #[serde(rename = "u", default)]
    until: Index,
}

/// What the keys of a partition have in common, for one detector.
#[derive(Debug)]
pub(super) struct CrowdDetector {
    /// Its place among the detectors of the metric.
    pub(super) place: usize,
    pub(super) settings: Settings,
    /// None before the first window closes.
    population: Option<Population>,
    /// Whether it changed since it was last saved.
    unsaved: bool,
}

/// A window that closes: what its keys add to what all have in common.
pub(super) struct ClosingWindow(Vec<Closing>);

/// What a detector says of a closed window.
pub(super) struct Judgement {
    /// The range it takes for usual; none while it is warming up.
    pub(super) band: Option<Band>,
    /// The alert records that are due: seldom one, hardly ever two.
    pub(super) alerts: SmallVec<[Alert; 0]>,
}

impl Judgement {
    /// Of a window of which there is nothing to say.
    pub(super) fn nothing() -> Self {
        Self { band: None, alerts: SmallVec::new() }
    }
}

impl CrowdDetector {
    /// The detectors of this algorithm among those of a metric.
    pub(super) fn all(watched: &Watched) -> Vec<Self> {
        let detectors = watched.watches.iter().enumerate();
        let crowds = detectors.filter_map(|(place, watch)| Some((place, watch.crowd?)));
        crowds.map(|(place, settings)| Self { place, settings, population: None, unsaved: false }).collect()
    }

    /// Takes a saved population back in, if it can be read. The newest wins, not the last.
    pub(super) fn recall(&mut self, record: &[u8]) {
        let Ok(population) = serde_json::from_slice::<Population>(record) else { return };
        if self.population.as_ref().is_none_or(|known| known.newest() <= population.newest()) {
            self.population = Some(population);
        }
    }

    /// The population as it is to be saved, if it changed since this was last called.
    pub(super) fn take_unsaved(&mut self) -> Option<Vec<u8>> {
        let population = self.population.as_ref().filter(|_| std::mem::take(&mut self.unsaved))?;
        // String keys and no failing serializers: this cannot fail.
        serde_json::to_vec(population).ok()
    }

    /// Begins to close the window `index`, with this many events of all keys in all partitions.
    pub(super) fn begin(detectors: &mut [Self], index: Index, total: u64) -> ClosingWindow {
        let begin = |detector: &mut Self| {
            let settings = detector.settings;
            let population = detector.population.get_or_insert_with(|| Population::new(index));
            population.begin(index, total, &settings)
        };
        ClosingWindow(detectors.iter_mut().map(begin).collect())
    }

    /// All keys of the window were taken in.
    pub(super) fn close(detectors: &mut [Self], closing: &ClosingWindow) {
        for (detector, closing) in detectors.iter_mut().zip(&closing.0) {
            if let Some(population) = &mut detector.population {
                population.close(closing, &detector.settings);
                detector.unsaved = true;
            }
        }
    }

    /// Everything up to the window `closed` is closed, also windows without any event, which need not be closed one by one. What is
    /// known of open windows follows from that.
    pub(super) fn advance(detectors: &mut [Self], closed: Index) {
        for detector in detectors {
            if let Some(population) = &mut detector.population {
                population.advance(closed, &detector.settings);
            }
        }
    }

    /// Takes a key with an event into the window that closes.
    pub(super) fn take(
        detectors: &[Self],
        closing: &mut ClosingWindow,
        watches: &mut [Watching],
        candidate: &Candidate<'_>,
    ) {
        for (detector, closing) in detectors.iter().zip(&mut closing.0) {
            let (Some(population), Some(watching)) = (&detector.population, watches.get_mut(detector.place))
            else {
                continue;
            };
            let History::Crowd(state) = &mut watching.history else { continue };
            let index = candidate.index;
            if state.as_ref().is_some_and(|state| !state.is_of(population, index)) {
                *state = None;
            }
            let state = state.get_or_insert_with(|| Box::new(Crowd::new(population, index)));
            state.key.take(closing, population, &detector.settings, candidate.value, candidate.count);
        }
    }

    /// Judges a closed window of a key: one with events that were taken in, or one without, where it matters.
    pub(super) fn judge(
        &mut self,
        watch: &Watch,
        watching: &mut Watching,
        candidate: &Candidate<'_>,
    ) -> Judgement {
        let nothing = Judgement::nothing();
        let Some(population) = &mut self.population else { return nothing };
        let Watching { history, alerted, firing } = watching;
        let History::Crowd(Some(state)) = history else { return nothing };
        let settings = &self.settings;
        let index = candidate.index;
        let was_judged = index <= state.until || index < state.key.since();
        if was_judged || !state.is_of(population, index) {
            return nothing;
        }
        let score = state.key.score(population, settings, index);
        self.unsaved = true;
        let band = band(watch, &score);
        // Asked before the window changes what is known of the key.
        let withdrawn = withdrawn(watch, state, candidate, population, settings);
        // What may not alert yet begins no episode: it would never alert.
        if state.episode.is_none() && !may_begin(watch, candidate, *alerted, &score) {
            return Judgement { band, alerts: withdrawn.into_iter().collect() };
        }
        state.until = index;
        let change = crowd::Episode::observe(&mut state.episode, &mut state.key, population, index, &score);
        let alert = match change {
            Change::None => None,
            Change::Began => {
                let episode = state.episode.as_ref().map(|episode| on_wire(candidate.watched, episode));
                let finding = finding(&score);
                let alert = episodes::raised(watch, candidate, &finding, AlertState::Firing, episode);
                *alerted = Some(index);
                *firing = Some(Box::new(alert.clone()));
                // The alert of this window stands: it must not be withdrawn.
                return Judgement { band, alerts: SmallVec::from_iter([alert]) };
            }
            Change::Continued => {
                let episode = state.episode.as_ref().map(|episode| on_wire(candidate.watched, episode));
                let update = firing.as_deref().zip(episode);
                update.and_then(|(firing, episode)| episodes::continued(watch, candidate, firing, episode))
            }
            Change::Ended(episode, ending) => {
                firing.take().map(|alert| ended(watch, candidate, *alert, &episode, ending))
            }
        };
        Judgement { band, alerts: alert.into_iter().chain(withdrawn).collect() }
    }

    /// The early alert of a window that is still open, if what is known of it so far is enough. `open`: the key's windows after
    /// the newest that certainly is known to everybody, the last being the candidate's.
    pub(super) fn early(
        &self,
        watch: &Watch,
        watching: Option<&Watching>,
        candidate: &Candidate<'_>,
        open: &[OpenWindow],
    ) -> Option<Alert> {
        let population = self.population.as_ref()?;
        if watching.is_some_and(|watching| watching.firing.is_some()) {
            return None;
        }
        let score = self.peek(population, watching, candidate.index, open);
        let alerted = watching.and_then(|watching| watching.alerted);
        let fires = score.is_alert() && score.is_up && may_begin(watch, candidate, alerted, &score);
        fires.then(|| raised(watch, candidate, &score, AlertState::Early))
    }

    /// The range that is usual for an open window.
    pub(super) fn band(
        &self,
        watch: &Watch,
        watching: Option<&Watching>,
        index: Index,
        open: &[OpenWindow],
    ) -> Option<Band> {
        let population = self.population.as_ref()?;
        band(watch, &self.peek(population, watching, index, open))
    }

    fn peek(
        &self,
        population: &Population,
        watching: Option<&Watching>,
        index: Index,
        open: &[OpenWindow],
    ) -> crowd::Score {
        let known = watching.and_then(|watching| match &watching.history {
            History::Crowd(Some(state)) if state.is_of(population, index) => Some(&state.key),
            _ => None,
        });
        match known {
            Some(key) => key.peek(population, &self.settings, index, open),
            None => KeyState::new(population, index).peek(population, &self.settings, index, open),
        }
    }

    /// From which score on a key alerts now; none while warming up.
    pub(super) fn threshold(&self) -> Option<f64> {
        let population = self.population.as_ref()?;
        population.threshold(&self.settings, population.newest().saturating_add(self.settings.lag))
    }

    /// Whether windows without an event must be judged one by one.
    pub(super) fn watches_drops(&self) -> bool {
        self.settings.direction != crowd::Direction::Up
    }
}

impl Crowd {
    fn new(population: &Population, index: Index) -> Self {
        Self { key: KeyState::new(population, index), episode: None, until: 0 }
    }

    /// Whether the state was learnt beside this population, and not so long ago that the key counts as never seen.
    fn is_of(&self, population: &Population, index: Index) -> bool {
        let last = self.key.newest();
        let forgotten = last.is_none_or(|last| Population::is_forgotten(last, index));
        self.episode.is_some() || !(forgotten || last < Some(population.first()))
    }
}

/// The record that takes back the early alert of a window that closed without raising one, if there can be one: with no more
/// traffic than is usual, its counts would have been enough while it was open. Whoever judged it then may be gone, so that nobody
/// knows.
fn withdrawn(
    watch: &Watch,
    state: &Crowd,
    candidate: &Candidate<'_>,
    population: &Population,
    settings: &Settings,
) -> Option<Alert> {
    // Users become no fewer while a window is open.
    let enough = candidate.count > 0 && verdict::has_enough_users(candidate, watch, Crossing::Up);
    if !enough || !verdict::fires_early(candidate.watched) {
        return None;
    }
    // An episode that was known while this window was open let it raise none.
    let known = |episode: &crowd::Episode| episode.begin.saturating_add(settings.lag) <= candidate.index;
    if state.episode.as_deref().is_some_and(known) {
        return None;
    }
    let score = state.key.peek_at_most(population, settings, candidate.index);
    (score.is_alert() && score.is_up).then(|| raised(watch, candidate, &score, AlertState::Withdrawn))
}

fn band(watch: &Watch, score: &crowd::Score) -> Option<Band> {
    let (_, expected) = score.window;
    Some(Band {
        detector: watch.name.clone(),
        expected,
        lower: score.lower().unwrap_or(0.0),
        upper: score.upper()?,
        score: score.score,
    })
}

fn raised(watch: &Watch, candidate: &Candidate<'_>, score: &crowd::Score, state: AlertState) -> Alert {
    episodes::raised(watch, candidate, &finding(score), state, None)
}

fn finding(score: &crowd::Score) -> Finding {
    Finding {
        windows: score.span,
        value: score.value,
        expected: score.expected,
        spread: score.spread(),
        score: score.score,
        crossing: if score.is_up { Crossing::Up } else { Crossing::Down },
    }
}

fn may_begin(watch: &Watch, candidate: &Candidate<'_>, alerted: Option<Index>, score: &crowd::Score) -> bool {
    let crossing = if score.is_up { Crossing::Up } else { Crossing::Down };
    episodes::may_begin(watch, candidate, alerted, score.value, crossing)
}

fn ended(
    watch: &Watch,
    candidate: &Candidate<'_>,
    alert: Alert,
    episode: &crowd::Episode,
    ending: crowd::Ending,
) -> Alert {
    let watched = candidate.watched;
    let (end, ending) = episodes::end_of(watched, ending, episode.last, candidate.index);
    episodes::ended(watch, watched, alert, on_wire(watched, episode), end, ending)
}

fn on_wire(watched: &Watched, episode: &crowd::Episode) -> Episode {
    Episode {
        since: watched.start(episode.since),
        until: watched.start(episode.until.saturating_add(1)),
        peak: episode.peak,
        peak_start: watched.start(episode.peak_at),
        excess: episode.excess,
        ending: None,
    }
}
