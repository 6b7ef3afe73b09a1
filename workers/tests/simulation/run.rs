//! A run: collector, folds, judges and sinks on the simulated bus, one step at a time, while the scenario's faults happen.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use herd_bus::simulated::{Dice, Kept, SimulatedBus};
use herd_bus::{Acks, Bus, Outgoing, Producer};
use herd_collector::intake::{Intake, Item};
use herd_detector::fold::Fold;
use herd_detector::judge::Judge;
use herd_detector::metrics::{FoldMetrics, JudgeMetrics};
use herd_member::{Member as Driver, Processor};
use herd_sink::{Limits, TableSink, TableSinkSetup};
use herd_spec::plan::Plan;
use herd_spec::units::WallTime;
use herd_stage::Secrets;
use herd_store::Table;
use tokio_util::sync::CancellationToken;

use crate::change::Change;
use crate::clock::MemberClock;
use crate::mutant::{Mutant, MutantBus, MutantProducer};
use crate::plan::{self, ALERTS, DEAD, EVENTS, SINK, WINDOWS};
use crate::scenario::{BEGIN, Event, Fault, Scenario, ScheduledFault, Send, Stage, What};
use crate::tables::{Connection, Contents, Database};

/// How long all is left alone in the end, in milliseconds: sessions end, idle sources pass the last window.
const DRAIN: i64 = 110_000;
/// The most members of a stage.
const MOST: usize = 5;

/// What came of a run.
pub(crate) struct RunResult {
    /// Events that a client was told are taken.
    pub(crate) accepted: Vec<Event>,
    /// Bodies that a client was told are refused.
    pub(crate) refused: Vec<String>,
    pub(crate) topics: BTreeMap<&'static str, Vec<Arc<Kept>>>,
    pub(crate) database: Contents,
    /// What happened to the members, in order.
    pub(crate) log: Vec<String>,
    /// What stopped members though nothing went wrong.
    pub(crate) failures: Vec<String>,
    /// The plan from each moment on, in milliseconds after the beginning.
    pub(crate) plans: Vec<(i64, Plan)>,
}

pub(crate) fn run(
    scenario: &Scenario,
    mutant: Option<Mutant>,
    runtime: &tokio::runtime::Handle,
) -> RunResult {
    let _entered = runtime.enter();
    let mut simulator = Simulator::new(scenario, mutant, runtime);
    simulator.run();
    let topics = [EVENTS, plan::PARTS, WINDOWS, ALERTS, DEAD];
    // Whoever is left goes without a word: nothing may depend on a good end.
    simulator.members.clear();
    RunResult {
        accepted: simulator.clients.accepted,
        refused: simulator.clients.refused,
        topics: topics.into_iter().map(|topic| (topic, simulator.bus.bus.records(topic))).collect(),
        database: runtime.block_on(simulator.database.contents()),
        plans: simulator.plans,
        log: simulator.log,
        failures: simulator.failures,
    }
}

/// A stage that can be stepped.
trait Stepped {
    fn step(&mut self) -> Result<(), String>;
    fn finish(self: Box<Self>) -> Result<(), String>;
}

