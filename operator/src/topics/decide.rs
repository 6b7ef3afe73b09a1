//! From the topics of a plan and those of Kafka to what must be done. Pure.

use std::collections::BTreeMap;

use herd_bus::kafka::TopicFacts;
use herd_spec::plan::{TopicPlan, Topics};

/// Something to do in Kafka.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Make it.
    Create(TopicPlan),
    /// Give it more partitions.
    Grow {
        /// Its name.
        topic: String,
        /// How many it is to have.
        partitions: u32,
    },
    /// Set these settings.
    Configure {
        /// Its name.
        topic: String,
        /// By Kafka's names.
        config: BTreeMap<String, String>,
    },
}

/// What is to be done, and what is not as asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// In this order.
    pub steps: Vec<Step>,
    /// What stays different from the spec, with the reason.
    pub notes: Vec<String>,
    /// What makes the topics unusable, and what to do.
    pub blocked: Option<String>,
}

/// What must be done so that Kafka has these topics. Partitions are only ever added, and only to `events` and `dead-letter`:
/// the others were written by the hash of a key over as many partitions as they had from the start.
#[must_use]
pub fn decide(wanted: &Topics, facts: &BTreeMap<String, TopicFacts>) -> Decision {
    let mut decision = Decision::default();
    let judged = [&wanted.parts, &wanted.baselines, &wanted.windows, &wanted.alerts];
    let had =
        [&wanted.parts, &wanted.baselines].map(|topic| facts.get(&topic.name).map(|facts| facts.partitions));
    if let [Some(parts), Some(baselines)] = had
        && parts != baselines
    {
        decision.blocked = Some(format!(
            "{} has {parts} partitions and {} has {baselines}: they must have the same number, so delete both, or create a pipeline with another name and another `topicPrefix`",
            wanted.parts.name, wanted.baselines.name
        ));
        return decision;
    }
    // One of the two may have been lost: it comes back as the other is.
    let judges = had.into_iter().flatten().next().unwrap_or(wanted.parts.partitions);
    for topic in wanted.all() {
        let is_judged = judged.iter().any(|judged| judged.name == topic.name);
        match facts.get(&topic.name) {
            None => {
                let partitions = if is_judged { judges } else { topic.partitions };
                decision.steps.push(Step::Create(TopicPlan { partitions, ..topic.clone() }));
            }
            Some(facts) => decision.fit(topic, facts, is_judged),
        }
    }
    decision
}

impl Decision {
    fn fit(&mut self, topic: &TopicPlan, facts: &TopicFacts, fixed: bool) {
        let TopicPlan { name, partitions, replication, config } = topic;
        if facts.partitions < *partitions && !fixed {
            self.steps.push(Step::Grow { topic: name.clone(), partitions: *partitions });
        } else if facts.partitions != *partitions {
            let why =
                if fixed { "their number is fixed when it is created" } else { "they are never taken away" };
            self.notes.push(format!(
                "{name} keeps its {} partitions ({partitions} are asked for): {why}",
                facts.partitions
            ));
        }
        if facts.replication != u32::from(*replication) {
            self.notes.push(format!(
                "{name} has {} copies of each partition ({replication} are asked for): change that with kafka-reassign-partitions",
                facts.replication
            ));
        }
        let differing = config.iter().filter(|(key, value)| facts.config.get(*key) != Some(value));
        let differing: BTreeMap<String, String> =
            differing.map(|(key, value)| (key.clone(), value.clone())).collect();
        if !differing.is_empty() {
            self.steps.push(Step::Configure { topic: name.clone(), config: differing });
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

    /// Kafka after these topics were made.
    fn made(topics: &Topics) -> BTreeMap<String, TopicFacts> {
        let facts = |topic: &TopicPlan| TopicFacts {
            partitions: topic.partitions,
            replication: topic.replication.into(),
            config: topic.config.clone(),
        };
        topics.all().into_iter().map(|topic| (topic.name.clone(), facts(topic))).collect()
    }

    #[test]
    fn in_an_empty_kafka_all_six_are_made() {
        let decision = decide(&topics(6, 3), &BTreeMap::new());
        let made = topics(6, 3).all().map(|topic| Step::Create(topic.clone()));
        assert_eq!(decision, Decision { steps: made.into(), ..Decision::default() });
    }

    #[test]
    fn when_all_is_as_wanted_nothing_is_done() {
        assert_eq!(decide(&topics(6, 3), &made(&topics(6, 3))), Decision::default());
    }

    #[test]
    fn events_get_more_partitions_and_the_judged_topics_keep_theirs() {
        let decision = decide(&topics(12, 12), &made(&topics(6, 6)));
        assert_eq!(decision.steps, [Step::Grow { topic: "events".into(), partitions: 12 }]);
        assert_eq!(decision.notes.len(), 4, "{:?}", decision.notes);
        assert!(decision.notes[0].contains("parts keeps its 6 partitions"), "{:?}", decision.notes);
    }

    #[test]
    fn partitions_are_never_taken_away() {
        let decision = decide(&topics(3, 3), &made(&topics(6, 3)));
        assert_eq!(decision.steps, []);
        assert!(decision.notes[0].contains("never taken away"), "{:?}", decision.notes);
    }

    #[test]
    fn settings_that_drifted_are_set_again() {
        let mut kafka = made(&topics(6, 3));
        kafka.get_mut("events").unwrap().config.insert("retention.ms".into(), "5".into());
        let config = BTreeMap::from([("retention.ms".to_owned(), "1000".to_owned())]);
        assert_eq!(decide(&topics(6, 3), &kafka).steps, [Step::Configure { topic: "events".into(), config }]);
    }

    #[test]
    fn lost_baselines_come_back_with_as_many_partitions_as_parts() {
        let mut kafka = made(&topics(6, 3));
        kafka.remove("baselines");
        let decision = decide(&topics(6, 6), &kafka);
        assert_eq!(decision.steps, [Step::Create(topic("baselines", 3))]);
    }

    #[test]
    fn parts_and_baselines_that_differ_block() {
        let mut kafka = made(&topics(6, 3));
        kafka.get_mut("baselines").unwrap().partitions = 4;
        assert!(decide(&topics(6, 3), &kafka).blocked.unwrap().contains("same number"));
    }
}
