//! Generated shoppers: who does what to which item, when. Pure: the same seed, settings and start give the same events,
//! byte for byte; nothing here looks at a clock or sends anything.
//!
//! A number of visits is always going on. Each event belongs to one of them: somebody looks at an item, mostly a popular one
//! (Zipf), sometimes puts it in the basket, sometimes buys it, and goes after a while. Arrivals are a Poisson process whose
//! rate follows the [`Profile`].

mod profile;
mod shape;

use std::collections::VecDeque;
use std::time::Duration;

use herd_spec::units::{EventTime, millis};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, RngExt, SeedableRng};
use rand_distr::{Distribution, Exp1, Zipf};

pub use profile::{Crowds, Profile, ProfileKind, Stretch};
pub use shape::{Act, Deed, Shape};

/// What goes wrong on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// Share of events that are sent a second time, 0 to 1.
    pub duplicates: f64,
    /// Share of events that no collector may accept, 0 to 1.
    pub invalid: f64,
    /// Half of the events say that they happened up to this long before they are sent.
    pub disorder: Duration,
}

/// The settings of the model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Same seed, same events.
    pub seed: u64,
    /// When the run starts: event times count from here.
    pub start: EventTime,
    /// How many people there are; at least 1.
    pub users: u64,
    /// How many items there are; at least 1.
    pub items: u64,
    /// How much more popular the popular items are: Zipf's exponent, at least 0.
    pub skew: f64,
    /// How many events, when.
    pub profile: Profile,
    /// What they look like.
    pub shape: Shape,
    /// What goes wrong on purpose.
    pub faults: Faults,
}

/// What is special about an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing: it is new and valid.
    Fresh,
    /// The same, byte for byte, was sent before.
    Duplicate,
    /// No collector may accept it. If it is not even JSON it can only be sent alone.
    Invalid {
        /// Whether it breaks the request it is in.
        breaks_json: bool,
    },
}

/// One event to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// When, from the start of the run. Never goes back.
    pub at: Duration,
    /// What is special about it.
    pub kind: Kind,
    /// The bytes to send.
    pub body: String,
    /// When it says it happened.
    pub time: EventTime,
    /// The crowd it belongs to, by number.
    pub crowd: Option<u64>,
    /// What was done to which item, if it is valid.
    pub about: Option<(Deed, u64)>,
}

#[derive(Clone, Copy, Debug)]
struct Visit {
    user: u64,
    session: u64,
    item: u64,
    basket: bool,
    device: &'static str,
    country: &'static str,
}

/// The shoppers: an endless iterator of what they do.
#[derive(Debug)]
pub struct Shoppers {
    settings: Settings,
    dice: Xoshiro256PlusPlus,
    popularity: Zipf<f64>,
    visits: Vec<Visit>,
    sessions: u64,
    now: Duration,
    recent: VecDeque<Planned>,
}

/// Events that may be sent again: the last so many, and not older than [`REPEAT_WITHIN`].
const RECENT: usize = 1_000;
/// A duplicate follows within this time: what a client's retry would do.
const REPEAT_WITHIN: Duration = Duration::from_secs(5);
/// Visits that go on at the same time, at most.
const MOST_VISITS: u64 = 500;
/// A visit has so many events on average.
const VISIT_EVENTS: f64 = 8.0;

