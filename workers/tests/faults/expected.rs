//! What must come of it, kept as aggregates: with arithmetic of its own, which shares nothing with the pipeline.

use std::collections::HashMap;

use crate::script::{Event, Script, USERS};

/// The metrics of the pipeline under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Metric {
    /// Events, 10 s.
    All,
    /// Cents of purchases, 30 s.
    Revenue,
    /// Different users, 60 s.
    Visitors,
}

impl Metric {
    pub(crate) const EVERY: [Self; 3] = [Self::All, Self::Revenue, Self::Visitors];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Revenue => "revenue",
            Self::Visitors => "visitors",
        }
    }

    pub(crate) fn size_ms(self) -> i64 {
        match self {
            Self::All => 10_000,
            Self::Revenue => 30_000,
            Self::Visitors => 60_000,
        }
    }
}

/// What is counted: an item of the script, or of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Key {
    Item(u32),
    Probe(u64),
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Item(item) => write!(f, "item-{item}"),
            Self::Probe(probe) => write!(f, "probe-{probe}"),
        }
    }
}

/// A window: metric, key, start in milliseconds.
pub(crate) type Name = (Metric, Key, i64);

/// What a window must hold.
#[derive(Default, Debug)]
pub(crate) struct Window {
    pub(crate) count: u64,
    pub(crate) cents: i64,
    /// Events accepted so long after they happened that the pipeline may have taken them for late.
    pub(crate) perhaps: u64,
    users: Bits,
}

impl Window {
    pub(crate) fn users(&self) -> u64 {
        self.users.count()
    }
}

/// What a user's statistics must say.
#[derive(Clone, Copy, Default, Debug, PartialEq)]
pub(crate) struct User {
    pub(crate) events: i64,
    pub(crate) purchases: i64,
    pub(crate) cents: i64,
    pub(crate) first: i64,
    pub(crate) last: i64,
}

impl User {
    pub(crate) fn once(time: i64) -> Self {
        Self { events: 1, first: time, last: time, ..Self::default() }
    }

    fn add(&mut self, event: &Event) {
        self.first = if self.events == 0 { event.time } else { self.first.min(event.time) };
        self.last = if self.events == 0 { event.time } else { self.last.max(event.time) };
        self.events += 1;
        if event.purchase {
            self.purchases += 1;
            self.cents += event.cents;
        }
    }
}

/// One bit a number.
#[derive(Default, Debug, Clone)]
pub(crate) struct Bits(Vec<u64>);

impl Bits {
    /// Sets a bit; whether it was not set before.
    pub(crate) fn set(&mut self, n: u64) -> bool {
        let (word, bit) = (usize::try_from(n / 64).unwrap(), 1_u64 << (n % 64));
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        new
    }

    pub(crate) fn has(&self, n: u64) -> bool {
        usize::try_from(n / 64).is_ok_and(|word| self.0.get(word).is_some_and(|w| w & (1 << (n % 64)) != 0))
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        (0..self.0.len() as u64 * 64).filter(|n| self.has(*n))
    }
}

/// All that clients were told.
pub(crate) struct Expected {
    pub(crate) accepted: Bits,
    pub(crate) invalid: Bits,
    /// Numbers that were sent more often than the script says: a client that had no answer, or was told to try again.
    pub(crate) retried: Bits,
    pub(crate) windows: HashMap<Name, Window>,
    pub(crate) users: Vec<User>,
    /// Event times of probes that were accepted.
    pub(crate) probes: HashMap<u64, i64>,
    /// Event time of the last events, and how many of them were accepted.
    pub(crate) ends: (i64, u64),
    /// How late an event may be and still count.
    lateness_ms: i64,
}

impl Expected {
    pub(crate) fn new(lateness_ms: i64) -> Self {
        Self {
            accepted: Bits::default(),
            invalid: Bits::default(),
            retried: Bits::default(),
            windows: HashMap::new(),
            users: vec![User::default(); USERS as usize],
            probes: HashMap::new(),
            ends: (0, 0),
            lateness_ms,
        }
    }

    /// Events that were accepted, of all kinds.
    pub(crate) fn stored(&self) -> u64 {
        self.accepted.count() + self.probes.len() as u64 + self.ends.1
    }

    /// Number `n` was accepted, as its client heard at `now`.
    pub(crate) fn accept(&mut self, script: &Script, n: u64, now: i64) {
        if !self.accepted.set(n) {
            return;
        }
        let event = script.event(n).expect("an invalid item was accepted");
        self.users[event.user as usize].add(&event);
        self.count(Key::Item(event.item), event.time, now, Some(&event));
    }

    /// A probe was accepted.
    pub(crate) fn accept_probe(&mut self, probe: u64, time: i64, now: i64) {
        if self.probes.insert(probe, time).is_none() {
            self.count(Key::Probe(probe), time, now, None);
        }
    }

    fn count(&mut self, key: Key, time: i64, now: i64, event: Option<&Event>) {
        for metric in Metric::EVERY {
            let purchase = event.is_some_and(|event| event.purchase);
            if metric == Metric::Revenue && !purchase {
                continue;
            }
            let start = time.div_euclid(metric.size_ms()) * metric.size_ms();
            let window = self.windows.entry((metric, key, start)).or_default();
            // No watermark is further than the clock less the lateness.
            if start + metric.size_ms() <= now - self.lateness_ms {
                window.perhaps += 1;
                continue;
            }
            window.count += 1;
            window.cents += event.map_or(0, |event| event.cents);
            if metric == Metric::Visitors {
                window.users.set(event.map_or(0, |event| u64::from(event.user)));
            }
        }
    }
}