impl<P: Processor<Error: Display>> Stepped for Driver<P> {
    fn step(&mut self) -> Result<(), String> {
        Driver::step(self, Duration::ZERO).map_err(|error| error.to_string())
    }
    fn finish(self: Box<Self>) -> Result<(), String> {
        Driver::finish(*self).map_err(|error| error.to_string())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum MemberKind {
    Fold,
    Judge,
    TableSink(Table),
}

impl MemberKind {
    fn stage(self) -> Stage {
        match self {
            Self::Fold => Stage::Fold,
            Self::Judge => Stage::Judge,
            Self::TableSink(_) => Stage::Sink,
        }
    }

    /// Its topic and group.
    fn reads(self) -> (&'static str, &'static str) {
        match self {
            Self::Fold => (EVENTS, "sim.fold"),
            Self::Judge => (plan::PARTS, "sim.judge"),
            Self::TableSink(Table::UserEvents) => (EVENTS, SINK),
            Self::TableSink(Table::Windows) => (WINDOWS, SINK),
            Self::TableSink(Table::Alerts) => (ALERTS, SINK),
        }
    }
}

struct Member {
    name: String,
    kind: MemberKind,
    clock: MemberClock,
    /// None while it is down.
    stage: Option<Box<dyn Stepped>>,
    /// It does nothing before this.
    until: i64,
}

struct Simulator<'a> {
    scenario: &'a Scenario,
    runtime: &'a tokio::runtime::Handle,
    plan: Plan,
    plans: Vec<(i64, Plan)>,
    bus: MutantBus,
    database: Database,
    clients: Clients,
    members: Vec<Member>,
    faults: VecDeque<ScheduledFault>,
    stage: herd_stage::Stage,
    log: Vec<String>,
    failures: Vec<String>,
    joined: u64,
}

impl<'a> Simulator<'a> {
    fn new(scenario: &'a Scenario, mutant: Option<Mutant>, runtime: &'a tokio::runtime::Handle) -> Self {
        let plan = plan::of(scenario.sources, scenario.judges);
        let bus = SimulatedBus::stepped(WallTime(BEGIN), scenario.fault_schedule.clone());
        bus.ensure_topics(&plan.topics.all()).unwrap();
        let bus = MutantBus { bus, mutant };
        let mut simulator = Self {
            scenario,
            runtime,
            clients: Clients::new(scenario, &plan, &bus),
            plans: vec![(0, plan.clone())],
            plan,
            bus,
            database: runtime.block_on(Database::new(scenario.sqlite)),
            members: Vec::new(),
            faults: scenario.faults.iter().cloned().collect(),
            stage: herd_stage::Stage::new(CancellationToken::new(), Secrets::new(None)),
            log: Vec::new(),
            failures: Vec::new(),
            joined: 0,
        };
        let feeds = [Table::UserEvents, Table::Windows, Table::Alerts].map(MemberKind::TableSink);
        for (count, roles) in
            scenario.members.iter().zip([&[MemberKind::Fold][..], &[MemberKind::Judge], &feeds])
        {
            for _ in 0..*count {
                roles.iter().for_each(|kind| simulator.add(*kind));
            }
        }
        simulator
    }

    fn has_faults(&self) -> bool {
        self.bus.bus.now() < self.scenario.fault_schedule.until
    }

    fn now(&self) -> i64 {
        self.bus.bus.now().0 - BEGIN
    }

    fn add(&mut self, kind: MemberKind) {
        let number = self.members.iter().filter(|member| member.kind == kind).count();
        let (topic, _) = kind.reads();
        let name = match kind {
            MemberKind::Fold => format!("fold-{number}"),
            MemberKind::Judge => format!("judge-{number}"),
            MemberKind::TableSink(_) => format!("sink-{number}.{topic}"),
        };
        let mut dice = Dice::new(self.scenario.seed, &[200, self.members.len() as u64]);
        let skew = if self.scenario.fault_schedule.until.0 > 0 { dice.between(-400, 400) } else { 0 };
        let clock = MemberClock::new(&self.bus.bus, skew);
        self.members.push(Member { name, kind, clock, stage: None, until: 0 });
    }

    fn start(&mut self, place: usize) -> Result<Box<dyn Stepped>, String> {
        self.joined += 1;
        let member = &self.members[place];
        let (bus, clock, name) = (&self.bus, member.clock.clone(), &member.name);
        let plan = &Mutant::plan(bus.mutant, self.plan.clone());
        let table = match member.kind {
            MemberKind::Fold => {
                let fold = Fold::join(plan, bus, clock, name, FoldMetrics::default());
                return Ok(Box::new(fold.map_err(|error| error.to_string())?));
            }
            MemberKind::Judge => {
                let judge = Judge::join(plan, bus, clock, name, JudgeMetrics::default());
                return Ok(Box::new(judge.map_err(|error| error.to_string())?));
            }
            MemberKind::TableSink(table) => table,
        };
        let (topic, group) = member.kind.reads();
        let setup = TableSinkSetup {
            sink: "main".into(),
            topic: topic.into(),
            dead_letter: DEAD.into(),
            table,
            group: group.into(),
            member: name.clone(),
            limits: Limits { rows: 200, max_wait: Duration::from_secs(1) },
            condition: "store",
            stage: self.stage.clone(),
            runtime: self.runtime.clone(),
        };
        let connection = Connection {
            database: self.database.clone(),
            writer: self.database.writer(),
            bus: bus.bus.clone(),
            dice: Dice::new(self.scenario.seed, &[201, self.joined]),
            failures: self.scenario.store,
            until: self.scenario.fault_schedule.until,
            unfenced: bus.mutant == Some(Mutant::NoFence),
        };
        let sink = TableSink::join(setup, bus, connection, clock, false);
        Ok(Box::new(sink.map_err(|error| error.to_string())?))
    }

