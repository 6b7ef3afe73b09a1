//! One metric of a partition of judge: its open windows, the memories of its keys, and how a window is closed.

use std::collections::{BTreeMap, HashSet};

use compact_str::CompactString;
use herd_spec::plan::OTHER_KEY;
use herd_spec::units::EventTime;
use herd_spec::wire::{Band, VERSION, Window};

use super::baseline::Baseline;
use super::docket::Output;
use super::open::{OpenWindows, Tally};
use super::verdict::{self, Case};
use super::watch::{Index, Watched};
use crate::aggregate::Running;
use crate::algorithm::Usual;
use crate::keyed::{self, Keyed};

/// What a partition of judge keeps of one metric.
#[derive(Debug, Default)]
pub(super) struct Metric {
    pub(super) windows: OpenWindows,
    /// Boxed: most of a table's places are empty or about to be, and a place costs what its value does.
    pub(super) baselines: Keyed<Box<Baseline>>,
    /// Keys with an alert that is not resolved.
    pub(super) firing: HashSet<CompactString>,
    /// For which window a detector last fired early, by detector and key, while that window is open.
    pub(super) early: BTreeMap<(usize, CompactString), Index>,
    /// Keys whose baseline changed since it was last saved.
    pub(super) unsaved: HashSet<CompactString>,
    /// Keys a predecessor forgot, and the newest window it had closed then: what is replayed up to there it has judged.
    pub(super) forgotten: Keyed<Index>,
    /// When forgotten keys were last looked for.
    pub(super) swept: Index,
}

/// Whether detectors look at a key: not at the overflow, which is no item but all that had no room.
pub(super) fn is_watched(watched: &Watched, key: &str) -> bool {
    !watched.watches.is_empty() && key != OTHER_KEY
}

impl Metric {
    /// Whether a predecessor judged this window of a key that it has forgotten since.
    pub(super) fn is_past(&self, key: &str, index: Index) -> bool {
        self.forgotten.get(key).is_some_and(|at| index <= *at)
    }

