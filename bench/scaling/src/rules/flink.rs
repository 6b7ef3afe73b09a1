//! The rule of Flink's autoscaler: lag/catch-up + input·restart/catch-up + input/utilisation, over the true rate of a task.
//!
//! Its formula on our stage: a change does not restart everything, as a Flink job's would, which is to its favour.
//! Parallelism goes up to the next divisor of the number of partitions, as its source vertices do.

use super::{Rule, Window};
use crate::stage::Look;
use crate::trace::Trace;

const UTILISATION: f64 = 0.7;
/// `scale-down.max-factor`.
const DOWN: f64 = 0.6;

/// Flink's rule.
pub struct Flink {
    window: u64,
    catch_up: f64,
    restart: f64,
    stabilisation: u64,
    down_interval: u64,
    partitions: u32,
    min: u32,
    max: u32,
    changed: u64,
    lowered: Option<u64>,
    input: Window,
    done: Window,
    busy: Window,
}

impl Flink {
    /// With its defaults: windows of 15 min, catch-up 30 min, restart 5 min, nothing for 5 min after a change, down once
    /// an hour.
    #[must_use]
    pub fn new(trace: &Trace) -> Self {
        Self::with(trace, 900, 1800.0, 300.0, 300, 3600)
    }

    /// As fast as ours: windows of 60 s, catch-up 60 s, restart 20 s, nothing for 30 s, down once in 5 min.
    #[must_use]
    pub fn tuned(trace: &Trace) -> Self {
        Self::with(trace, 60, 60.0, 20.0, 30, 300)
    }

    fn with(
        trace: &Trace,
        window: u64,
        catch_up: f64,
        restart: f64,
        stabilisation: u64,
        down_interval: u64,
    ) -> Self {
        Self {
            window,
            catch_up,
            restart,
            stabilisation,
            down_interval,
            partitions: trace.partitions(),
            // It cannot go to zero.
            min: trace.min.max(1),
            max: trace.max.min(trace.partitions()),
            changed: 0,
            lowered: None,
            input: Window::new(window),
            done: Window::new(window),
            busy: Window::new(window),
        }
    }
}

impl Rule for Flink {
    fn replicas(&mut self, look: &Look) -> Option<u32> {
        let now = look.now;
        if !now.is_multiple_of(10) || look.ready != look.wanted || !look.stable {
            return None;
        }
        let (lag, done) = look.lag().zip(look.committed())?;
        let (input, busy) = (look.ends()?, look.busy?);
        if now - self.changed < self.stabilisation.min(self.window) {
            return None;
        }
        self.input.push(now, input as f64);
        self.done.push(now, done as f64);
        self.busy.push(now, busy);
        if !self.input.full() || now - self.changed < self.stabilisation {
            return None;
        }
        let current = f64::from(look.wanted);
        let each = self.done.rate() / current / self.busy.mean().max(0.01);
        if each <= 0.0 {
            return None;
        }
        let input = self.input.rate();
        let catching_up = lag as f64 / self.catch_up;
        // The range in which it leaves a job alone: utilisation 0.4 to 1.0 by what comes in and waits.
        let load = (input + catching_up) / (each * current);
        if (0.4..=1.0).contains(&load) {
            return None;
        }
        let rate = input / UTILISATION + catching_up + input * self.restart / self.catch_up;
        let wish = (rate / each).ceil().clamp(f64::from(self.min), f64::from(self.max));
        let wish = if wish < current { wish.max((current * (1.0 - DOWN)).ceil()) } else { wish } as u32;
        let divides = |count: &u32| self.partitions.is_multiple_of(*count);
        let wish = (wish..=self.max).find(divides).unwrap_or(self.max);
        if wish == look.wanted {
            return None;
        }
        if wish < look.wanted {
            if self.lowered.is_some_and(|at| now - at < self.down_interval) {
                return None;
            }
            self.lowered = Some(now);
        }
        self.changed = now;
        self.input.clear();
        self.done.clear();
        self.busy.clear();
        Some(wish)
    }
}