    fn run(&mut self) {
        let end = self.scenario.until + DRAIN;
        let mut tick = 0;
        while self.now() < end {
            tick += 1;
            let mut dice = Dice::new(self.scenario.seed, &[202, tick]);
            let faulty = self.has_faults();
            let now = self.now();
            let pace = match (faulty, now < self.scenario.until) {
                (true, _) => dice.between(50, 600),
                (false, true) => 400,
                (false, false) => 1_500,
            };
            self.bus.bus.advance(WallTime(BEGIN + now + pace));
            self.clients.step(self.now(), &self.bus.bus);
            let steps = self.steps(faulty, &mut dice);
            for (at, place) in steps.into_iter().enumerate() {
                self.apply_faults(at as u64);
                self.step(place);
            }
            self.apply_faults(u64::MAX);
        }
    }

    /// Whose turn it is, this tick.
    fn steps(&self, faulty: bool, dice: &mut Dice) -> Vec<usize> {
        let mut order: Vec<(u64, usize)> = Vec::new();
        for place in 0..self.members.len() {
            let times = if faulty { dice.below(8) } else { 6 };
            order.extend((0..times).map(|time| (if faulty { dice.next_u64() } else { time }, place)));
        }
        order.sort_unstable();
        order.into_iter().map(|(_, place)| place).collect()
    }

    fn step(&mut self, place: usize) {
        let (now, faulty) = (self.now(), self.has_faults());
        let member = &mut self.members[place];
        if now < member.until {
            return;
        }
        member.clock.begin();
        let outcome = match &mut member.stage {
            Some(stage) => stage.step(),
            None => {
                let started = self.start(place);
                started.map(|stage| self.members[place].stage = Some(stage))
            }
        };
        if let Err(error) = outcome {
            self.note(place, &format!("stopped: {error}"));
            if !faulty && self.scenario.fault_schedule.until.0 == 0 {
                self.failures.push(format!("{}: {error}", self.members[place].name));
            }
            let member = &mut self.members[place];
            member.stage = None;
            member.until = now + 500;
        }
        self.bus.bus.settle();
    }

    fn note(&mut self, place: usize, what: &str) {
        let line = format!("{:>7.3} s  {} {what}", self.now() as f64 / 1e3, self.members[place].name);
        self.log.push(line);
    }

    /// What happens to members after so many steps of this tick.
    fn apply_faults(&mut self, step: u64) {
        while let Some(fault) = self.faults.front() {
            if fault.at > self.now() || (fault.after > step && step < u64::MAX) {
                return;
            }
            let Some(fault) = self.faults.pop_front() else { return };
            self.inject(&fault);
        }
    }

