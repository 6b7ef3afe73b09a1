//! Model of generated shoppers. Pure: the same seed, settings and start give the same events, byte for byte; it reads no clock
//! and sends nothing.
//!
//! A fixed number of visits is active at any time. Each event belongs to a visit: a user views an item, mostly a popular one
//! (Zipf), sometimes adds it to the cart, sometimes buys it, and leaves after a while. Arrivals are a Poisson process whose rate
//! follows the [`Profile`].

mod profile;
mod shape;
mod titles;

use std::collections::VecDeque;
use std::time::Duration;

use herd_spec::units::{EventTime, millis};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, RngExt, SeedableRng};
use rand_distr::{Distribution, Exp1, Zipf};

pub use profile::{Crowds, Interval, Profile, ProfileKind};
pub use shape::{Action, Shape, UserEvent};
pub use titles::Title;
use titles::Titles;

/// Injected faults.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// Fraction of events that are sent twice, 0 to 1.
    pub duplicates: f64,
    /// Fraction of invalid events, 0 to 1.
    pub invalid: f64,
    /// Half of the events have a time up to this long before they are sent.
    pub disorder: Duration,
}

/// The settings of the model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Seed of the random numbers.
    pub seed: u64,
    /// Start of the run: event times are relative to it.
    pub start: EventTime,
    /// Number of users, at least 1.
    pub users: u64,
    /// Number of items, at least 1.
    pub items: u64,
    /// Exponent of the Zipf distribution of item popularity, at least 0.
    pub skew: f64,
    /// Event rate over time.
    pub profile: Profile,
    /// Format of the events.
    pub shape: Shape,
    /// Injected faults.
    pub faults: Faults,
}

/// Whether an event is new, a duplicate or invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// New and valid.
    Fresh,
    /// Identical to an event sent before.
    Duplicate,
    /// Invalid: collectors must refuse it.
    Invalid {
        /// Whether it is not even JSON, and makes its whole request invalid.
        breaks_json: bool,
    },
}

/// One event to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratedEvent {
    /// Scheduled time, from the start of the run. Does not decrease.
    pub at: Duration,
    /// Whether it is new, a duplicate or invalid.
    pub kind: Kind,
    /// The JSON to send.
    pub body: String,
    /// Event time.
    pub time: EventTime,
    /// Number of the crowd it belongs to.
    pub crowd: Option<u64>,
    /// Action and item, if it is valid.
    pub about: Option<(Action, u64)>,
}

#[derive(Clone, Copy, Debug)]
struct Visit {
    user: u64,
    session: u64,
    item: u64,
    basket: bool,
    /// Seconds of the video that have been watched.
    watched: u32,
    device: &'static str,
    country: &'static str,
    referrer: &'static str,
}

/// The shoppers: an endless iterator over their events.
#[derive(Debug)]
pub struct Shoppers {
    settings: Settings,
    rng: Xoshiro256PlusPlus,
    popularity: Zipf<f64>,
    visits: Vec<Visit>,
    sessions: u64,
    now: Duration,
    recent: VecDeque<GeneratedEvent>,
    titles: Titles,
}

/// Maximum number of recent events from which duplicates are chosen.
const RECENT: usize = 1_000;
/// Maximum age of an event that is duplicated, as for a client's retry.
const REPEAT_WITHIN: Duration = Duration::from_secs(5);
/// Maximum number of concurrent visits.
const MAX_VISITS: u64 = 500;
/// Mean number of events of a visit.
const VISIT_EVENTS: f64 = 8.0;
/// Seconds of a video from one report of its player to the next.
const PROGRESS: u32 = 30;

/// Crowds on one item, and one on a new item.
const CROWDS_A_ROUND: u64 = 4;

