//! Makes a failing scenario smaller: fewer faults, milder ones, fewer events, as long as it still fails in the same way.

use crate::scenario::Scenario;
use herd_bus::simulated::Sending;

/// Runs that may be spent on it.
const TRIES: usize = 250;

/// The smallest found for which `fails` holds.
pub(crate) fn shrink(scenario: &Scenario, fails: impl Fn(&Scenario) -> bool) -> Scenario {
    let mut best = scenario.clone();
    let mut tries = TRIES;
    let mut attempt = |best: &mut Scenario, smaller: Scenario| {
        tries = tries.saturating_sub(1);
        let holds = tries > 0 && fails(&smaller);
        if holds {
            *best = smaller;
        }
        holds
    };
    for calmer in calmer() {
        let mut smaller = best.clone();
        calmer(&mut smaller);
        attempt(&mut best, smaller);
    }
    let mut chunk = best.faults.len();
    while chunk > 0 {
        let mut from = 0;
        while from < best.faults.len() {
            let mut smaller = best.clone();
            smaller.faults.drain(from..best.faults.len().min(from + chunk));
            if !attempt(&mut best, smaller) {
                from += chunk;
            }
        }
        chunk /= 2;
    }
    let mut chunk = best.sends.len() / 2;
    while chunk > 0 && best.sends.len() > 1 {
        let mut from = 0;
        while from < best.sends.len() {
            let mut smaller = best.clone();
            smaller.sends.drain(from..best.sends.len().min(from + chunk));
            if !attempt(&mut best, smaller) {
                from += chunk;
            }
        }
        chunk /= 2;
    }
    best
}

/// Ways to take one kind of trouble out.
fn calmer() -> Vec<fn(&mut Scenario)> {
    fn sending(scenario: &mut Scenario, change: impl Fn(&mut Sending)) {
        change(&mut scenario.fault_schedule.sending);
        scenario.fault_schedule.topics.values_mut().for_each(change);
    }
    vec![
        |s| sending(s, |sending| *sending = Sending::default()),
        |s| s.store = 0.0,
        |s| s.sqlite = false,
        |s| s.fault_schedule.dry = 0.0,
        |s| s.fault_schedule.partial = 0.0,
        |s| s.fault_schedule.unanswered = 0.0,
        |s| s.faults.clear(),
        |s| sending(s, |sending| sending.late = 0.0),
        |s| sending(s, |sending| sending.late_ack = 0.0),
        |s| sending(s, |sending| sending.lost_ack = 0.0),
        |s| sending(s, |sending| sending.unwritten = 0.0),
        |s| sending(s, |sending| sending.doubled = 0.0),
        |s| sending(s, |sending| sending.full = 0.0),
        |s| s.members = [1, 1, 1],
        |s| s.judges = 1,
    ]
}
