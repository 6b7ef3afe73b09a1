//! The members of both groups and the logs between them, one step at a time.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;

use herd_detector::commit::Position;
use herd_detector::fold::Source;
use herd_detector::judge::output::{Output, Saved};
use herd_detector::judge::partition::JudgePartition;
use herd_detector::judge::watch::Watched;
use herd_detector::metric::Metrics;
use herd_spec::plan::Plan;
use herd_spec::units::{Offset, Partition, WallTime};
use herd_spec::wire::{AlertId, AlertState, EventRef, PartRecord, Window};
use rand::RngExt;
use rand::rngs::SmallRng;

use crate::plan::EMIT;

pub(crate) type Log = Vec<Vec<u8>>;

/// A step that a member has decided on and not yet taken.
pub(crate) enum Pending {
    Part(usize, Vec<u8>),
    Window(Vec<u8>),
    Alert(Box<herd_spec::wire::Alert>),
    Baseline(usize, Vec<u8>, Saved<'static>),
    /// Judge: its baselines can be saved now.
    Save,
    Commit(Position),
}

pub(crate) struct FoldMember {
    pub(crate) source: Source,
    pub(crate) pending: VecDeque<Pending>,
    pub(crate) position: usize,
    pub(crate) next_emit: i64,
    pub(crate) zombie: bool,
}

pub(crate) struct JudgeMember {
    pub(crate) partition: JudgePartition,
    pub(crate) pending: VecDeque<Pending>,
    pub(crate) position: usize,
    pub(crate) next_tick: i64,
    pub(crate) zombie: bool,
}

#[derive(Default)]
pub(crate) struct RunResult {
    pub(crate) windows: BTreeMap<(String, String, i64), u64>,
    pub(crate) clashes: Vec<String>,
    pub(crate) alerts: BTreeMap<AlertId, (AlertState, String)>,
}

pub(crate) struct Simulator {
    pub(crate) random: SmallRng,
    pub(crate) plan: Plan,
    pub(crate) metrics: Metrics,
    pub(crate) watched: Vec<Arc<Watched>>,
    pub(crate) now: i64,
    pub(crate) events: Vec<Log>,
    pub(crate) parts: Vec<Log>,
    pub(crate) baselines: Vec<Vec<(Vec<u8>, Saved<'static>)>>,
    pub(crate) fold_commits: Vec<Option<Position>>,
    pub(crate) judge_commits: Vec<Option<Position>>,
    pub(crate) outcome: RunResult,
}

impl Simulator {
    pub(crate) fn fold_member(&self, source: usize) -> FoldMember {
        let position = self.fold_commits[source].clone().unwrap_or(Position::START);
        let state = Source::resume(Partition(source as u32), &position, &self.metrics, WallTime(self.now));
        let position = position.replay_from.0 as usize;
        FoldMember { source: state, pending: VecDeque::new(), position, next_emit: self.now, zombie: false }
    }

    pub(crate) fn judge_member(&self, partition: usize) -> JudgeMember {
        let position = self.judge_commits[partition].clone().unwrap_or(Position::START);
        let mut state = JudgePartition::resume("proof", &position, &self.watched);
        for (key, record) in &self.baselines[partition] {
            let (value, forgotten_at) = match record {
                Saved::Kept(value) => (Some(value.as_ref()), 0),
                Saved::Forgotten(at) => (None, *at),
            };
            state.recall(key, value, forgotten_at);
        }
        let position = position.replay_from.0 as usize;
        JudgeMember {
            partition: state,
            pending: VecDeque::new(),
            position,
            next_tick: self.now,
            zombie: false,
        }
    }