impl Shoppers {
    /// A model with these settings; values below their minimum are raised to it.
    #[must_use]
    pub fn new(mut settings: Settings) -> Self {
        settings.users = settings.users.max(1);
        settings.items = settings.items.max(1);
        let skew = if settings.skew.is_finite() { settings.skew.max(0.0) } else { 1.0 };
        let popularity = Zipf::new(settings.items as f64, skew);
        #[allow(clippy::expect_used)] // Zipf refuses only n < 1 and s < 0 or NaN, both excluded above
        let popularity = popularity.expect("at least one item, skew not negative");
        let mut shoppers = Self {
            settings,
            rng: Xoshiro256PlusPlus::seed_from_u64(settings.seed),
            popularity,
            visits: Vec::new(),
            sessions: 0,
            now: Duration::ZERO,
            recent: VecDeque::with_capacity(RECENT),
            titles: Titles::default(),
        };
        for _ in 0..(settings.users / 10).clamp(1, MAX_VISITS) {
            let visit = shoppers.visit();
            shoppers.visits.push(visit);
        }
        shoppers
    }

    /// The item of crowd `number`: three crowds on one item, none of the most popular, then one on an item that did not exist before,
    /// and so on with other items.
    #[must_use]
    pub fn crowd_item(settings: &Settings, number: u64) -> u64 {
        let items = settings.items.max(1);
        let round = number / CROWDS_A_ROUND;
        if number % CROWDS_A_ROUND == CROWDS_A_ROUND - 1 {
            return items.saturating_add(round).saturating_add(1);
        }
        // Ranks below the top twentieth: known to every detector, but with few events of their own.
        let from = (items / 20).max(1);
        (from + round.wrapping_mul(7) % (items / 4).max(1)).min(items)
    }

    /// Id of the item of a crowd.
    #[must_use]
    pub fn crowd_key(settings: &Settings, number: u64) -> String {
        settings.shape.item(Self::crowd_item(settings, number))
    }

    fn visit(&mut self) -> Visit {
        const DEVICES: [&str; 4] = ["mobile", "mobile", "desktop", "tablet"];
        const COUNTRIES: [&str; 10] = ["DE", "DE", "DE", "FR", "FR", "GB", "IT", "PL", "US", "BR"];
        const REFERRERS: [&str; 6] = ["", "", "", "google.com", "google.com", "instagram.com"];
        self.sessions += 1;
        Visit {
            user: self.rng.random_range(1..=self.settings.users),
            session: self.sessions,
            item: self.item(),
            basket: false,
            watched: 0,
            device: DEVICES[self.rng.random_range(0..DEVICES.len())],
            country: COUNTRIES[self.rng.random_range(0..COUNTRIES.len())],
            referrer: REFERRERS[self.rng.random_range(0..REFERRERS.len())],
        }
    }

    fn item(&mut self) -> u64 {
        (self.popularity.sample(&mut self.rng) as u64).clamp(1, self.settings.items)
    }

    /// Advances to the next arrival and returns the crowd it belongs to.
    fn next_arrival(&mut self) -> Option<u64> {
        // A Poisson process is memoryless: at the end of an interval, the next arrival is sampled again with the new rate.
        loop {
            let interval = self.settings.profile.at(self.now);
            let rate = interval.rate();
            let gap: f64 = Exp1.sample(&mut self.rng);
            let next = (rate > 0.0).then(|| self.now + Duration::from_secs_f64((gap / rate).min(1e9)));
            match (next, interval.until) {
                (Some(next), until) if until.is_none_or(|until| next < until) => {
                    self.now = next;
                    let (number, crowd) = interval.crowd?;
                    return (self.rng.random::<f64>() * rate < crowd).then_some(number);
                }
                (_, Some(until)) => self.now = until,
                // A rate of 0 without an end: no event will ever arrive. Rates are validated to be above 0.
                (_, None) => self.now += Duration::from_secs(3600),
            }
        }
    }

