//! One metric of a partition of judge: its open windows, the memories of its keys, and how a window is judged, early and when it
//! closes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use compact_str::CompactString;
use herd_spec::plan::OTHER_KEY;
use herd_spec::units::{EventTime, Offset, Partition};
use herd_spec::wire::{Alert, Band, Part, SourceTotal, VERSION, Window, metric_key};

use super::activity::Activity;
use super::baseline::Baseline;
use super::crowds::CrowdDetector;
use super::levels::LevelDetector;
use super::open_windows::{self, OpenWindows};
use super::output::{Output, Saved};
use super::totals::OpenTotals;
use super::totals_watch::TotalWatch;
use super::watch::{Index, Watched};
use crate::aggregate::Running;
use crate::algorithm::Expectation;
use crate::keyed::Keyed;

/// What a partition of judge keeps of one metric.
#[derive(Debug)]
pub(super) struct Metric {
    pub(super) pipeline: Arc<str>,
    /// The metric, and the detectors that watch it.
    pub(super) watched: Arc<Watched>,
    /// The newest window that is closed; none before the first.
    pub(super) closed: Option<Index>,
    pub(super) windows: OpenWindows,
    /// The traffic of all keys in the open windows, where a detector asks for it.
    pub(super) totals: OpenTotals,
    /// Boxed: most of a table's places are empty or about to be, and a place costs what its value does.
    pub(super) baselines: Keyed<Box<Baseline>>,
    /// The detectors of the algorithm `crowd`, with what the keys have in common.
    pub(super) crowds: Vec<CrowdDetector>,
    /// The detectors of the algorithm `level`, likewise.
    pub(super) levels: Vec<LevelDetector>,
    /// The detectors that watch the total of the metric, in the partition that does.
    pub(super) total_watches: Vec<TotalWatch>,
    /// Keys with an alert that is not resolved.
    pub(super) firing: HashSet<CompactString>,
    /// Of these, keys with an episode that is followed window by window, also where they have no event.
    pub(super) following: HashSet<CompactString>,
    /// Whether parts and watermarks may raise early alerts.
    pub(super) raises_early: bool,
    /// For which window a detector last fired early, by detector and key, while that window is open.
    pub(super) early: BTreeMap<(usize, CompactString), Index>,
    /// Keys of open windows that changed since detectors of the algorithm `crowd` last looked at them.
    pub(super) pending: BTreeMap<EventTime, Vec<CompactString>>,
    /// Keys whose baseline changed since it was last saved.
    pub(super) unsaved: HashSet<CompactString>,
    /// Keys a predecessor forgot, and the newest window it had closed then: what is replayed up to there it has judged.
    pub(super) forgotten: Keyed<Index>,
    /// When forgotten keys were last looked for.
    swept: Index,
    pub(super) activity: Activity,
}

impl Metric {
    /// Of which nothing is known yet but that everything up to `closed` is closed.
    pub(super) fn new(pipeline: &Arc<str>, watched: &Arc<Watched>, closed: Option<EventTime>) -> Self {
        Self {
            pipeline: Arc::clone(pipeline),
            watched: Arc::clone(watched),
            closed: closed.map(|closed| watched.newest_closed(closed)),
            windows: OpenWindows::default(),
            totals: OpenTotals::default(),
            baselines: Keyed::default(),
            crowds: CrowdDetector::all(watched),
            levels: LevelDetector::all(watched),
            total_watches: Vec::new(),
            pending: BTreeMap::default(),
            firing: HashSet::default(),
            following: HashSet::default(),
            raises_early: true,
            early: BTreeMap::default(),
            unsaved: HashSet::default(),
            forgotten: Keyed::default(),
            swept: Index::default(),
            activity: Activity::of(watched.watches.len()),
        }
    }

    /// Takes a key's memory back in, as it was saved. The newest wins, not the last: a predecessor that was taken for dead may have
    /// written after its successor. Returns the alerts in it that no detector owns; none if it is not the newest.
    pub(super) fn remember(&mut self, key: &str, saved: Saved<'_>) -> Option<Vec<Alert>> {
        let known = self.baselines.get(key).map(|baseline| baseline.newest);
        let known = known.max(self.forgotten.get(key).copied());
        let is_newest = |at: Index| known.is_none_or(|known| known <= at);
        match saved {
            Saved::Forgotten(at) => {
                if !is_newest(at) {
                    return None;
                }
                self.baselines.remove(key);
                self.firing.remove(key);
                self.following.remove(key);
                // Deleted by hand, without the header that says when: it begins anew, and nothing is past.
                if at < Index::MAX {
                    self.forgotten.insert(key.into(), at);
                }
                Some(Vec::new())
            }
            Saved::Kept(record) => {
                let read = Baseline::of_record(&record, &self.watched);
                let (baseline, disowned) = read.filter(|(new, _)| is_newest(new.newest))?;
                note_firing(&mut self.firing, &mut self.following, key, &baseline, &self.watched);
                self.forgotten.remove(key);
                self.baselines.insert(key.into(), Box::new(baseline));
                Some(disowned)
            }
        }
    }

