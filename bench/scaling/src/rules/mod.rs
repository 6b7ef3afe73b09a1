//! Rules that scale a stage.

mod fixed;
mod flink;
mod herd;
mod keda;
mod numaflow;
mod oracle;

pub use fixed::Fixed;
pub use flink::Flink;
pub use herd::Herd;
pub use keda::Keda;
pub use numaflow::Numaflow;
pub use oracle::Oracle;

use crate::stage::Look;
use crate::trace::Trace;

/// A rule that scales a stage.
pub trait Rule {
    /// Called every second; how many replicas to ask for, where it has an opinion.
    fn replicas(&mut self, look: &Look) -> Option<u32>;

    /// Why it last changed something.
    fn says(&self) -> String {
        String::new()
    }
}

/// Makes a rule for a load.
pub type Make = fn(&Trace) -> Box<dyn Rule>;

/// Every rule, by name: the oracle first, then ours.
pub const ALL: [(&str, Make); 11] = [
    ("oracle", |trace| Box::new(Oracle::new(trace))),
    ("herd", |trace| Box::new(Herd::new(trace))),
    ("herd, tuned", |trace| Box::new(Herd::tuned(trace))),
    ("keda", |trace| Box::new(Keda::new(trace))),
    ("keda, tuned", |trace| Box::new(Keda::tuned(trace))),
    ("numaflow", |trace| Box::new(Numaflow::new(trace))),
    ("numaflow, tuned", |trace| Box::new(Numaflow::tuned(trace))),
    ("flink", |trace| Box::new(Flink::new(trace))),
    ("flink, tuned", |trace| Box::new(Flink::tuned(trace))),
    ("min", |trace| Box::new(Fixed(trace.min.max(1)))),
    ("max", |trace| Box::new(Fixed(trace.max))),
];

/// Values with their time, as long as a window; and their mean.
#[derive(Debug)]
struct Window {
    seconds: u64,
    values: std::collections::VecDeque<(u64, f64)>,
}

impl Window {
    fn new(seconds: u64) -> Self {
        Self { seconds, values: std::collections::VecDeque::new() }
    }

    fn push(&mut self, now: u64, value: f64) {
        self.values.push_back((now, value));
        while self.values.front().is_some_and(|(at, _)| now - at > self.seconds) {
            self.values.pop_front();
        }
    }

    fn clear(&mut self) {
        self.values.clear();
    }

    fn full(&self) -> bool {
        match (self.values.front(), self.values.back()) {
            (Some((first, _)), Some((last, _))) => last - first >= self.seconds.saturating_sub(10),
            _ => false,
        }
    }

    fn mean(&self) -> f64 {
        self.values.iter().map(|(_, value)| value).sum::<f64>() / self.values.len().max(1) as f64
    }

    fn max(&self) -> f64 {
        self.values.iter().map(|(_, value)| *value).fold(0.0, f64::max)
    }

    /// Increase a second of a counter.
    fn rate(&self) -> f64 {
        match (self.values.front(), self.values.back()) {
            (Some((first, low)), Some((last, high))) if last > first => {
                (high - low).max(0.0) / (last - first) as f64
            }
            _ => 0.0,
        }
    }
}