    fn next_event(&mut self, crowd: Option<u64>, time: EventTime) -> UserEvent {
        let id = self.id(time);
        if let Some(number) = crowd {
            let mut visit = self.visit();
            // Most of a crowd comes from one place, by one link.
            if self.rng.random_bool(0.9) {
                (visit.country, visit.referrer) = ("BR", "t.co");
            }
            let item = Self::crowd_item(&self.settings, number);
            let action = if self.rng.random_bool(0.05) { Action::Convert } else { Action::View };
            return self.done(id, visit, action, item, time, 1);
        }
        let place = self.rng.random_range(0..self.visits.len());
        let mut visit = self.visits[place];
        let turn: f64 = self.rng.random();
        let action = if visit.basket && turn < 0.25 {
            visit.basket = false;
            Action::Convert
        } else if turn > 0.88 {
            visit.basket = true;
            Action::Engage
        } else {
            visit.item = self.item();
            Action::View
        };
        match action {
            Action::View => visit.watched = 0,
            Action::Engage | Action::Convert => visit.watched += PROGRESS,
        }
        let quantity = self.rng.random_range(1..=3);
        let event = self.done(id, visit, action, visit.item, time, quantity);
        self.visits[place] = if self.rng.random::<f64>() < 1.0 / VISIT_EVENTS { self.visit() } else { visit };
        event
    }

    fn done(
        &mut self,
        id: String,
        visit: Visit,
        action: Action,
        item: u64,
        time: EventTime,
        quantity: u32,
    ) -> UserEvent {
        let Visit { user, session, watched, device, country, referrer, .. } = visit;
        let title = (self.settings.shape == Shape::Anime)
            .then(|| self.titles.apply(item, action, self.now, &mut self.rng));
        let time = time.0;
        UserEvent {
            id,
            action,
            user,
            session,
            item,
            time,
            quantity,
            watched,
            title,
            device,
            country,
            referrer,
        }
    }

    /// A UUIDv7 whose random bits are derived from the seed.
    fn id(&mut self, time: EventTime) -> String {
        let mut bits = [0; 10];
        self.rng.fill_bytes(&mut bits);
        let ms = u64::try_from(time.0).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(ms, &bits).into_uuid().to_string()
    }

    /// An invalid event; unique.
    fn invalid(&mut self, event: &UserEvent) -> (String, bool) {
        let id = &event.id;
        let user = event.user;
        match self.rng.random_range(0..5) {
            0 => (format!(r#"{{"event_id":"{id}","user_id":"u-{user}","time":{}}}"#, event.time), false),
            1 => {
                let tomorrow = UserEvent { time: event.time + 86_400_000, ..event.clone() };
                (tomorrow.render(self.settings.shape), false)
            }
            2 => (format!("\"not an object: {id}\""), false),
            3 => (format!("[\"{id}\", {user}]"), false),
            _ => (format!(r#"{{"event_id":"{id}","type":"view","user_id":"u-{user}""#), true),
        }
    }
}

impl Iterator for Shoppers {
    type Item = GeneratedEvent;

    fn next(&mut self) -> Option<GeneratedEvent> {
        let crowd = self.next_arrival();
        let at = self.now;
        let Faults { duplicates, invalid, disorder } = self.settings.faults;
        let chance: f64 = self.rng.random();
        while self.recent.front().is_some_and(|old| old.at + REPEAT_WITHIN < at) {
            self.recent.pop_front();
        }
        if chance < duplicates && !self.recent.is_empty() {
            let again = self.recent[self.rng.random_range(0..self.recent.len())].clone();
            return Some(GeneratedEvent { at, kind: Kind::Duplicate, ..again });
        }
        let mut time = self.settings.start.plus(at);
        if !disorder.is_zero() && crowd.is_none() && self.rng.random_bool(0.5) {
            time = EventTime(time.0 - self.rng.random_range(0..=millis(disorder)));
        }
        let event = self.next_event(crowd, time);
        if (duplicates..duplicates + invalid).contains(&chance) {
            let (body, breaks_json) = self.invalid(&event);
            return Some(GeneratedEvent {
                at,
                kind: Kind::Invalid { breaks_json },
                body,
                time,
                crowd: None,
                about: None,
            });
        }
        let (body, about) = (event.render(self.settings.shape), Some((event.action, event.item)));
        let planned = GeneratedEvent { at, kind: Kind::Fresh, body, time, crowd, about };
        if duplicates > 0.0 {
            if self.recent.len() == RECENT {
                self.recent.pop_front();
            }
            self.recent.push_back(planned.clone());
        }
        Some(planned)
    }
}

#[cfg(test)]
mod tests;
