//! Events of generated traffic, window by window, and their labels.

use std::fmt::Write as _;

use herd_backtest::truth::{Crowd, Truth};
use herd_backtest::{Backtest, BacktestError};
use herd_spec::units::{EventTime, WallTime};
use herd_spec::wire::{EventRef, VERSION, Window};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::value::RawValue;

/// A Wednesday, 00:00 UTC.
pub(crate) const BASE: i64 = 1_700_006_400_000;
/// Countries of events.
pub(crate) const COUNTRIES: [&str; 5] = ["DE", "FR", "US", "IN", "BR"];
/// Devices of events.
pub(crate) const DEVICES: [&str; 3] = ["mobile", "desktop", "tablet"];
const USERS: u32 = 20_000;

/// An event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) time: i64,
    /// Place of the item.
    pub(crate) item: u32,
    pub(crate) user: u32,
    pub(crate) country: u8,
    pub(crate) device: u8,
}

/// What is special about the events of an item for some windows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin {
    /// All from one country and with one device.
    Country(u8, u8),
    /// All of so many users.
    Users(u32),
}

/// Counts of each item in each window, and the labels.
pub(crate) struct Traffic {
    pub(crate) name: String,
    /// By window and item.
    pub(crate) counts: Vec<Vec<u32>>,
    /// Names of the items.
    pub(crate) items: Vec<String>,
    pub(crate) truth: Truth,
    /// Origins of the events of an item in windows `from..to`.
    pub(crate) origins: Vec<(u32, std::ops::Range<usize>, Origin)>,
    pub(crate) event_type: &'static str,
    seed: u64,
}

impl Traffic {
    /// Traffic of windows of this many milliseconds, without labels.
    pub(crate) fn new(name: &str, counts: Vec<Vec<u32>>, window: i64, seed: u64) -> Self {
        let items = counts.first().map_or(0, Vec::len);
        let truth = Truth {
            scenario: name.to_owned(),
            windows: i64::try_from(counts.len()).unwrap_or(i64::MAX),
            base: BASE,
            window,
            t0: None,
            days: None,
            truth: Vec::new(),
            global: Vec::new(),
        };
        let items = (0..items).map(|item| format!("item-{item}")).collect();
        Self { name: name.to_owned(), counts, items, truth, origins: Vec::new(), event_type: "view", seed }
    }

    /// Start of a window.
    pub(crate) fn at(&self, window: usize) -> i64 {
        self.truth.base + i64::try_from(window).unwrap_or(i64::MAX) * self.truth.window
    }

    /// Labels a crowd of `length` windows; alerts are right until two windows after it.
    pub(crate) fn label(&mut self, item: usize, from: usize, length: usize, why: &str) {
        let crowd = Crowd {
            item: self.items[item].clone(),
            from: self.at(from),
            to: self.at(from + length + 2),
            why: why.to_owned(),
        };
        self.truth.truth.push(crowd);
    }

    /// All events in the order of time.
    pub(crate) fn each<E>(&self, mut then: impl FnMut(&Event) -> Result<(), E>) -> Result<u64, E> {
        let mut random = SmallRng::seed_from_u64(self.seed ^ 0x5EED);
        let mut events = Vec::new();
        let mut total = 0;
        for (window, counts) in self.counts.iter().enumerate() {
            events.clear();
            for (item, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                let item = u32::try_from(item).unwrap_or(u32::MAX);
                let special =
                    self.origins.iter().find(|(of, windows, _)| *of == item && windows.contains(&window));
                for _ in 0..*count {
                    let mut event = Event {
                        time: self.at(window) + random.random_range(0..self.truth.window),
                        item,
                        user: random.random_range(0..USERS),
                        country: [0, 0, 0, 1, 1, 2, 2, 2, 3, 4][random.random_range(0..10)],
                        device: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 2]
                            [random.random_range(0..20)],
                    };
                    match special {
                        Some((_, _, Origin::Country(country, device))) => {
                            (event.country, event.device) = (*country, *device);
                        }
                        Some((_, _, Origin::Users(users))) => event.user = random.random_range(0..*users),
                        None => {}
                    }
                    events.push(event);
                }
            }
            events.sort_by_key(|event| event.time);
            total += events.len() as u64;
            events.iter().try_for_each(&mut then)?;
        }
        Ok(total)
    }

    /// Passes all events to a backtest; how many.
    pub(crate) fn push<W: FnMut(&Window<'_>)>(&self, backtest: &mut Backtest<W>) -> anyhow::Result<u64> {
        let mut written = Written::default();
        let mut number = 0_u64;
        let total = self.each(|event| {
            number += 1;
            written.push(number, event, &self.items[event.item as usize], self.event_type, backtest)
        })?;
        Ok(total)
    }
}

/// Reused texts of an event.
#[derive(Debug, Default)]
pub(crate) struct Written {
    id: String,
    user: String,
    properties: String,
}

impl Written {
    /// Passes an event on.
    pub(crate) fn push<W: FnMut(&Window<'_>)>(
        &mut self,
        number: u64,
        event: &Event,
        item: &str,
        event_type: &str,
        backtest: &mut Backtest<W>,
    ) -> Result<(), BacktestError> {
        let Self { id, user, properties } = self;
        [&mut *id, &mut *user, &mut *properties].into_iter().for_each(String::clear);
        // Writing into a String does not fail.
        let _ = write!(id, "{number}");
        let _ = write!(user, "u{}", event.user);
        let (country, device) = (COUNTRIES[event.country as usize], DEVICES[event.device as usize]);
        let _ = write!(properties, r#"{{"country":"{country}","device":"{device}"}}"#);
        let properties: Option<&RawValue> = serde_json::from_str(properties).ok();
        let event = EventRef {
            v: VERSION,
            event_id: id.as_str().into(),
            event_type: event_type.into(),
            user_id: Some(user.as_str().into()),
            item_id: Some(item.into()),
            time: EventTime(event.time),
            received: WallTime(event.time),
            properties,
        };
        backtest.push(user, &event)
    }
}
