//! A stage in one process of seconds: partitions with what waits in them, pods that start, work and leave.

use std::collections::VecDeque;

use crate::random::Random;
use crate::score::Score;
use crate::trace::Trace;

/// Seconds a pod takes until it is ready: scheduling, start, joining the group.
const START: (f64, f64) = (6.0, 16.0);
/// Seconds a leaving pod takes to finish and commit.
const LEAVE: u64 = 2;
/// Seconds the group counts as rebalancing after a member came or went.
const REBALANCE: u64 = 3;
/// Seconds a partition that changes hands stands still: revoked, committed, assigned, read again from `replay_from`.
const HANDOVER: u64 = 6;
/// Spread of the pods' speed.
const SPEED: (f64, f64) = (0.95, 1.05);
/// Seconds over which pods average how busy they were.
const BUSY: usize = 5;

/// What a rule can see.
#[derive(Clone, Debug)]
pub struct Look {
    /// Seconds from the beginning.
    pub now: u64,
    /// Replicas asked for.
    pub wanted: u32,
    /// Replicas ready.
    pub ready: u32,
    /// Each partition's end and committed offset; none: the broker does not answer.
    pub partitions: Option<Vec<Place>>,
    /// Whether the group is not rebalancing.
    pub stable: bool,
    /// Share of their time the ready replicas were at work, lately.
    pub busy: Option<f64>,
}

/// How far the group is on a partition.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Offset after its last record.
    pub end: u64,
    /// Offset of the next record the group will read.
    pub committed: u64,
}

impl Look {
    /// Records waiting; none: the broker does not answer.
    #[must_use]
    pub fn lag(&self) -> Option<u64> {
        Some(self.partitions.as_ref()?.iter().map(|place| place.end - place.committed).sum())
    }

    /// Records read, all partitions together.
    #[must_use]
    pub fn committed(&self) -> Option<u64> {
        Some(self.partitions.as_ref()?.iter().map(|place| place.committed).sum())
    }

    /// Records that came, all partitions together.
    #[must_use]
    pub fn ends(&self) -> Option<u64> {
        Some(self.partitions.as_ref()?.iter().map(|place| place.end).sum())
    }
}

#[derive(Debug, Default)]
struct Queue {
    /// When they came and how many are left, oldest first.
    waiting: VecDeque<(u64, u64)>,
    place_end: u64,
    committed: u64,
    /// The pod that reads it.
    reader: Option<u64>,
    /// Stands still until then.
    still_until: u64,
    /// Parts of a record that a pod was too slow for within a second.
    rest: f64,
}

impl Queue {
    fn lag(&self) -> u64 {
        self.place_end - self.committed
    }

    fn put(&mut self, at: u64, count: u64) {
        if count > 0 {
            self.waiting.push_back((at, count));
            self.place_end += count;
        }
    }

    /// Takes the oldest records away and tells each group's age.
    fn take(&mut self, mut count: u64, mut gone: impl FnMut(u64, u64)) {
        self.committed += count;
        while count > 0 {
            let Some((at, left)) = self.waiting.front_mut() else { return };
            let taken = count.min(*left);
            gone(*at, taken);
            (*left, count) = (*left - taken, count - taken);
            if *left == 0 {
                self.waiting.pop_front();
            }
        }
    }
}

#[derive(Debug)]
struct Pod {
    id: u64,
    ready_at: u64,
    /// It leaves then.
    leaves_at: Option<u64>,
    speed: f64,
}

impl Pod {
    fn works(&self, now: u64) -> bool {
        self.ready_at <= now && self.leaves_at.is_none()
    }
}

/// A stage under a load.
pub struct Stage {
    trace: Trace,
    random: Random,
    now: u64,
    queues: Vec<Queue>,
    pods: Vec<Pod>,
    members: Vec<u64>,
    next_pod: u64,
    wanted: u32,
    rebalancing_until: u64,
    busy: VecDeque<f64>,
    /// What producers keep while the broker is away.
    kept: Vec<(usize, u64, u64)>,
}