    fn inject(&mut self, fault: &ScheduledFault) {
        let mut of_stage: Vec<usize> = (0..self.members.len())
            .filter(|place| self.members[*place].kind.stage() == fault.stage)
            .collect();
        let place = of_stage.remove(fault.place % of_stage.len());
        let kind = self.members[place].kind;
        let now = self.now();
        let alike = self.members.iter().filter(|member| member.kind == kind).count();
        match fault.what {
            Fault::Kill(down) => {
                self.members[place].stage = None;
                self.members[place].until = now + down;
                self.note(place, &format!("was killed, back after {down} ms"));
            }
            Fault::Stop(down) => {
                if let Some(stage) = self.members[place].stage.take() {
                    self.members[place].clock.hurry();
                    let ended = stage.finish();
                    self.note(place, &format!("was stopped ({ended:?}), back after {down} ms"));
                }
                self.members[place].until = self.now() + down;
            }
            Fault::Join if alike < MOST => {
                self.add(kind);
                self.note(self.members.len() - 1, "joined");
            }
            Fault::Join => {}
            Fault::Still(long) => {
                self.members[place].until = now + long;
                self.note(place, &format!("stood still for {long} ms"));
            }
            Fault::Expel { deaf, still } => {
                if alike == 1 {
                    self.add(kind);
                }
                let (topic, group) = kind.reads();
                let until = WallTime(BEGIN + now + deaf);
                self.bus.bus.expel(topic, group, &self.members[place].name, until);
                self.members[place].until = now + still;
                self.note(
                    place,
                    &format!("was taken for dead, hears of it in {deaf} ms, stood still for {still}"),
                );
            }
            Fault::Change(change, killed) => self.change(change, killed),
            Fault::Grow => {
                let mut topic = self.plan.topics.events.clone();
                topic.partitions = self.bus.partitions(EVENTS).unwrap() + 1;
                self.bus.ensure_topics(&[&topic]).unwrap();
                self.log.push(format!(
                    "{:>7.3} s  {} partitions of events",
                    now as f64 / 1e3,
                    topic.partitions
                ));
            }
        }
        self.bus.bus.settle();
    }
}

impl Simulator<'_> {
    /// The spec is changed: folds and judges start again with it, one a second.
    fn change(&mut self, change: Change, killed: bool) {
        let now = self.now();
        change.apply(&mut self.plan);
        self.plans.push((now, self.plan.clone()));
        self.log.push(format!("{:>7.3} s  the spec is changed: {change:?}", now as f64 / 1e3));
        let mut at = now;
        for stage in [Stage::Fold, Stage::Judge] {
            let count = self.members.iter().filter(|member| member.kind.stage() == stage).count();
            for place in 0..count {
                at += 1_000;
                let what = if killed { Fault::Kill(100) } else { Fault::Stop(100) };
                self.faults.push_back(ScheduledFault { at, after: 0, stage, place, what });
            }
        }
        self.faults.make_contiguous().sort_by_key(|fault| fault.at);
    }
}

/// The clients, and the collector between them and the bus: its pure core does the work. What is not acknowledged is sent
/// again.
struct Clients {
    intake: Intake,
    producer: MutantProducer,
    waiting: VecDeque<Send>,
    again: Vec<(i64, What)>,
    open: Vec<(Arc<Acks>, What)>,
    accepted: Vec<Event>,
    refused: Vec<String>,
}

impl Clients {
    fn new(scenario: &Scenario, plan: &Plan, bus: &MutantBus) -> Self {
        Self {
            intake: Intake::new(&plan.events).unwrap(),
            producer: bus.producer("collector").unwrap(),
            waiting: scenario.sends.iter().cloned().collect(),
            again: Vec::new(),
            open: Vec::new(),
            accepted: Vec::new(),
            refused: Vec::new(),
        }
    }

    fn step(&mut self, now: i64, bus: &SimulatedBus) {
        for (acks, what) in self.open.extract_if(.., |(acks, _)| acks.pending() == 0).collect::<Vec<_>>() {
            if !acks.take_failed().is_empty() {
                self.again.push((now + 700, what));
                continue;
            }
            match what {
                What::Event(event) => self.accepted.push(event),
                What::Refused(raw) => self.refused.push(raw),
                What::Poison(_) => {}
            }
        }
        for (_, what) in self.again.extract_if(.., |(at, _)| *at <= now).collect::<Vec<_>>() {
            self.send(what, now, bus);
        }
        while self.waiting.front().is_some_and(|send| send.at <= now) {
            let Some(send) = self.waiting.pop_front() else { return };
            self.send(send.what, now, bus);
        }
    }

    fn send(&mut self, what: What, now: i64, bus: &SimulatedBus) {
        let received = WallTime(BEGIN + now);
        let acks = Acks::new();
        let mut value = Vec::new();
        let body = match &what {
            What::Event(event) => event.body(),
            What::Refused(raw) | What::Poison(raw) => raw.clone(),
        };
        let accepted = match &what {
            What::Poison(_) => None,
            _ => Some(self.intake.accept(&Item::Json(&body), received, || unreachable!(), &mut value)),
        };
        let (topic, key) = match &accepted {
            Some(Ok(accepted)) => (EVENTS, Some(accepted.key.as_bytes())),
            Some(Err(_)) => (DEAD, None),
            None => (EVENTS, Some(b"poison".as_slice())),
        };
        let value = if matches!(accepted, Some(Ok(_))) { &value } else { body.as_bytes() };
        let record =
            Outgoing { topic, partition: None, key, value: Some(value), timestamp: received, headers: &[] };
        if self.producer.send(&record, acks.expect(0)).is_err() {
            self.again.push((now + 700, what));
            return;
        }
        // What is sent one after the other is written one after the other.
        bus.settle();
        self.open.push((acks, what));
    }
}
