//! What is sent: every item follows from (seed, number), so that nothing need be kept to know what it was.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// Different users.
pub(crate) const USERS: u32 = 20_000;
/// How far behind the clock an event's own time may be.
pub(crate) const DISORDER_MS: u64 = 5_000;
/// Different items; few of them get most of the events.
const ITEMS: f64 = 300.0;

/// A valid event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) time: i64,
    pub(crate) user: u32,
    pub(crate) item: u32,
    pub(crate) cents: i64,
    pub(crate) purchase: bool,
}

pub(crate) struct Script {
    pub(crate) seed: u64,
    /// Event time of number 0, in milliseconds since 1970.
    pub(crate) start: i64,
    /// Numbers a second.
    pub(crate) rate: u64,
    /// Share of the events that are of one item.
    pub(crate) hot: f64,
}

impl Script {
    /// Numbers of one request.
    pub(crate) fn batch_size(&self) -> u64 {
        (self.rate / 20).clamp(20, 1000)
    }

    /// When a batch is due, in milliseconds after the start: when its last event has happened.
    pub(crate) fn due_ms(&self, batch: u64) -> u64 {
        (batch + 1) * self.batch_size() * 1000 / self.rate
    }

    /// The numbers that a batch sends, in order: 5 % come twice, half of these with the next batch.
    pub(crate) fn batch(&self, batch: u64) -> Vec<u64> {
        let size = self.batch_size();
        let mut numbers: Vec<u64> = Vec::with_capacity(usize::try_from(size).unwrap() * 11 / 10);
        if batch > 0 {
            numbers.extend(((batch - 1) * size..batch * size).filter(|n| self.twice(*n) == Twice::Later));
        }
        for n in batch * size..(batch + 1) * size {
            numbers.push(n);
            if self.twice(n) == Twice::AtOnce {
                numbers.push(n);
            }
        }
        numbers
    }

    /// The event of a number; none if it is one of the 2 % that are invalid.
    pub(crate) fn event(&self, n: u64) -> Option<Event> {
        let mut random = self.random(n, 1);
        if random.random_bool(0.02) {
            return None;
        }
        let nominal = self.start + i64::try_from(n * 1000 / self.rate).unwrap();
        let behind = i64::try_from(random.random_range(0..DISORDER_MS)).unwrap();
        Some(Event {
            time: nominal - behind,
            user: random.random_range(0..USERS),
            item: if random.random_bool(self.hot) { 0 } else { zipf(&mut random) },
            cents: random.random_range(100..10_000),
            purchase: random.random_bool(0.1),
        })
    }

    /// The bytes of a number's item.
    pub(crate) fn raw(&self, n: u64) -> String {
        let seed = self.seed;
        let Some(event) = self.event(n) else { return self.broken(n) };
        let Event { time, user, item, cents, purchase } = event;
        let kind = if purchase { "purchase" } else { "view" };
        let (whole, rest) = (cents / 100, cents % 100);
        format!(
            r#"{{"event_id":"e-{seed}-{n}","type":"{kind}","user_id":"u-{user}","item_id":"item-{item}","time":{time},"price":{whole}.{rest:02}}}"#
        )
    }

    /// The number that bytes of [`Script::raw`], or an id in them, belong to.
    pub(crate) fn number(&self, text: &str) -> Option<u64> {
        let digits = |prefix: &str| {
            let from = text.find(prefix)? + prefix.len();
            let digits: String = text[from..].chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        };
        digits(&format!("e-{}-", self.seed)).or_else(|| digits(&format!("bad-{}-", self.seed)))
    }

    /// One of the ways in which events are wrong.
    fn broken(&self, n: u64) -> String {
        let (seed, time) = (self.seed, self.start);
        match n % 5 {
            0 => format!(r#"{{"event_id":"bad-{seed}-{n}","user_id":"u-1","item_id":"i","time":{time}}}"#),
            1 => {
                format!(r#"{{"event_id":"bad-{seed}-{n}","type":"view","user_id":"u-1","time":"yesterday"}}"#)
            }
            2 => {
                format!(r#"{{"event_id":"bad-{seed}-{n}","type":"nonsense","user_id":"u-1","time":{time}}}"#)
            }
            3 => format!(
                r#"{{"event_id":"bad-{seed}-{n}","type":"view","user_id":"u-1","time":4102444800000}}"#
            ),
            _ => format!(r#""just a string, bad-{seed}-{n}""#),
        }
    }

    fn twice(&self, n: u64) -> Twice {
        match self.random(n, 2).random_range(0..40) {
            0 => Twice::AtOnce,
            1 => Twice::Later,
            _ => Twice::No,
        }
    }

    fn random(&self, n: u64, purpose: u64) -> SmallRng {
        SmallRng::seed_from_u64(self.seed ^ (n * 4 + purpose).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }
}

#[derive(PartialEq)]
enum Twice {
    No,
    AtOnce,
    Later,
}

/// Few items get most of the events.
fn zipf(random: &mut SmallRng) -> u32 {
    let spread: f64 = random.random_range(0.0..1.0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // from 1 to 300
    let rank = ITEMS.powf(spread) as u32;
    rank
}