impl Stage {
    /// A stage at the beginning of a trace, its first pods ready.
    #[must_use]
    pub fn new(trace: &Trace, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let queues = trace.shares.iter().map(|share| {
            let mut queue = Queue::default();
            queue.put(0, (trace.backlog as f64 * share) as u64);
            queue
        });
        let queues = queues.collect();
        let pods = (0..u64::from(trace.replicas)).map(|id| Pod {
            id,
            ready_at: 0,
            leaves_at: None,
            speed: random.between(SPEED.0, SPEED.1),
        });
        let pods = pods.collect();
        let mut stage = Self {
            random,
            now: 0,
            queues,
            pods,
            members: Vec::new(),
            next_pod: trace.replicas.into(),
            wanted: trace.replicas,
            rebalancing_until: 0,
            busy: VecDeque::new(),
            kept: Vec::new(),
            trace: trace.clone(),
        };
        stage.assign();
        stage.queues.iter_mut().for_each(|queue| queue.still_until = 0);
        stage.rebalancing_until = 0;
        stage
    }

    /// What a rule can see now.
    #[must_use]
    pub fn look(&self) -> Look {
        let places =
            self.queues.iter().map(|queue| Place { end: queue.place_end, committed: queue.committed });
        let ready = self.pods.iter().filter(|pod| pod.works(self.now)).count();
        let busy = self.busy.iter().sum::<f64>() / self.busy.len().max(1) as f64;
        Look {
            now: self.now,
            wanted: self.wanted,
            ready: u32::try_from(ready).unwrap_or(u32::MAX),
            partitions: (!self.trace.outage.contains(&self.now)).then(|| places.collect()),
            stable: self.now >= self.rebalancing_until,
            busy: (ready > 0 && !self.busy.is_empty()).then_some(busy),
        }
    }

    /// Asks for that many pods. Those that are not ready go first, then the youngest.
    pub fn scale(&mut self, replicas: u32) {
        self.wanted = replicas;
        let mut living: Vec<usize> =
            (0..self.pods.len()).filter(|index| self.pods[*index].leaves_at.is_none()).collect();
        while living.len() < replicas as usize {
            let ready_at = self.now + self.random.between(START.0, START.1) as u64;
            let speed = self.random.between(SPEED.0, SPEED.1);
            living.push(self.pods.len());
            self.pods.push(Pod { id: self.next_pod, ready_at, leaves_at: None, speed });
            self.next_pod += 1;
        }
        living.sort_by_key(|index| (self.pods[*index].ready_at, *index));
        for index in living.drain(..).skip(replicas as usize) {
            self.pods[index].leaves_at = Some(self.now + LEAVE);
        }
    }

    /// One second.
    pub fn tick(&mut self, score: &mut Score) {
        let away = self.trace.outage.contains(&self.now);
        self.arrive(away);
        let now = self.now;
        self.pods.retain(|pod| pod.leaves_at.is_none_or(|at| at > now));
        let members: Vec<u64> = self.pods.iter().filter(|pod| pod.works(now)).map(|pod| pod.id).collect();
        if members != self.members && !away {
            self.assign();
        }
        let busy = if away { 0.0 } else { self.work(score) };
        self.busy.push_back(busy);
        if self.busy.len() > BUSY {
            self.busy.pop_front();
        }
        let still = self.queues.iter().filter(|queue| queue.still_until > now || queue.reader.is_none());
        let still = still.filter(|queue| queue.lag() > 0).count();
        // A leaving pod costs as long as it is there.
        score.second(now, self.pods.len(), still, self.oldest());
        self.now += 1;
    }

    /// Age of the oldest record that waits and can be helped, in seconds.
    fn oldest(&self) -> u64 {
        let queues = self.queues.iter().enumerate().filter(|(index, _)| !self.poisoned(*index));
        let oldest = queues.filter_map(|(_, queue)| queue.waiting.front()).map(|(at, _)| *at).min();
        oldest.map_or(0, |at| self.now - at)
    }

    fn poisoned(&self, index: usize) -> bool {
        self.trace.poison.is_some_and(|(bad, from)| bad == index && self.now >= from)
    }