    /// The memory of this key must be saved.
    pub(super) fn mark_unsaved(&mut self, key: CompactString) {
        self.unsaved.insert(key);
    }

    /// Takes what a detector's keys have in common back in, by its detector; false if no detector of this metric keeps any. What
    /// cannot be read, because the detector had another algorithm, is written anew when the next window closes.
    pub(super) fn remember_population(&mut self, detector: &str, record: &[u8]) -> bool {
        let watches = &self.watched.watches;
        let is_of = |place: usize| watches[place].name == detector;
        if let Some(crowd) = self.crowds.iter_mut().find(|crowd| is_of(crowd.place)) {
            crowd.recall(record);
            return true;
        }
        let level = self.levels.iter_mut().find(|level| is_of(level.place));
        level.map(|level| level.recall(record)).is_some()
    }

    /// Watches the total of the metric as well.
    pub(super) fn watch_total(&mut self) {
        self.total_watches = TotalWatch::all(&self.watched);
    }

    /// Takes what a detector knows of the total back in; false if no detector of this metric watches it here.
    pub(super) fn remember_total(&mut self, detector: &str, record: &[u8]) -> bool {
        let watches = &self.watched.watches;
        let of = self.total_watches.iter_mut().find(|total| watches[total.place()].name == detector);
        of.map(|total| total.recall(record)).is_some()
    }

    /// Takes a part in; false if a newer one of its source is there.
    pub(super) fn take(&mut self, offset: Offset, part: &Part<'_>, value: Running) -> bool {
        let Some(values) = open_windows::take(&mut self.windows, offset, part, value) else { return false };
        if self.raises_early && !self.crowds.is_empty() && !std::mem::replace(&mut values.pending, true) {
            self.pending.entry(part.start).or_default().push(part.key.as_ref().into());
        }
        true
    }

    /// Takes in what a source counted over all keys in a window that is open. Also where no detector asks for it: a successor with
    /// another spec may.
    pub(super) fn take_total(&mut self, offset: Offset, source: Partition, total: &SourceTotal) {
        self.totals.take(offset, source, total);
    }

    /// Whether detectors look at a key: not at the overflow, which is no item but all that had no room.
    pub(super) fn watches(&self, key: &str) -> bool {
        !self.watched.watches.is_empty() && key != OTHER_KEY
    }

    /// Whether a predecessor judged this window of a key that it has forgotten since.
    pub(super) fn is_past(&self, key: &str, index: Index) -> bool {
        self.forgotten.get(key).is_some_and(|at| index <= *at)
    }

