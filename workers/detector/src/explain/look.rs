//! One look through events, for all alerts that wait to be explained.

use std::collections::HashSet;

use compact_str::CompactString;
use herd_detection::explain::{self, Mix, OTHER, Users};
use herd_spec::units::EventTime;
use herd_spec::wire::{Cause, EventRef, Explanation, FieldPath};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::{Question, summary};
use crate::extract::Fields;
use crate::metric::{Counted, contribution};

/// Events of the key itself in the reference from which on they are the usual ones; with fewer, those of the other keys are.
const ENOUGH: f64 = 30.0;

/// Counts the events of alerts, and usual ones, by their fields. It holds 16 bytes an event and what [`Mix`] holds: bound the
/// number of events.
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
    /// Of an alert about the whole metric: its keys, now and usually.
    keys: Option<(Mix, Mix)>,
    own: Mix,
    others: Mix,
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
            let mix = Mix::new(question.fields.len());
            let keys = question.is_of_all().then(|| (Mix::new(1), Mix::new(1)));
            let users = Users::default();
            Answer { alert: mix.clone(), own: mix.clone(), others: mix, users, keys, question }
        };
        Self { answers: questions.into_iter().map(answer).collect(), known: HashSet::default() }
    }

    /// From when on events matter, in event time; none without a question.
    #[must_use]
    pub fn begin(&self) -> Option<EventTime> {
        self.answers.iter().map(|answer| answer.question.begin()).min()
    }

    /// Looks at an event.
    pub fn add(&mut self, event: &EventRef<'_>) {
        let is_wanted = |answer: &Answer| {
            let question = &answer.question;
            question.alert.contains(&event.time) || question.reference.contains(&event.time)
        };
        if !self.answers.iter().any(is_wanted) || !self.known.insert(xxh3_128(event.event_id.as_bytes())) {
            return;
        }
        let mut fields = Fields::of(event);
        let mut key = CompactString::default();
        for answer in self.answers.iter_mut().filter(|answer| is_wanted(answer)) {
            answer.add(event, &mut fields, &mut key);
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
    fn add(&mut self, event: &EventRef<'_>, fields: &mut Fields<'_>, key: &mut CompactString) {
        let question = &self.question;
        let is_of_all = question.is_of_all();
        let mut is_key = is_of_all;
        let counted =
            contribution(&question.metric, fields, key, |key, _| is_key = is_of_all || key == question.key);
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
        let mix = match place {
            Place::Alert => &mut self.alert,
            Place::Own => &mut self.own,
            Place::Others => &mut self.others,
        };
        mix.add(&values);
        if let Some((now, usual)) = &mut self.keys {
            (if place == Place::Alert { now } else { usual }).add(&[key.as_str()]);
        }
        if let (Place::Alert, Some(user)) = (place, fields.get(&FieldPath::UserId)) {
            self.users.add(xxh3_64(user.text().as_bytes()));
        }
    }

    fn explanation(self, sampled: bool) -> Option<Explanation> {
        let Self { question, alert, users, keys, own, others } = self;
        if alert.events() <= 0.0 {
            return None;
        }
        let expected = question.expected(alert.events(), own.events(), sampled);
        let usual = if own.events() >= ENOUGH { &own } else { &others };
        // Without a single usual event everything would stand out.
        let found = if usual.events() > 0.0 { explain::causes(&alert, usual, expected) } else { Vec::new() };
        let named = |(field, value): (usize, String)| Some((question.fields.get(field)?.to_string(), value));
        let causes: Vec<Cause> = found
            .into_iter()
            .map(|cause| Cause {
                values: cause.values.into_iter().filter_map(named).collect(),
                share: cause.share,
                usual: cause.usual,
            })
            .collect();
        let moved = keys.map(|(now, usual)| moved_most(&now, &usual, expected)).unwrap_or_default();
        let users = summary::People { count: users.count(), few: users.few() };
        Some(Explanation {
            until: question.alert.end,
            // Whole, and far below 2^53.
            events: alert.events() as u64,
            sampled,
            users: users.count,
            summary: summary::summary(&causes, &moved, users),
            causes,
        })
    }
}

/// Keys named in an alert about a whole metric.
const MOVED: usize = 3;
/// The keys with most events more than expected, the most first.
fn moved_most(now: &Mix, usual: &Mix, expected: f64) -> Vec<(String, f64)> {
    let is_known =
        |(key, _): &(&str, f64)| *key != OTHER && (usual.share(0, key) > 0.0 || !usual.is_folded(0));
    let more = |(key, count): (&str, f64)| (key.to_owned(), count - expected * usual.share(0, key));
    let mut moved: Vec<_> =
        now.values(0).filter(is_known).map(more).filter(|(_, more)| *more >= 1.0).collect();
    moved.sort_by(|one, other| other.1.total_cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    moved.truncate(MOVED);
    moved
}
