//! When keys were out of their usual range lately: the events of such a time are not what is usual.

use std::collections::HashMap;
use std::ops::Range;

use herd_spec::units::EventTime;
use herd_spec::wire::{Alert, AlertId, AlertState};

use super::question::{LONGEST_REFERENCE, time_of};

/// Keys of which episodes are known at once; of more, those with the oldest are forgotten.
const KEYS_MAX: usize = 10_000;

/// The alerts of a key, each with its time.
type Times = Vec<(AlertId, Range<EventTime>)>;

/// The times of the alerts of each key, as far back as an explanation looks.
#[derive(Debug, Default)]
pub struct Episodes {
    /// By metric and key.
    of_key: HashMap<(String, String), Times>,
}

impl Episodes {
    /// Takes in a record of an alert; the longest time of an alert counts.
    pub fn note(&mut self, alert: &Alert) {
        let time = time_of(alert);
        let of_key = (alert.metric.clone(), alert.key.clone());
        if alert.state == AlertState::Withdrawn {
            if let Some(times) = self.of_key.get_mut(&of_key) {
                times.retain(|(id, _)| *id != alert.id);
            }
            return;
        }
        let of_key = self.of_key.entry(of_key).or_default();
        match of_key.iter_mut().find(|(id, _)| *id == alert.id).map(|(_, time)| time) {
            Some(known) => *known = known.start.min(time.start)..known.end.max(time.end),
            None => of_key.push((alert.id.clone(), time.clone())),
        }
        let begin = time.start.minus(LONGEST_REFERENCE);
        of_key.retain(|(_, time)| time.end > begin);
        if self.of_key.len() > KEYS_MAX {
            self.of_key.retain(|_, times| times.iter().any(|(_, time)| time.end > begin));
            while self.of_key.len() > KEYS_MAX {
                let newest = |times: &Times| times.iter().map(|(_, time)| time.end).max();
                let oldest = self.of_key.iter().min_by_key(|(_, times)| newest(times));
                let Some(oldest) = oldest.map(|(key, _)| key.clone()) else { break };
                self.of_key.remove(&oldest);
            }
        }
    }

    /// The times of the other alerts of the same key.
    pub fn others(&self, alert: &Alert) -> Vec<Range<EventTime>> {
        let of_key = self.of_key.get(&(alert.metric.clone(), alert.key.clone()));
        let others = of_key.into_iter().flatten().filter(|(id, _)| *id != alert.id);
        others.map(|(_, time)| time.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn alert(id: &str, key: &str, start: i64, until: i64, state: &str) -> Alert {
        let alert = json!({
            "v": 1, "id": id, "pipeline": "shop", "detector": "herd", "metric": "views", "key": key, "severity": "warning",
            "state": state, "start": start, "size_ms": 10_000, "count": 9, "value": 9.0, "expected": 1.0, "spread": 1.0, "score": 9.0,
            "summary": "", "episode": {"since": start, "until": until, "peak": 9.0, "peak_start": start, "excess": 8.0}
        });
        serde_json::from_value(alert).unwrap()
    }

    fn times(episodes: &Episodes, key: &str) -> Vec<(i64, i64)> {
        let times = episodes.others(&alert("new", key, 2_000_000, 2_010_000, "firing"));
        times.iter().map(|time| (time.start.0, time.end.0)).collect()
    }

    #[test]
    fn the_longest_time_of_each_other_alert_of_the_key_is_known() {
        let mut episodes = Episodes::default();
        for (id, key, start, until, state) in [
            ("a", "mug", 1_500_000, 1_540_000, "resolved"),
            ("a", "mug", 1_500_000, 1_510_000, "firing"),
            ("b", "mug", 1_600_000, 1_610_000, "early"),
            ("b", "mug", 1_600_000, 1_610_000, "withdrawn"),
            ("c", "pot", 1_700_000, 1_710_000, "firing"),
            ("new", "mug", 2_000_000, 2_010_000, "firing"),
        ] {
            episodes.note(&alert(id, key, start, until, state));
        }
        assert_eq!(times(&episodes, "mug"), [(1_500_000, 1_540_000)]);
        assert_eq!(times(&episodes, "pot"), [(1_700_000, 1_710_000)]);
        episodes.note(&alert("late", "mug", 2_500_000, 2_510_000, "firing"));
        assert_eq!(
            times(&episodes, "mug"),
            [(2_500_000, 2_510_000)],
            "what no reference reaches is forgotten"
        );
    }

    #[test]
    fn of_too_many_keys_those_with_the_newest_alerts_are_kept() {
        let mut episodes = Episodes::default();
        for key in 0..=KEYS_MAX {
            let start = 1_000_000 + i64::try_from(key).unwrap();
            episodes.note(&alert("a", &key.to_string(), start, start + 10_000, "firing"));
        }
        assert_eq!(episodes.of_key.len(), KEYS_MAX);
        assert_eq!(times(&episodes, "0"), []);
        assert_eq!(times(&episodes, "1").len(), 1);
    }
}