    fn arrive(&mut self, away: bool) {
        if !away {
            for (index, at, count) in self.kept.drain(..) {
                self.queues[index].put(at, count);
            }
        }
        let rate = (self.trace.rate)(self.now);
        for (index, share) in self.trace.shares.iter().enumerate() {
            let count = self.random.count(rate * share);
            if away {
                self.kept.push((index, self.now, count));
            } else {
                self.queues[index].put(self.now, count);
            }
        }
    }

    /// As Kafka's cooperative-sticky assignor: even in number, as few as possible change hands, the others go on.
    fn assign(&mut self) {
        let now = self.now;
        self.members = self.pods.iter().filter(|pod| pod.works(now)).map(|pod| pod.id).collect();
        self.rebalancing_until = now + REBALANCE;
        let members = &self.members;
        for queue in &mut self.queues {
            queue.reader = queue.reader.filter(|reader| members.contains(reader));
        }
        if members.is_empty() {
            return;
        }
        loop {
            let load = |id: &u64| self.queues.iter().filter(|queue| queue.reader == Some(*id)).count();
            let least = members.iter().copied().min_by_key(|id| load(id)).unwrap_or_default();
            let most = members.iter().copied().max_by_key(|id| load(id)).unwrap_or_default();
            let free = self.queues.iter().position(|queue| queue.reader.is_none());
            let uneven = load(&most) > load(&least) + 1;
            let next = free.or_else(|| {
                let taken = self.queues.iter().position(|queue| queue.reader == Some(most));
                taken.filter(|_| uneven)
            });
            let Some(next) = next else { return };
            self.queues[next].reader = Some(least);
            self.queues[next].still_until = now + HANDOVER;
        }
    }

    /// Every pod shares its second evenly among its partitions that have work. How busy they were, in the mean.
    fn work(&mut self, score: &mut Score) -> f64 {
        let now = self.now;
        let mut plan = vec![0.0; self.queues.len()];
        let (mut budgets, mut planned) = (0.0, 0.0);
        let mut blocked = 0.0;
        let pods: Vec<(u64, f64)> =
            self.pods.iter().filter(|pod| pod.works(now)).map(|pod| (pod.id, pod.speed)).collect();
        for (id, speed) in &pods {
            let mut budget = self.trace.capacity * speed;
            budgets += budget;
            let mut open: Vec<usize> = (0..self.queues.len())
                .filter(|index| {
                    let queue = &self.queues[*index];
                    let free = queue.reader == Some(*id) && queue.still_until <= now;
                    free && queue.lag() > 0 && !self.poisoned(*index)
                })
                .collect();
            open.sort_by_key(|index| self.queues[*index].lag());
            for (done, index) in open.iter().enumerate() {
                let share = budget / (open.len() - done) as f64;
                plan[*index] = share.min(self.queues[*index].lag() as f64);
                budget -= plan[*index];
                planned += plan[*index];
            }
            blocked += budget;
        }
        let through = ((self.trace.through)(now) / f64::max(planned, 1e-9)).min(1.0);
        for (index, amount) in plan.into_iter().enumerate() {
            let poisoned = self.trace.poison.is_some_and(|(bad, _)| bad == index);
            let queue = &mut self.queues[index];
            let amount = amount * through + queue.rest;
            let whole = (amount as u64).min(queue.lag());
            queue.rest = (amount - whole as f64).clamp(0.0, 1.0);
            queue.take(whole, |at, count| {
                if !poisoned {
                    score.done(now.saturating_sub(at), count);
                }
            });
        }
        // Who waits for what comes behind is at work.
        if budgets > 0.0 { (budgets - blocked) / budgets } else { 0.0 }
    }

    /// What never was worked off counts with its age.
    pub fn finish(&mut self, score: &mut Score) {
        for index in 0..self.queues.len() {
            if self.trace.poison.is_some_and(|(bad, _)| bad == index) {
                continue;
            }
            let (now, lag) = (self.now, self.queues[index].lag());
            self.queues[index].take(lag, |at, count| score.done(now.saturating_sub(at), count));
        }
    }
}