    pub(crate) fn fold_step(&mut self, place: usize, member: &mut FoldMember) {
        match member.pending.pop_front() {
            Some(Pending::Part(judge, bytes)) => return self.parts[judge].push(bytes),
            Some(Pending::Commit(position)) => {
                if !member.zombie {
                    self.fold_commits[place] = Some(position);
                }
                return;
            }
            Some(_) | None => {}
        }
        let waiting = self.events[place].len() - member.position;
        if waiting > 0 && (self.now < member.next_emit || self.random.random_bool(0.7)) {
            for _ in 0..self.random.random_range(1..=waiting.min(8)) {
                let event = EventRef::parse(&self.events[place][member.position]).unwrap();
                member.source.apply(
                    Offset(member.position as i64),
                    &event,
                    &self.metrics,
                    WallTime(self.now),
                );
                member.position += 1;
            }
            return;
        }
        if self.now < member.next_emit {
            return;
        }
        member.next_emit = self.now + 1_000;
        let at = WallTime(self.now);
        let at_end = member.position >= self.events[place].len();
        let watermark = member.source.state(at, at_end, 2 * EMIT);
        let judges = self.parts.len();
        let mut parts = Vec::new();
        let totals = if watermark.is_some() { member.source.take_totals(&self.metrics) } else { Vec::new() };
        let emitted = member.source.emit(&self.metrics, &[true, true], |part| {
            let judge = part.key.len() % judges;
            let mut bytes = Vec::new();
            PartRecord::Part(part).write(&mut bytes);
            parts.push(Pending::Part(judge, bytes));
            Ok::<_, Infallible>(())
        });
        let Ok(()) = emitted;
        rand::seq::SliceRandom::shuffle(parts.as_mut_slice(), &mut self.random);
        member.pending.extend(parts);
        if let Some(state) = watermark {
            let watermark = member.source.watermark(Some(state), self.events.len() as u32, at, totals);
            let watermark = PartRecord::Watermark(watermark);
            for judge in 0..judges {
                let mut bytes = Vec::new();
                watermark.write(&mut bytes);
                member.pending.push_back(Pending::Part(judge, bytes));
            }
        }
        member.pending.push_back(Pending::Commit(member.source.position(&self.metrics)));
    }

    pub(crate) fn judge_step(&mut self, place: usize, member: &mut JudgeMember) {
        match member.pending.pop_front() {
            Some(Pending::Window(bytes)) => return self.outcome.window(&Window::parse(&bytes).unwrap()),
            Some(Pending::Alert(alert)) => return self.outcome.alert(&alert),
            Some(Pending::Baseline(partition, key, record)) => {
                return self.baselines[partition].push((key, record));
            }
            Some(Pending::Save) => {
                let mut saved = Vec::new();
                let save = |key: &[u8], record| {
                    saved.push(Pending::Baseline(place, key.to_vec(), record));
                    Ok::<_, Infallible>(())
                };
                let Ok(()) = member.partition.save(save);
                for (at, pending) in saved.into_iter().enumerate() {
                    member.pending.insert(at, pending);
                }
                return;
            }
            Some(Pending::Commit(position)) => {
                if !member.zombie {
                    self.judge_commits[place] = Some(position);
                }
                return;
            }
            Some(Pending::Part(..)) | None => {}
        }
        let mut out = Vec::new();
        let mut collect = |output: Output<'_>| {
            match output {
                Output::Window(window) if window.is_final => {
                    let mut bytes = Vec::new();
                    window.write(&mut bytes);
                    out.push(Pending::Window(bytes));
                }
                Output::Window(_) => {}
                Output::Alert(alert) => out.push(Pending::Alert(Box::new(alert))),
            }
            Ok::<_, Infallible>(())
        };
        let waiting = self.parts[place].len() - member.position;
        if waiting > 0 {
            for _ in 0..self.random.random_range(0..=waiting.min(20)) {
                let record = PartRecord::parse(&self.parts[place][member.position]).unwrap();
                let offset = Offset(member.position as i64);
                let Ok(_) = member.partition.read(offset, &record, WallTime(self.now), &mut collect);
                member.position += 1;
            }
        }
        if self.now >= member.next_tick {
            member.next_tick = self.now + 1_000;
            let Ok(_) = member.partition.close(&mut collect);
            let Ok(()) = member.partition.emit_provisional(&mut collect);
            let position = member.partition.position();
            out.push(Pending::Save);
            out.push(Pending::Commit(position));
        }
        member.pending.extend(out);
    }
}

impl RunResult {
    pub(crate) fn window(&mut self, window: &Window<'_>) {
        let name = (window.metric.to_string(), window.key.to_string(), window.start.0);
        let before = *self.windows.entry(name.clone()).or_insert(window.count);
        if before != window.count {
            self.clashes.push(format!("{name:?} closed as {before}, then as {}", window.count));
        }
    }

    pub(crate) fn alert(&mut self, alert: &herd_spec::wire::Alert) {
        let said =
            format!("{} {} {} {:?}", alert.detector, alert.key, alert.start.0, alert.resolved.map(|t| t.0));
        match self.alerts.get(&alert.id) {
            Some((state, _)) if state.rank() > alert.state.rank() => {}
            _ => {
                self.alerts.insert(alert.id.clone(), (alert.state, said));
            }
        }
    }
}
