//! What a seed stands for: what is sent, and what goes wrong. Plain data, so that a failing one can be made smaller.

use std::collections::BTreeMap;
use std::time::Duration;

use herd_bus::partitioner::partition_of;
use herd_bus::simulated::{Dice, FaultSchedule, Sending};
use herd_spec::units::WallTime;

use crate::change::Change;
use crate::plan::{DEAD, EVENTS, LATENESS};

/// When everything begins, by the clock of the machines.
pub(crate) const BEGIN: i64 = 1_800_000_000_000;
/// Out of order by at most this, in milliseconds.
const DISORDER: i64 = 3_000;

#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) sources: u32,
    pub(crate) judges: u32,
    /// How much faster the events' time runs than the clock; 0: it stands still.
    pub(crate) scale: i64,
    /// How many members each stage begins with.
    pub(crate) members: [usize; 3],
    /// When the last event is sent and the faults end, in milliseconds after the beginning.
    pub(crate) until: i64,
    pub(crate) sends: Vec<Send>,
    pub(crate) faults: Vec<ScheduledFault>,
    pub(crate) fault_schedule: FaultSchedule,
    /// Chance that the store fails a transaction, or its answer is lost.
    pub(crate) store: f64,
    /// Whether the store is SQLite, and not in memory: that takes longer.
    pub(crate) sqlite: bool,
}

/// Something a client sends, until it is acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Send {
    /// Milliseconds after the beginning.
    pub(crate) at: i64,
    pub(crate) what: What,
}

impl Send {
    /// Of an event, its id.
    pub(crate) fn id(&self) -> Option<&str> {
        match &self.what {
            What::Event(event) => Some(&event.id),
            What::Refused(_) | What::Poison(_) => None,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    Event(Event),
    /// A body that is no event.
    Refused(String),
    /// A record put straight into the events topic that is no event.
    Poison(String),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) purchase: bool,
    pub(crate) user: String,
    pub(crate) item: &'static str,
    pub(crate) time: i64,
    pub(crate) cents: i64,
}

impl Event {
    pub(crate) fn body(&self) -> String {
        let Self { id, purchase, user, item, time, cents } = self;
        let kind = if *purchase { "purchase" } else { "view" };
        let price = format!("{}.{:02}", cents / 100, cents % 100);
        format!(
            r#"{{"event_id":"{id}","type":"{kind}","user_id":"{user}","item_id":"{item}","time":{time},"price":{price}}}"#
        )
    }
}

/// Something that happens to the members.
#[derive(Clone, Debug)]
pub(crate) struct ScheduledFault {
    /// Milliseconds after the beginning.
    pub(crate) at: i64,
    /// After so many steps of that moment.
    pub(crate) after: u64,
    pub(crate) stage: Stage,
    /// Which member.
    pub(crate) place: usize,
    pub(crate) what: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Fold,
    Judge,
    Sink,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Dies without a word, and is started again after so many milliseconds.
    Kill(i64),
    /// Ends in good order, and is started again.
    Stop(i64),
    /// One more joins.
    Join,
    /// Is taken for dead by its group and hears of it so much later; stands still for the first part of that.
    Expel { deaf: i64, still: i64 },
    /// Stands still.
    Still(i64),
    /// The events topic gets one more partition.
    Grow,
    /// The spec is changed, and all detectors are started again one after the other: in good order, or killed.
    Change(Change, bool),
}

/// A very late event: nobody promises in which window it counts, if in any.
pub(crate) const STRAY: &str = "stray";
const ITEMS: [&str; 4] = ["a", "bb", "ccc", "dddd"];

impl Scenario {
    pub(crate) fn of(seed: u64) -> Self {
        Self::with_scale(seed, None)
    }

    /// The seed at another scale.
    pub(crate) fn of_scale(seed: u64, scale: i64) -> Self {
        Self::with_scale(seed, Some(scale))
    }

    /// Without faults, and with a bus and a store that do what they are told.
    pub(crate) fn calm(mut self) -> Self {
        self.faults.clear();
        self.fault_schedule = FaultSchedule { seed: self.seed, ..FaultSchedule::default() };
        self.store = 0.0;
        self
    }

    /// Whether nothing goes wrong.
    pub(crate) fn is_calm(&self) -> bool {
        let good = |fault: &ScheduledFault| {
            matches!(fault.what, Fault::Change(_, false) | Fault::Stop(_) | Fault::Join)
        };
        self.fault_schedule.until == WallTime(0) && self.store == 0.0 && self.faults.iter().all(good)
    }

