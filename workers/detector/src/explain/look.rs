//! One look through events, for all alerts that wait to be explained.

use std::collections::{HashMap, HashSet};

use compact_str::CompactString;
use herd_detection::explain::{self, Mix, Users};
use herd_spec::units::EventTime;
use herd_spec::wire::{Cause, EventRef, Explanation, FieldPath};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed, xxh3_128};

use super::{Question, summary};
use crate::extract::Fields;
use crate::metric::{Counted, contribution};

/// Events of the key itself in the reference from which on they are the usual ones; with fewer, those of the other keys are.
const ENOUGH: f64 = 30.0;

/// Counts the events of alerts, and usual ones, by their fields. It holds 16 bytes an event, for each alert its users and what [`Mix`]
/// holds, and for one about a whole metric the keys: bound the number of events.
#[derive(Debug)]
pub struct Look {
    answers: Vec<Answer>,
    /// Hashes of the ids of the events counted: an event may be in the log more than once.
    known: HashSet<u128, foldhash::fast::RandomState>,
}

#[derive(Debug)]
struct Answer {
    question: Question,
    alert: Mix,
    users: Users,
    /// Of an alert about the whole metric: events of its keys, now and usually.
    keys: Option<Keys>,
    own: Usual,
    others: Usual,
    /// Whether any event has a value of a field.
    has_values: bool,
}

/// Events of each key: those of the alert, and usual ones.
type Keys = HashMap<CompactString, [u64; 2], foldhash::fast::RandomState>;

/// Usual events, and how many of them a user makes of one key.
#[derive(Debug)]
struct Usual {
    mix: Mix,
    users: Users,
}

/// Where an event belongs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Alert,
    Own,
    Others,
}

impl Look {
    /// Nothing looked at yet.
    #[must_use]
    pub fn new(questions: Vec<Question>) -> Self {
        let answer = |question: Question| {
            let alert = Mix::new(question.fields.len());
            let usual = || Usual { mix: alert.clone(), users: Users::sample() };
            let (own, others) = (usual(), usual());
            let keys = question.is_of_all().then(Keys::default);
            let (users, has_values) = (Users::default(), false);
            Answer { alert, own, others, users, keys, question, has_values }
        };
        Self { answers: questions.into_iter().map(answer).collect(), known: HashSet::default() }
    }

    /// From when on events matter, in event time; none without a question.
    #[must_use]
    pub fn begin(&self) -> Option<EventTime> {
        self.answers.iter().map(|answer| answer.question.begin()).min()
    }

    /// How many events it counted.
    #[must_use]
    pub fn events(&self) -> usize {
        self.known.len()
    }

    /// Looks at an event.
    pub fn add(&mut self, event: &EventRef<'_>) {
        let is_wanted = |answer: &Answer| {
            let question = &answer.question;
            question.alert.contains(&event.time) || question.is_usual(event.time)
        };
        if !self.answers.iter().any(is_wanted) {
            return;
        }
        let id = xxh3_128(event.event_id.as_bytes());
        if !self.known.insert(id) {
            return;
        }
        let mut fields = Fields::of(event);
        let mut key = CompactString::default();
        for answer in self.answers.iter_mut().filter(|answer| is_wanted(answer)) {
            answer.add(event, id as u64, &mut fields, &mut key);
        }
    }

    /// The explanations, in the order of the questions: none where the alert had no event. `sampled`: whether older events were
    /// left out.
    #[must_use]
    pub fn finish(self, sampled: bool) -> Vec<Option<Explanation>> {
        self.answers.into_iter().map(|answer| answer.explanation(sampled)).collect()
    }
}

