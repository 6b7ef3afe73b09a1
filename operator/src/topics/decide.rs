//! Compares the topics of a plan with those of Kafka, and decides what to change. Pure.

use std::collections::BTreeMap;

use herd_bus::kafka::TopicFacts;
use herd_spec::plan::{TopicPlan, Topics};

/// A change of topics in Kafka.
#[derive(Clone, Debug, PartialEq)]
pub enum TopicChange {
    /// Create a topic.
    Create(TopicPlan),
    /// Add partitions.
    Grow {
        /// Its name.
        topic: String,
        /// The new number of partitions.
        partitions: u32,
    },
    /// Set settings.
    Configure {
        /// Its name.
        topic: String,
        /// By Kafka's names of the settings.
        config: BTreeMap<String, String>,
    },
}

/// The changes to make, and the differences that remain.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TopicDecision {
    /// In this order.
    pub changes: Vec<TopicChange>,
    /// Differences from the spec that remain, each with its reason.
    pub notes: Vec<String>,
    /// Why the topics cannot be used, and what to do.
    pub blocked: Option<String>,
}

/// Decides how to give Kafka these topics. Partitions are only added, and only to `events` and `dead-letter`: records of the other
/// topics are partitioned by the hash of a key, which depends on the number of partitions.
#[must_use]
pub fn decide(wanted: &Topics, facts: &BTreeMap<String, TopicFacts>) -> TopicDecision {
    let mut decision = TopicDecision::default();
    let judged = [&wanted.parts, &wanted.baselines, &wanted.windows, &wanted.alerts];
    let had =
        [&wanted.parts, &wanted.baselines].map(|topic| facts.get(&topic.name).map(|facts| facts.partitions));
    if let [Some(parts), Some(baselines)] = had
        && parts != baselines
    {
        decision.blocked = Some(format!(
            "{} has {parts} partitions, but {} has {baselines}, and both must have the same number: delete both topics, or create a pipeline with another name and another `topicPrefix`",
            wanted.parts.name, wanted.baselines.name
        ));
        return decision;
    }
    // If one of the two was deleted, it is created again with the partitions of the other.
    let judge_partitions = had.into_iter().flatten().next().unwrap_or(wanted.parts.partitions);
    for topic in wanted.all() {
        let is_judged = judged.iter().any(|judged| judged.name == topic.name);
        match facts.get(&topic.name) {
            None => {
                let partitions = if is_judged { judge_partitions } else { topic.partitions };
                decision.changes.push(TopicChange::Create(TopicPlan { partitions, ..topic.clone() }));
            }
            Some(facts) => decision.compare(topic, facts, is_judged),
        }
    }
    decision
}

impl TopicDecision {
    fn compare(&mut self, topic: &TopicPlan, facts: &TopicFacts, fixed: bool) {
        let TopicPlan { name, partitions, replication, config } = topic;
        if facts.partitions < *partitions && !fixed {
            self.changes.push(TopicChange::Grow { topic: name.clone(), partitions: *partitions });
        } else if facts.partitions != *partitions {
            let why = if fixed { "the number is fixed at creation" } else { "partitions cannot be removed" };
            self.notes
                .push(format!("{name} keeps {} partitions instead of {partitions}: {why}", facts.partitions));
        }
        if facts.replication != u32::from(*replication) {
            self.notes.push(format!(
                "{name} has replication factor {} instead of {replication}: change it with kafka-reassign-partitions",
                facts.replication
            ));
        }
        let differing = config.iter().filter(|(key, value)| facts.config.get(*key) != Some(value));
        let differing: BTreeMap<String, String> =
            differing.map(|(key, value)| (key.clone(), value.clone())).collect();
        if !differing.is_empty() {
            self.changes.push(TopicChange::Configure { topic: name.clone(), config: differing });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str, partitions: u32) -> TopicPlan {
        let config = BTreeMap::from([("retention.ms".to_owned(), "1000".to_owned())]);
        TopicPlan { name: name.into(), partitions, replication: 1, config }
    }

    fn topics(events: u32, judges: u32) -> Topics {
        Topics {
            events: topic("events", events),
            parts: topic("parts", judges),
            windows: topic("windows", judges),
            alerts: topic("alerts", judges),
            dead_letter: topic("dead-letter", 1),
            baselines: topic("baselines", judges),
        }
    }

    /// Kafka after these topics were created.
    fn created(topics: &Topics) -> BTreeMap<String, TopicFacts> {
        let facts = |topic: &TopicPlan| TopicFacts {
            partitions: topic.partitions,
            replication: topic.replication.into(),
            config: topic.config.clone(),
        };
        topics.all().into_iter().map(|topic| (topic.name.clone(), facts(topic))).collect()
    }

    #[test]
    fn creates_all_six_topics_in_an_empty_cluster() {
        let decision = decide(&topics(6, 3), &BTreeMap::new());
        let created = topics(6, 3).all().map(|topic| TopicChange::Create(topic.clone()));
        assert_eq!(decision, TopicDecision { changes: created.into(), ..TopicDecision::default() });
    }

    #[test]
    fn changes_nothing_when_topics_match_the_plan() {
        assert_eq!(decide(&topics(6, 3), &created(&topics(6, 3))), TopicDecision::default());
    }

    #[test]
    fn adds_partitions_to_events_and_keeps_those_of_judge_topics() {
        let decision = decide(&topics(12, 12), &created(&topics(6, 6)));
        assert_eq!(decision.changes, [TopicChange::Grow { topic: "events".into(), partitions: 12 }]);
        assert_eq!(decision.notes.len(), 4, "{:?}", decision.notes);
        assert!(decision.notes[0].contains("parts keeps 6 partitions instead of 12"), "{:?}", decision.notes);
    }

    #[test]
    fn never_removes_partitions() {
        let decision = decide(&topics(3, 3), &created(&topics(6, 3)));
        assert_eq!(decision.changes, []);
        assert!(decision.notes[0].contains("cannot be removed"), "{:?}", decision.notes);
    }

    #[test]
    fn sets_settings_that_differ() {
        let mut kafka = created(&topics(6, 3));
        kafka.get_mut("events").unwrap().config.insert("retention.ms".into(), "5".into());
        let config = BTreeMap::from([("retention.ms".to_owned(), "1000".to_owned())]);
        assert_eq!(
            decide(&topics(6, 3), &kafka).changes,
            [TopicChange::Configure { topic: "events".into(), config }]
        );
    }

    #[test]
    fn creates_deleted_baselines_with_the_partitions_of_parts() {
        let mut kafka = created(&topics(6, 3));
        kafka.remove("baselines");
        let decision = decide(&topics(6, 6), &kafka);
        assert_eq!(decision.changes, [TopicChange::Create(topic("baselines", 3))]);
    }

    #[test]
    fn blocks_when_parts_and_baselines_have_different_partitions() {
        let mut kafka = created(&topics(6, 3));
        kafka.get_mut("baselines").unwrap().partitions = 4;
        assert!(decide(&topics(6, 3), &kafka).blocked.unwrap().contains("same number"));
    }
}