    /// Emits the values of open windows that changed since this was last called.
    pub(super) fn emit_provisional<E>(
        &mut self,
        closed: Option<EventTime>,
        out: &mut impl FnMut(Output<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.fire_early_crowds(out)?;
        let watched = Arc::clone(&self.watched);
        let starts: Vec<EventTime> = self.windows.keys().copied().collect();
        for start in starts {
            let index = watched.index(start);
            let scorable = !watched.watches.is_empty() && self.is_scorable(closed, index);
            let crowd_bands = if scorable { self.crowd_bands(index, start) } else { HashMap::new() };
            let Some(open) = self.windows.get_mut(&start) else { continue };
            let mut newly_scorable = Vec::new();
            for (key, values) in &mut open.keys {
                if scorable && values.expectations.is_none() && key != OTHER_KEY {
                    let baseline = known(&self.baselines, &watched, key, index);
                    values.expectations = Some(expectations_for(baseline, &watched, index).into());
                    newly_scorable.push(key.clone());
                }
                if std::mem::take(&mut values.changed) {
                    let total = values.total();
                    let expectations = values.expectations.as_deref().unwrap_or_default();
                    let value = total.value(watched.metric.aggregate.function());
                    let mut bands = watched.bands(expectations, value);
                    bands.extend(crowd_bands.get(key).into_iter().flatten().cloned());
                    out(Output::Window(provisional(&watched, key, start, &total, bands)))?;
                }
            }
            // Parts that came before their window could be judged.
            for key in newly_scorable {
                self.fire_early(closed, start, &key, out)?;
            }
        }
        Ok(())
    }

    /// Hands out what the detectors' keys have in common, where it changed, by its key in the `baselines` topic. Before the keys
    /// are saved, see [`super::crowds`].
    pub(super) fn save_populations<E>(
        &mut self,
        save: &mut impl FnMut(&[u8], Saved<'static>) -> Result<(), E>,
    ) -> Result<(), E> {
        for crowd in &mut self.crowds {
            let Some(record) = crowd.take_unsaved() else { continue };
            let key = self.watched.population_key(&self.watched.watches[crowd.place].name);
            save(&key, Saved::Kept(record.into()))?;
        }
        for level in &mut self.levels {
            let Some(record) = level.take_unsaved() else { continue };
            let key = self.watched.population_key(&self.watched.watches[level.place].name);
            save(&key, Saved::Kept(record.into()))?;
        }
        Ok(())
    }

    /// Hands out what changed in the `baselines` topic, by the key there, when everything up to `closed` is closed.
    pub(super) fn save<E>(
        &mut self,
        closed: Option<EventTime>,
        save: &mut impl FnMut(&[u8], Saved<'static>) -> Result<(), E>,
    ) -> Result<(), E> {
        let watched = &self.watched;
        for total in &mut self.total_watches {
            if let Some(record) = total.take_unsaved() {
                save(&watched.total_key(&watched.watches[total.place()].name), Saved::Kept(record.into()))?;
            }
        }
        for key in std::mem::take(&mut self.unsaved) {
            if let Some(baseline) = self.baselines.get(&key) {
                let saved = Saved::Kept(baseline.to_record(watched).into());
                save(&metric_key(&watched.baselines, &key), saved)?;
            }
        }
        let Some(newest) = closed.map(|closed| watched.newest_closed(closed)) else { return Ok(()) };
        // Looking at every key now and then is enough: forgetting is decided by the windows, not by the sweep.
        if newest.saturating_sub(self.swept) <= watched.memory / 4 {
            return Ok(());
        }
        self.swept = newest;
        let forgotten: Vec<CompactString> = self
            .baselines
            .extract_if(|_, baseline| baseline.is_forgotten(watched, newest))
            .map(|(key, _)| key)
            .collect();
        for key in forgotten {
            save(&metric_key(&watched.baselines, &key), Saved::Forgotten(newest))?;
        }
        Ok(())
    }

    /// The offset of the first record of the oldest open window.
    pub(super) fn first(&self) -> Option<Offset> {
        self.windows.values().map(|open| open.first).chain(self.totals.first()).min()
    }

    /// Keys in open windows.
    pub(super) fn open_keys(&self) -> usize {
        self.windows.values().map(|open| open.keys.len()).sum()
    }

    /// What was noted since this was last called.
    pub(super) fn take_activity(&mut self) -> Activity {
        let thresholds = self.crowds.iter().map(|crowd| (crowd.place, crowd.threshold()));
        for (place, threshold) in
            thresholds.chain(self.levels.iter().map(|level| (level.place, level.newest_threshold())))
        {
            if let Some(detector) = self.activity.detectors.get_mut(place) {
                detector.threshold = threshold;
            }
        }
        self.activity.take()
    }

    /// Keys with a memory.
    pub(super) fn baselines(&self) -> usize {
        self.baselines.len()
    }
}

pub(super) fn note_firing(
    firing: &mut HashSet<CompactString>,
    following: &mut HashSet<CompactString>,
    key: &str,
    baseline: &Baseline,
    watched: &Watched,
) {
    let note = |set: &mut HashSet<CompactString>, is_in: bool| {
        if is_in {
            set.insert(key.into());
        } else {
            set.remove(key);
        }
    };
    note(firing, baseline.is_firing());
    let mut watches = baseline.watches.iter().zip(&watched.watches);
    note(following, watches.any(|(kept, watch)| kept.firing.is_some() && watch.follows_episodes()));
}

/// The baseline of a key, unless it is forgotten in this window.
pub(super) fn known<'b>(
    baselines: &'b Keyed<Box<Baseline>>,
    watched: &Watched,
    key: &str,
    index: Index,
) -> Option<&'b Baseline> {
    let baseline = baselines.get(key).map(Box::as_ref);
    baseline.filter(|baseline| !baseline.is_forgotten(watched, index))
}

pub(super) fn expectations_for(
    baseline: Option<&Baseline>,
    watched: &Watched,
    index: Index,
) -> Vec<Option<Expectation>> {
    match baseline {
        Some(baseline) => baseline.expectations_for(watched, index),
        None => Baseline::fresh(watched, index).expectations(watched),
    }
}

/// A window that is still open, as it stands.
fn provisional<'a>(
    watched: &'a Watched,
    key: &'a str,
    start: EventTime,
    total: &Running,
    bands: Vec<Band>,
) -> Window<'a> {
    Window { is_final: false, ..closed(watched, key, start, total, bands) }
}

/// A closed window.
pub(super) fn closed<'a>(
    watched: &'a Watched,
    key: &'a str,
    start: EventTime,
    total: &Running,
    bands: Vec<Band>,
) -> Window<'a> {
    Window {
        v: VERSION,
        metric: watched.metric.name.as_str().into(),
        definition: watched.definition,
        key: key.into(),
        start,
        size_ms: u64::try_from(watched.metric.window.as_millis()).unwrap_or(u64::MAX),
        count: total.count,
        value: total.value(watched.metric.aggregate.function()),
        is_final: true,
        bands,
    }
}
