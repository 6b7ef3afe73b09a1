//! Events, users, refused records and positions.

use std::collections::{BTreeMap, BTreeSet};

use super::{Checker, Finding, Kind, json};
use crate::plan::{DEAD, EVENTS};
use crate::scenario::Send;
use crate::tables::User;

/// A longer pause ends a user's session, in milliseconds.
const SESSION: i64 = 30 * 60_000;

impl Checker<'_> {
    /// Every accepted event is in the topic and in the store, once.
    pub(super) fn events(&mut self) {
        let ids: BTreeSet<String> = self.outcome.accepted.iter().map(|event| event.id.clone()).collect();
        let written: BTreeSet<String> = self
            .topic(EVENTS)
            .iter()
            .filter_map(|record| Some(json(record)?["event_id"].as_str()?.to_owned()))
            .collect();
        for id in ids.difference(&written).take(3) {
            self.find(
                Kind::LostWrite,
                format!("event {id} was acknowledged and is not in the topic"),
                vec![],
            );
        }
        let stored: BTreeSet<String> = self.outcome.database.events.keys().cloned().collect();
        for id in ids.difference(&stored).take(3) {
            self.find(Kind::LostWrite, format!("event {id} is not in the store"), self.members());
        }
        for id in stored.difference(&written).take(3) {
            self.find(Kind::Invented, format!("event {id} in the store"), vec![]);
        }
        let sent: BTreeSet<&str> = self.scenario.sends.iter().filter_map(Send::id).collect();
        if let Some(id) = sent.iter().find(|id| !ids.contains(**id)) {
            self.find(Kind::Unseen, format!("event {id} was never accepted"), self.members());
        }
    }

    /// What is known of users is what their events say, each counted once.
    pub(super) fn users(&mut self) {
        let Some(mut stored) = self.outcome.database.users.clone() else { return };
        let mut events: BTreeMap<&str, BTreeSet<(i64, &str, bool, i64)>> = BTreeMap::new();
        for event in &self.outcome.accepted {
            let of_user = events.entry(&event.user).or_default();
            of_user.insert((event.time, &event.id, event.purchase, event.cents));
        }
        let mut differences = Vec::new();
        for (user, events) in events {
            let times: Vec<i64> = events.iter().map(|(time, ..)| *time).collect();
            let paid = events.iter().filter(|(_, _, purchase, _)| *purchase);
            let expected = User {
                events: events.len() as i64,
                purchases: paid.clone().count() as i64,
                revenue_micros: paid.map(|(.., cents)| cents * 10_000).sum(),
                sessions: 1 + times.windows(2).filter(|pair| pair[1] - pair[0] > SESSION).count() as i64,
                first_seen: times[0],
                last_seen: times[times.len() - 1],
            };
            let found = stored.remove(user);
            if found.as_ref() != Some(&expected) {
                differences.push(format!("user {user} must be {expected:?}, is {found:?}"));
            }
        }
        differences.extend(stored.keys().map(|user| format!("user {user} sent nothing")));
        for difference in differences.into_iter().take(3) {
            self.find(Kind::Inconsistent, difference, self.members());
        }
    }

    /// Every refused body is kept, as often as a client was told so, but for retries; and every record that is no event.
    pub(super) fn dead_letters(&mut self) {
        let mut bodies: BTreeMap<String, usize> = BTreeMap::new();
        let mut places: BTreeSet<String> = BTreeSet::new();
        for letter in self.topic(DEAD) {
            let header = |name: &str| {
                let found = letter.headers.iter().find(|(known, _)| known == name);
                found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
            };
            match header("__connect.errors.offset") {
                Some(offset) => {
                    places.insert(format!(
                        "{}/{offset}",
                        header("__connect.errors.partition").unwrap_or_default()
                    ));
                }
                None => {
                    let body =
                        String::from_utf8_lossy(letter.value.as_deref().unwrap_or_default()).into_owned();
                    *bodies.entry(body).or_default() += 1;
                }
            }
        }
        for body in &self.outcome.refused {
            if !bodies.contains_key(body) {
                let what = format!("the refused {body} is not among the dead letters");
                self.findings.push(Finding::new(Kind::LostWrite, what, vec![]));
            }
        }
        let poison: BTreeSet<String> = self
            .topic(EVENTS)
            .iter()
            .filter(|record| json(record).is_none())
            .map(|record| format!("{}/{}", record.partition, record.offset))
            .collect();
        for place in poison.difference(&places) {
            let what = format!("the record at {place} is no event, and not among the dead letters");
            self.findings.push(Finding::new(Kind::LostWrite, what, vec![]));
        }
        for place in places.difference(&poison) {
            let what = format!("a dead letter from {place}, which is an event");
            self.findings.push(Finding::new(Kind::Invented, what, vec![]));
        }
    }

    pub(super) fn offsets(&mut self) {
        let jumps: Vec<String> = self.outcome.database.jumps.iter().take(2).cloned().collect();
        for jump in jumps {
            self.find(Kind::InconsistentOffset, format!("the stored position went {jump}"), self.members());
        }
        let failures = self.outcome.failures.clone();
        for failure in failures.into_iter().take(2) {
            self.find(Kind::Stopped, failure, self.members());
        }
    }
}