impl Shoppers {
    /// A model with these settings; numbers below their least are raised to it.
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
            dice: Xoshiro256PlusPlus::seed_from_u64(settings.seed),
            popularity,
            visits: Vec::new(),
            sessions: 0,
            now: Duration::ZERO,
            recent: VecDeque::with_capacity(RECENT),
        };
        for _ in 0..(settings.users / 10).clamp(1, MOST_VISITS) {
            let visit = shoppers.visit();
            shoppers.visits.push(visit);
        }
        shoppers
    }

    /// The item that crowd `number` is about: each its own, none of the most popular ones.
    #[must_use]
    pub fn crowd_item(settings: &Settings, number: u64) -> u64 {
        let items = settings.items.max(1);
        // Ranks from a twentieth of all down: known to every detector, yet with few events of their own.
        let from = (items / 20).max(1);
        (from + number.wrapping_mul(7) % (items / 4).max(1)).min(items)
    }

    /// What the crowd's item is called in events.
    #[must_use]
    pub fn crowd_key(settings: &Settings, number: u64) -> String {
        settings.shape.item(Self::crowd_item(settings, number))
    }

    fn visit(&mut self) -> Visit {
        const DEVICES: [&str; 4] = ["mobile", "mobile", "desktop", "tablet"];
        const COUNTRIES: [&str; 6] = ["DE", "FR", "GB", "IT", "PL", "US"];
        self.sessions += 1;
        Visit {
            user: self.dice.random_range(1..=self.settings.users),
            session: self.sessions,
            item: self.item(),
            basket: false,
            device: DEVICES[self.dice.random_range(0..DEVICES.len())],
            country: COUNTRIES[self.dice.random_range(0..COUNTRIES.len())],
        }
    }

    fn item(&mut self) -> u64 {
        (self.popularity.sample(&mut self.dice) as u64).clamp(1, self.settings.items)
    }

    /// Moves on to the next arrival; the crowd it belongs to.
    fn arrive(&mut self) -> Option<u64> {
        // A Poisson process forgets: at the border of a stretch one may simply draw anew with the new rate.
        loop {
            let stretch = self.settings.profile.at(self.now);
            let rate = stretch.rate();
            let gap: f64 = Exp1.sample(&mut self.dice);
            let next = (rate > 0.0).then(|| self.now + Duration::from_secs_f64((gap / rate).min(1e9)));
            match (next, stretch.until) {
                (Some(next), until) if until.is_none_or(|until| next < until) => {
                    self.now = next;
                    let (number, crowd) = stretch.crowd?;
                    return (self.dice.random::<f64>() * rate < crowd).then_some(number);
                }
                (_, Some(until)) => self.now = until,
                // No rate and no end of it: nothing will ever come; rates are checked to be above 0, time still goes on.
                (_, None) => self.now += Duration::from_secs(3600),
            }
        }
    }

    fn act(&mut self, crowd: Option<u64>, time: EventTime) -> Act {
        let id = self.id(time);
        if let Some(number) = crowd {
            let visit = self.visit();
            let item = Self::crowd_item(&self.settings, number);
            let deed = if self.dice.random_bool(0.05) { Deed::Commit } else { Deed::Look };
            return Self::done(id, visit, deed, item, time, 1);
        }
        let place = self.dice.random_range(0..self.visits.len());
        let mut visit = self.visits[place];
        let turn: f64 = self.dice.random();
        let deed = if visit.basket && turn < 0.25 {
            visit.basket = false;
            Deed::Commit
        } else if turn > 0.88 {
            visit.basket = true;
            Deed::Engage
        } else {
            visit.item = self.item();
            Deed::Look
        };
        let quantity = self.dice.random_range(1..=3);
        let act = Self::done(id, visit, deed, visit.item, time, quantity);
        self.visits[place] =
            if self.dice.random::<f64>() < 1.0 / VISIT_EVENTS { self.visit() } else { visit };
        act
    }

    fn done(id: String, visit: Visit, deed: Deed, item: u64, time: EventTime, quantity: u32) -> Act {
        let Visit { user, session, device, country, .. } = visit;
        Act { id, deed, user, session, item, time: time.0, quantity, device, country }
    }

    /// A UUIDv7 whose random bits come from the seed.
    fn id(&mut self, time: EventTime) -> String {
        let mut bits = [0; 10];
        self.dice.fill_bytes(&mut bits);
        let ms = u64::try_from(time.0).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(ms, &bits).into_uuid().to_string()
    }

    /// Something no collector may accept; different each time.
    fn invalid(&mut self, act: &Act) -> (String, bool) {
        let id = &act.id;
        let user = act.user;
        match self.dice.random_range(0..5) {
            0 => (format!(r#"{{"event_id":"{id}","user_id":"u-{user}","time":{}}}"#, act.time), false),
            1 => {
                let tomorrow = Act { time: act.time + 86_400_000, ..act.clone() };
                (tomorrow.render(self.settings.shape), false)
            }
            2 => (format!("\"not an object: {id}\""), false),
            3 => (format!("[\"{id}\", {user}]"), false),
            _ => (format!(r#"{{"event_id":"{id}","type":"view","user_id":"u-{user}""#), true),
        }
    }
}

impl Iterator for Shoppers {
    type Item = Planned;

    fn next(&mut self) -> Option<Planned> {
        let crowd = self.arrive();
        let at = self.now;
        let Faults { duplicates, invalid, disorder } = self.settings.faults;
        let chance: f64 = self.dice.random();
        while self.recent.front().is_some_and(|old| old.at + REPEAT_WITHIN < at) {
            self.recent.pop_front();
        }
        if chance < duplicates && !self.recent.is_empty() {
            let again = self.recent[self.dice.random_range(0..self.recent.len())].clone();
            return Some(Planned { at, kind: Kind::Duplicate, ..again });
        }
        let mut time = self.settings.start.plus(at);
        if !disorder.is_zero() && crowd.is_none() && self.dice.random_bool(0.5) {
            time = EventTime(time.0 - self.dice.random_range(0..=millis(disorder)));
        }
        let act = self.act(crowd, time);
        if (duplicates..duplicates + invalid).contains(&chance) {
            let (body, breaks_json) = self.invalid(&act);
            return Some(Planned {
                at,
                kind: Kind::Invalid { breaks_json },
                body,
                time,
                crowd: None,
                about: None,
            });
        }
        let (body, about) = (act.render(self.settings.shape), Some((act.deed, act.item)));
        let planned = Planned { at, kind: Kind::Fresh, body, time, crowd, about };
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
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    fn settings() -> Settings {
        Settings {
            seed: 7,
            start: EventTime(1_700_000_000_000),
            users: 1_000,
            items: 400,
            skew: 1.0,
            profile: Profile::steady(500.0),
            shape: Shape::Shop,
            faults: Faults::default(),
        }
    }

    fn field<'a>(event: &'a serde_json::Value, name: &str) -> &'a str {
        event[name].as_str().unwrap()
    }

    fn json(planned: &Planned) -> serde_json::Value {
        serde_json::from_str(&planned.body).unwrap()
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
        let faults = Faults { duplicates: 0.05, invalid: 0.02, disorder: Duration::from_secs(20) };
        let one: Vec<_> = Shoppers::new(Settings { faults, ..settings() }).take(5_000).collect();
        let two: Vec<_> = Shoppers::new(Settings { faults, ..settings() }).take(5_000).collect();
        assert_eq!(one, two);
        let other: Vec<_> = Shoppers::new(Settings { faults, seed: 8, ..settings() }).take(5_000).collect();
        assert_ne!(one, other);
    }

    #[test]
    fn events_come_at_the_rate_and_never_back_in_time() {
        let events: Vec<_> = Shoppers::new(settings()).take(20_000).collect();
        assert!(events.is_sorted_by_key(|event| event.at));
        let rate = 20_000.0 / events.last().unwrap().at.as_secs_f64();
        assert!((480.0..520.0).contains(&rate), "{rate}");
    }

    #[test]
    fn ids_are_unique_and_the_first_items_are_the_popular_ones() {
        let mut ids = HashSet::new();
        let mut views: HashMap<String, u32> = HashMap::new();
        let mut types: HashMap<String, u32> = HashMap::new();
        for event in Shoppers::new(settings()).take(20_000).map(|planned| json(&planned)) {
            assert!(ids.insert(field(&event, "event_id").to_owned()));
            *views.entry(field(&event, "product_id").to_owned()).or_default() += 1;
            *types.entry(field(&event, "event").to_owned()).or_default() += 1;
        }
        // Zipf with exponent 1 over 400 items: the first has 1/H(400) = 15 %.
        assert!((2_600..3_500).contains(&views["product-1"]), "{}", views["product-1"]);
        assert!(views["product-2"] < views["product-1"]);
        assert!(types["view_product"] > types["add_to_cart"] && types["add_to_cart"] > types["purchase"]);
        assert!(types["purchase"] > 100);
    }

    #[test]
    fn faults_come_in_the_shares_asked_for() {
        let faults = Faults { duplicates: 0.05, invalid: 0.02, disorder: Duration::from_secs(20) };
        let settings = Settings { faults, ..settings() };
        let events: Vec<_> = Shoppers::new(settings).take(50_000).collect();
        let mut sent = HashSet::new();
        let (mut duplicates, mut invalid, mut late) = (0, 0, 0);
        for event in &events {
            match event.kind {
                Kind::Duplicate => {
                    duplicates += 1;
                    assert!(sent.contains(&event.body), "a duplicate has come before");
                }
                Kind::Invalid { breaks_json } => {
                    invalid += 1;
                    let parsed = serde_json::from_str::<serde_json::Value>(&event.body);
                    assert_eq!(parsed.is_err(), breaks_json, "{}", event.body);
                    assert!(sent.insert(event.body.clone()), "raw bytes of invalid events are told apart");
                }
                Kind::Fresh => {
                    assert!(sent.insert(event.body.clone()));
                    let behind = settings.start.plus(event.at).since(event.time);
                    assert!(behind <= faults.disorder);
                    late += u32::from(behind > Duration::from_secs(1));
                }
            }
        }
        assert!((2_300..2_700).contains(&duplicates), "{duplicates}");
        assert!((900..1_100).contains(&invalid), "{invalid}");
        assert!(late > 20_000, "{late}");
    }

    #[test]
    fn a_crowd_is_about_one_item_and_only_in_its_time() {
        let crowds = Crowds {
            first: Duration::from_secs(10),
            every: Duration::from_secs(30),
            length: Duration::from_secs(5),
            rate: 200.0,
        };
        let profile = Profile { kind: ProfileKind::Flash, crowds, ..Profile::steady(100.0) };
        let settings = Settings { profile, ..settings() };
        let crowd: Vec<_> = Shoppers::new(settings)
            .take_while(|event| event.at < Duration::from_secs(30))
            .filter(|event| event.crowd == Some(0))
            .collect();
        assert!((850..1_150).contains(&crowd.len()), "{}", crowd.len());
        for event in crowd {
            assert!((10.0..15.0).contains(&event.at.as_secs_f64()));
            assert_eq!(field(&json(&event), "product_id"), Shoppers::crowd_key(&settings, 0));
        }
    }
}