    pub(super) fn close_key(
        &mut self,
        pipeline: &str,
        watched: &Watched,
        start: EventTime,
        key: &CompactString,
        tally: &Tally,
        out: &mut impl FnMut(Output<'_>),
    ) {
        let total = tally.total();
        if !is_watched(watched, key) {
            return out(Output::Window(window(watched, key, start, &total, &[], true)));
        }
        let index = watched.index(start);
        if self.is_past(key, index) {
            return;
        }
        let baseline = keyed::at(&mut self.baselines, key, || Box::new(Baseline::fresh(watched, index)));
        // A predecessor judged it: its window and alerts are out, acknowledged before this memory was.
        if baseline.newest >= index {
            return;
        }
        let mut case = Case { pipeline, watched, key, index, value: 0.0, count: 0 };
        bring_up_to(baseline, &mut case, index, out);
        // Asked after the silence before it was judged, which may have ended an alert: many windows may close at once.
        if baseline.is_forgotten(watched, index) {
            **baseline = Baseline::fresh(watched, index);
        }
        case.index = index;
        case.value = total.value(watched.metric.aggregate.function());
        case.count = total.count;
        baseline.advance(watched, index.saturating_sub(watched.lag));
        let usual = baseline.usual(watched);
        out(Output::Window(window(watched, key, start, &total, &usual, true)));
        judge(baseline, &case, &usual, out);
        baseline.note(index, case.value);
        if baseline.is_firing() {
            self.firing.insert(key.clone());
        } else {
            self.firing.remove(key);
        }
        self.unsaved.insert(key.clone());
    }

    /// Judges the windows up to `newest` in which keys had no event: alerts are resolved by silence, and drops to nothing
    /// are drops.
    pub(super) fn close_silence(
        &mut self,
        pipeline: &str,
        watched: &Watched,
        newest: Index,
        out: &mut impl FnMut(Output<'_>),
    ) {
        let keys: Vec<CompactString> = if watched.watches_drops() {
            self.baselines.keys().cloned().collect()
        } else {
            self.firing.iter().cloned().collect()
        };
        for key in keys {
            let Some(baseline) = self.baselines.get_mut(&key) else { continue };
            let mut case = Case { pipeline, watched, key: &key, index: newest, value: 0.0, count: 0 };
            if bring_up_to(baseline, &mut case, newest.saturating_add(1), out) {
                self.unsaved.insert(key.clone());
            }
            if baseline.is_firing() {
                self.firing.insert(key);
            } else {
                self.firing.remove(&key);
            }
        }
    }
}

/// Judges the silent windows of a key before `until`, where silence means anything to its detectors; whether any verdict
/// came of it.
fn bring_up_to(
    baseline: &mut Baseline,
    case: &mut Case<'_>,
    until: Index,
    out: &mut impl FnMut(Output<'_>),
) -> bool {
    let watched = case.watched;
    let mut spoke = false;
    while baseline.newest.saturating_add(1) < until {
        let index = baseline.newest + 1;
        let forgotten = index.saturating_sub(baseline.last) > watched.memory;
        if !baseline.is_firing() && (forgotten || !watched.watches_drops()) {
            break;
        }
        baseline.advance(watched, index.saturating_sub(watched.lag));
        // Where silence has no value it is not judged: it only ends an alert.
        let usual = match watched.silence() {
            Some(_) => baseline.usual(watched),
            None => vec![None; watched.watches.len()],
        };
        case.index = index;
        spoke |= judge(baseline, case, &usual, out);
        // However long the silence: where it changes nothing any more, it costs nothing any more.
        let next = baseline.next_change_in_silence(watched, index, &usual).unwrap_or(until).min(until);
        let known = if baseline.is_firing() { until } else { baseline.last + watched.memory + 1 };
        baseline.newest = next.min(known).max(index + 1) - 1;
    }
    spoke
}

fn judge(
    baseline: &mut Baseline,
    case: &Case<'_>,
    usual: &[Option<Usual>],
    out: &mut impl FnMut(Output<'_>),
) -> bool {
    let mut spoke = false;
    for ((watch, kept), usual) in case.watched.watches.iter().zip(&mut baseline.watches).zip(usual) {
        if let Some(alert) = verdict::close(case, watch, kept, usual.as_ref()) {
            out(Output::Alert(alert));
            spoke = true;
        }
    }
    spoke
}

pub(super) fn usual_for(baseline: Option<&Baseline>, watched: &Watched, index: Index) -> Vec<Option<Usual>> {
    match baseline {
        Some(baseline) => baseline.usual_for(watched, index),
        None => Baseline::fresh(watched, index).usual(watched),
    }
}

pub(super) fn window<'a>(
    watched: &'a Watched,
    key: &'a str,
    start: EventTime,
    total: &Running,
    usual: &[Option<Usual>],
    is_final: bool,
) -> Window<'a> {
    let value = total.value(watched.metric.aggregate.function());
    let band = |(watch, usual): (&super::watch::Watch, &Option<Usual>)| {
        let usual = usual.as_ref().filter(|usual| usual.upper.is_finite())?;
        Some(Band {
            detector: watch.name.clone(),
            expected: usual.expected,
            lower: if usual.lower.is_finite() { usual.lower } else { 0.0 },
            upper: usual.upper,
            score: watch.rule.score(usual, value),
        })
    };
    Window {
        v: VERSION,
        metric: watched.metric.name.as_str().into(),
        definition: watched.definition,
        key: key.into(),
        start,
        size_ms: u64::try_from(watched.metric.window.as_millis()).unwrap_or(u64::MAX),
        count: total.count,
        value,
        is_final,
        bands: watched.watches.iter().zip(usual).filter_map(band).collect(),
    }
}