impl Answer {
    fn add(&mut self, event: &EventRef<'_>, hash: u64, fields: &mut Fields<'_>, key: &mut CompactString) {
        let question = &self.question;
        let is_of_all = question.is_of_all();
        let mut is_key = is_of_all;
        let counted = contribution(&question.metric, fields, key, |key, _, _| {
            is_key = is_of_all || key == question.key
        });
        let place = match (question.alert.contains(&event.time), is_key) {
            (true, true) => Place::Alert,
            // What is unusual now may be so of other keys too.
            (true, false) => return,
            (false, true) => Place::Own,
            (false, false) => Place::Others,
        };
        if counted != Counted::Yes {
            return;
        }
        let values: Vec<_> = question.fields.iter().map(|path| fields.get(path)).collect();
        let values: Vec<&str> =
            values.iter().map(|value| value.as_ref().map_or("", |scalar| scalar.text())).collect();
        self.has_values |= values.iter().any(|value| !value.is_empty());
        let user = fields.get(&FieldPath::UserId);
        let hash_of = |key: &str| {
            user.as_ref().map(|user| xxh3_64_with_seed(user.text().as_bytes(), xxh3_64(key.as_bytes())))
        };
        // What a user does with other keys does not matter: of each key it counts as another one.
        let user = hash_of(if is_of_all { "" } else { key });
        let mix = match place {
            Place::Alert => &mut self.alert,
            Place::Own => &mut self.own.mix,
            Place::Others => &mut self.others.mix,
        };
        mix.add(hash, user, &values);
        if let Some(keys) = &mut self.keys {
            keys.entry(key.clone()).or_default()[usize::from(place != Place::Alert)] += 1;
        }
        let users = match place {
            Place::Alert => &mut self.users,
            Place::Own => &mut self.own.users,
            Place::Others => &mut self.others.users,
        };
        user.into_iter().for_each(|user| users.add(user));
    }

    fn explanation(self, sampled: bool) -> Option<Explanation> {
        let Self { question, alert, users, keys, own, others, has_values } = self;
        if alert.events() <= 0.0 {
            return None;
        }
        let expected = question.expected(alert.events(), own.mix.events(), sampled);
        let usual = if own.mix.events() >= ENOUGH { &own } else { &others };
        // Without a single usual event everything would stand out.
        let is_known = usual.mix.events() > 0.0;
        let found = if is_known { explain::causes(&alert, &usual.mix, expected) } else { Vec::new() };
        let named = |(field, value): (usize, String)| Some((question.fields.get(field)?.to_string(), value));
        let causes: Vec<Cause> = found
            .into_iter()
            .map(|cause| Cause {
                values: cause.values.into_iter().filter_map(named).collect(),
                share: cause.share,
                usual: cause.usual,
            })
            .collect();
        let moved = keys.map(|keys| moved_most(&keys, expected)).unwrap_or_default();
        let people = summary::People { count: users.count(), few: users.few(&usual.users, expected) };
        let is_compared = is_known && has_values;
        Some(Explanation {
            until: question.alert.end,
            // Whole, and far below 2^53.
            events: alert.events() as u64,
            sampled,
            users: people.count,
            summary: summary::summary(&causes, is_compared, &moved, people),
            causes,
        })
    }
}