    fn with_scale(seed: u64, scale: Option<i64>) -> Self {
        let mut dice = Dice::new(seed, &[100]);
        let (sources, judges) =
            (dice.between(1, 4).unsigned_abs() as u32, dice.between(1, 3).unsigned_abs() as u32);
        let drawn = *dice.pick(&[1, 1, 1, 1, 50, 50, 0]);
        let until = dice.between(20, 90) * 1_000;
        let (drawn, longer) = if drawn == 1 { long(seed) } else { (drawn, 0) };
        let until = if scale.is_none() { until.max(longer) } else { until };
        let scale = scale.unwrap_or(drawn);
        let members = [1, 2, 3].map(|most| usize::try_from(dice.between(1, most.max(2))).unwrap());
        let mut scenario = Self {
            seed,
            sources,
            judges,
            scale,
            members,
            until,
            sends: Vec::new(),
            faults: Vec::new(),
            fault_schedule: fault_schedule(seed, scale, until),
            store: *dice.pick(&[0.0, 0.02, 0.1]),
            sqlite: dice.chance(0.02),
        };
        scenario.sends = sends(&scenario);
        scenario.faults = faults(&scenario);
        scenario
    }

    /// How long after it was first sent an event may be written and still be in time, in milliseconds.
    pub(crate) fn patience(&self) -> i64 {
        if self.scale > 1 { LATENESS / self.scale - 50 } else { LATENESS - DISORDER - 1_000 }
    }
}

/// The scale of some seeds whose windows are many enough for detectors that learn from twenty before they alert, and how long these
/// seeds last at least: at the clock's pace, or five times as fast.
fn long(seed: u64) -> (i64, i64) {
    let mut dice = Dice::new(seed, &[105]);
    match dice.below(20) {
        0 => (1, dice.between(130, 180) * 1_000),
        1..=4 => (5, dice.between(50, 90) * 1_000),
        _ => (1, 0),
    }
}

fn fault_schedule(seed: u64, scale: i64, until: i64) -> FaultSchedule {
    let mut dice = Dice::new(seed, &[101]);
    // Half of the seeds are about members only, so that what they show is not drowned.
    let mut some = |chances: &[f64]| if dice.chance(0.5) { *dice.pick(chances) } else { 0.0 };
    let sending = Sending {
        late: some(&[0.02, 0.3]),
        late_ack: some(&[0.02, 0.3]),
        lost_ack: some(&[0.0005, 0.003]),
        unwritten: some(&[0.0005, 0.003]),
        doubled: some(&[0.01, 0.1]),
        full: some(&[0.05]),
        longest: Duration::from_secs(3),
    };
    let (partial, dry, unanswered) = (some(&[0.3, 0.9]), some(&[0.01, 0.05]), some(&[0.002, 0.02]));
    let lost_ack = some(&[0.02, 0.1]);
    // A replay sends in order, and what is late by the clock is late fifty times as much by the events' time.
    let prompt = scale > 1;
    let events = Sending {
        late: if prompt { 0.0 } else { sending.late },
        unwritten: if prompt { 0.0 } else { lost_ack },
        full: 0.0,
        lost_ack,
        longest: Duration::from_secs(1),
        ..sending
    };
    let dead = Sending { late: 0.0, late_ack: 0.0, full: 0.0, longest: Duration::from_millis(50), ..sending };
    FaultSchedule {
        seed,
        until: WallTime(BEGIN + until),
        sending,
        topics: BTreeMap::from([(EVENTS.to_owned(), events), (DEAD.to_owned(), dead)]),
        partial,
        dry,
        longest_dry: Duration::from_secs(8),
        unanswered,
        session: Duration::from_millis(*dice.pick(&[0, 500, 4_000, 10_000])),
        discovery: Duration::from_millis(*dice.pick(&[0, 1_000, 3_000])),
    }
}

/// Users whose events go to this partition.
fn users(partition: u32, sources: u32) -> Vec<String> {
    (0..)
        .map(|n| format!("u{n}"))
        .filter(|user| partition_of(user.as_bytes(), sources).0 == partition)
        .take(8)
        .collect()
}

fn sends(scenario: &Scenario) -> Vec<Send> {
    let mut dice = Dice::new(scenario.seed, &[102]);
    let base = *dice.pick(&[400_000_000_000, 1_700_000_000_000]);
    // Where time stands still, pauses would make events late: an idle source goes on at the clock's pace.
    let rates: &[f64] = if scenario.scale == 0 { &[2.0] } else { &[0.0, 0.03, 0.4, 2.0] };
    let rates: Vec<f64> = (0..scenario.sources).map(|_| *dice.pick(rates)).collect();
    let users: Vec<_> = (0..scenario.sources).map(|source| users(source, scenario.sources)).collect();
    let mut sends = Vec::new();
    // Some crowds stay, so that they become usual.
    let stays = Dice::new(scenario.seed, &[106]).chance(if scenario.scale == 5 { 0.3 } else { 0.0 });
    // In some, all items have four times as many events for a while, or none.
    let mut all = Dice::new(scenario.seed, &[107]);
    let together = (scenario.scale == 5 && all.chance(0.5)).then(|| *all.pick(&[4.0, 0.0]));
    for second in 1..=scenario.until / 1_000 {
        let together = together.filter(|_| (38..46).contains(&second));
        let crowd = together.is_none() && (second % 25 > 21 || stays && second > 46);
        for (source, rate) in rates.iter().enumerate() {
            let rate = if crowd && *rate > 0.1 { rate * 5.0 } else { rate * together.unwrap_or(1.0) };
            let count = rate.trunc() as i64 + i64::from(dice.chance(rate.fract()));
            for _ in 0..count {
                let at = second * 1_000 - dice.between(1, 1_000);
                let clock = base + at * scenario.scale;
                let time = if scenario.scale > 1 { clock } else { clock - dice.between(0, DISORDER) };
                let stray = dice.chance(0.01);
                let event = Event {
                    id: String::new(),
                    purchase: dice.chance(0.4),
                    user: dice.pick(&users[source]).clone(),
                    item: if stray {
                        STRAY
                    } else if crowd {
                        ITEMS[0]
                    } else {
                        dice.pick::<&str>(&ITEMS)
                    },
                    time: if stray { time - dice.between(20_000, 90_000) } else { time }.max(0),
                    cents: dice.between(100, 9_999),
                };
                sends.push(Send { at, what: What::Event(event) });
            }
        }
        if dice.chance(0.02) {
            let raw = format!(r#"{{"event_id":"bad-{second}","type":"nonsense","user_id":"u1"}}"#);
            sends.push(Send { at: second * 1_000, what: What::Refused(raw) });
        }
        if dice.chance(0.01) {
            sends.push(Send { at: second * 1_000, what: What::Poison(format!("no event {second}")) });
        }
    }
    sends.sort_by_key(|send| send.at);
    let mut again = Vec::new();
    for (number, send) in sends.iter_mut().enumerate() {
        if let What::Event(event) = &mut send.what {
            event.id = format!("e{number}");
            if dice.chance(0.05) {
                // A client that did not see the answer.
                again.push(Send { at: send.at + dice.between(0, 2_000), what: What::Event(event.clone()) });
            }
        }
    }
    sends.extend(again);
    sends.sort_by_key(|send| send.at);
    sends
}

fn faults(scenario: &Scenario) -> Vec<ScheduledFault> {
    let mut dice = Dice::new(scenario.seed, &[103]);
    let count = *dice.pick(&[0, 2, 6, 20]);
    let mut faults: Vec<ScheduledFault> = (0..count)
        .map(|_| {
            let long = *dice.pick(&[100, 1_000, 5_000, 40_000]);
            let what = match dice.below(10) {
                0..=3 => Fault::Kill(long.min(scenario.until / 2)),
                4 => Fault::Stop(long.min(5_000)),
                5 => Fault::Join,
                6 | 7 => {
                    let deaf = dice.between(500, 20_000);
                    Fault::Expel { deaf, still: dice.between(0, deaf) * i64::from(dice.chance(0.5)) }
                }
                _ => Fault::Still(long.min(10_000)),
            };
            ScheduledFault {
                at: dice.between(1_000, scenario.until),
                after: dice.below(40),
                stage: *dice.pick(&[Stage::Fold, Stage::Fold, Stage::Judge, Stage::Judge, Stage::Sink]),
                place: usize::try_from(dice.below(6)).unwrap(),
                what,
            }
        })
        .collect();
    if scenario.scale == 1 && dice.chance(0.1) {
        let at = dice.between(5_000, scenario.until);
        faults.push(ScheduledFault { at, after: 0, stage: Stage::Fold, place: 0, what: Fault::Grow });
    }
    faults.sort_by_key(|fault| fault.at);
    faults
}