/// Keys named in an alert about a whole metric.
const MOVED: usize = 3;
/// The keys with most events more than expected, the most first.
#[allow(clippy::cast_precision_loss)] // far fewer events than 2^53
fn moved_most(keys: &Keys, expected: f64) -> Vec<(String, f64)> {
    let usual = keys.values().map(|[_, before]| before).sum::<u64>().max(1) as f64;
    let more = |(key, [now, before]): (&CompactString, &[u64; 2])| {
        (key.to_string(), *now as f64 - expected * *before as f64 / usual)
    };
    let mut moved: Vec<_> = keys.iter().map(more).filter(|(_, more)| *more >= 1.0).collect();
    moved.sort_by(|one, other| other.1.total_cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    moved.truncate(MOVED);
    moved
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use herd_spec::plan::Plan;
    use herd_spec::wire::Alert;
    use serde_json::json;

    const PIPELINE: &str = "
apiVersion: herd.dev/v1alpha1
kind: HerdPipeline
metadata: {name: shop}
spec:
  metrics: [{name: views, window: 10s}]
  detectors: [{name: herd, metric: views, explain: [country, device]}]
";
    const START: i64 = 1_700_000_000_000;

    /// An alert of a window with `count` events, four of them expected.
    fn question(key: &str, count: u64) -> Question {
        let plan = Plan::parse(&herd_spec::document::parse(PIPELINE).unwrap()).unwrap();
        let alert = json!({
            "v": 1, "id": "a", "pipeline": "shop", "detector": "herd", "metric": "views", "key": key, "severity": "warning",
            "state": "firing", "start": START, "size_ms": 10_000, "count": count, "value": count, "expected": 4.0, "spread": 2.0,
            "score": 9.0, "summary": ""
        });
        let alert: Alert = serde_json::from_value(alert).unwrap();
        Question::of(&alert, &plan.metrics[0], plan.detectors[0].explain.clone(), Duration::from_secs(900))
    }

    /// Records of events: 100 usual ones of each of two items, of Brazilians with the desktop and Germans with the phone, then a crowd of 40
    /// on the first item, of Brazilians with the phone.
    fn events(user: impl Fn(usize) -> usize) -> Vec<String> {
        let event = |id: usize, item: &str, time: i64, user: usize, from: (&str, &str)| {
            let (country, device) = from;
            json!({
                "v": 1, "event_id": format!("e{id}"), "type": "view", "user_id": format!("u{user}"), "item_id": item, "time": time,
                "received": time, "properties": {"country": country, "device": device}
            })
            .to_string()
        };
        let mut events = Vec::new();
        for id in 0..200 {
            let from = if id / 2 % 2 == 0 { ("BR", "desktop") } else { ("DE", "phone") };
            let time = START - 35_000 + id as i64 * 100;
            events.push(event(id, ["mug", "pot"][id % 2], time, id, from));
        }
        for id in 0..40 {
            events.push(event(1_000 + id, "mug", START + id as i64, 1_000 + user(id), ("BR", "phone")));
        }
        events
    }

    fn explained(questions: Vec<Question>, events: &[String]) -> Vec<Option<Explanation>> {
        let mut look = Look::new(questions);
        events.iter().for_each(|event| look.add(&EventRef::parse(event.as_bytes()).unwrap()));
        look.finish(false)
    }

    #[test]
    fn an_alert_is_explained_whatever_the_order_and_the_repetition_of_events() {
        let mut events = events(|id| id);
        let found = explained(vec![question("mug", 40)], &events)[0].clone().unwrap();
        assert_eq!(found.summary, "100 % of the excess from country BR and device phone; 40 people");
        assert_eq!((found.events, found.users, found.causes.len()), (40, 40, 1));
        assert_eq!(found.causes[0].usual, 0.0);
        events.reverse();
        events.extend(events.clone());
        assert_eq!(explained(vec![question("mug", 40)], &events), [Some(found)]);
    }

    #[test]
    fn another_crowd_shortly_before_is_not_what_is_usual() {
        let mut events = events(|id| id);
        // A larger crowd half a minute earlier.
        let earlier: Vec<String> = (0..800)
            .map(|number| {
                let event = &events[200 + number % 40];
                let mut event: serde_json::Value = serde_json::from_str(event).unwrap();
                event["event_id"] = format!("earlier-{number}").into();
                event["user_id"] = format!("earlier-{number}").into();
                event["time"] = (event["time"].as_i64().unwrap() - 30_000).into();
                event.to_string()
            })
            .collect();
        events.extend(earlier);
        let summary = |question| explained(vec![question], &events)[0].as_ref().unwrap().summary.clone();
        let explained = "100 % of the excess from country BR and device phone; 40 people";
        assert_ne!(summary(question("mug", 40)), explained);
        let time = |from: i64, to: i64| EventTime(START + from)..EventTime(START + to);
        let except = vec![time(-30_000, -20_000), time(-28_000, -19_000), time(-900_000, -800_000)];
        assert_eq!(summary(question("mug", 40).except(except)), explained);
    }

    #[test]
    fn a_key_without_events_before_is_compared_with_the_others() {
        let mut events = events(|id| id);
        let crowd = events.split_off(200);
        events.retain(|event| event.contains("pot"));
        events.extend(crowd.iter().map(|event| event.replace("\"mug\"", "\"new\"")));
        assert_eq!(events.len(), 140);
        let found = explained(vec![question("new", 40), question("none", 40)], &events);
        let summary = found[0].as_ref().map(|found| found.summary.as_str());
        assert_eq!(summary, Some("100 % of the excess from country BR and device phone; 40 people"));
        assert_eq!(found[1], None);
    }

    #[test]
    fn users_who_make_more_events_than_is_usual_of_a_key_look_automated() {
        let found = explained(vec![question("mug", 40)], &events(|id| id % 2));
        let found = found[0].as_ref().unwrap();
        assert!(found.summary.starts_with("2 users made 100 % of it: looks automated"), "{found:?}");
        assert_eq!(found.users, 2);
    }

    #[test]
    fn of_the_whole_metric_the_keys_that_grew_most_are_named() {
        let found = explained(vec![question(herd_spec::plan::ALL_KEY, 40)], &events(|id| id));
        assert!(found[0].as_ref().unwrap().summary.starts_with("most: mug (+38); "), "{found:?}");
    }
}
