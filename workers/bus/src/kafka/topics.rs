//! Looking after topics one by one, for the operator: what they are like, making, growing, configuring and deleting them.
//! [`crate::Bus::ensure_topics`] is the short form for those who run without one.

use std::collections::BTreeMap;

use herd_spec::plan::TopicPlan;
use rdkafka::admin::{
    AlterConfig, ConfigSource, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;

use super::admin::{accept, options, refusal, wait};
use super::error::{Kind, bus_error, kind};
use super::{KafkaBus, PATIENCE as ANSWER};
use crate::BusError;

/// What a topic is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicFacts {
    /// How many partitions it has.
    pub partitions: u32,
    /// Copies of each.
    pub replication: u32,
    /// All its settings as they take effect, whoever set them.
    pub config: BTreeMap<String, String>,
}

impl KafkaBus {
    /// What these topics are like; those that are not there are left out.
    ///
    /// # Errors
    /// If the cluster does not answer or does not let us look.
    pub fn topic_facts(&self, names: &[&str]) -> Result<BTreeMap<String, TopicFacts>, BusError> {
        let mut facts = BTreeMap::new();
        for name in names {
            if let Some((partitions, replication)) = self.shape(name)? {
                let config = BTreeMap::new();
                facts.insert((*name).to_owned(), TopicFacts { partitions, replication, config });
            }
        }
        let known: Vec<String> = facts.keys().cloned().collect();
        for name in known {
            let config = self.settings_of(&name, |_| true)?;
            if let Some(facts) = facts.get_mut(&name) {
                facts.config = config;
            }
        }
        Ok(facts)
    }

    /// Partitions and replication; none if it is not there.
    fn shape(&self, name: &str) -> Result<Option<(u32, u32)>, BusError> {
        let doing = || format!("looking at {name}");
        let metadata =
            self.inner.reader.fetch_metadata(Some(name), ANSWER).map_err(|e| bus_error(doing(), &e))?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == name) else {
            return Ok(None);
        };
        if let Some(error) = found.error() {
            let code = RDKafkaErrorCode::from(error);
            return if kind(code) == Kind::Missing { Ok(None) } else { Err(refusal(&doing(), code)) };
        }
        let count = |many: usize| u32::try_from(many).unwrap_or(u32::MAX);
        let copies = found.partitions().iter().map(|partition| partition.replicas().len()).min();
        Ok(Some((count(found.partitions().len()), count(copies.unwrap_or(0)))))
    }

    fn settings_of(
        &self,
        name: &str,
        wanted: impl Fn(&ConfigSource) -> bool,
    ) -> Result<BTreeMap<String, String>, BusError> {
        let doing = format!("reading the settings of {name}");
        let admin = self.admin()?;
        let answers = wait(admin.describe_configs([&ResourceSpecifier::Topic(name)], &options()))
            .map_err(|e| bus_error(&*doing, &e))?;
        let mut config = BTreeMap::new();
        for answer in answers {
            let answer = answer.map_err(|code| refusal(&doing, code))?;
            for entry in answer.entries.into_iter().filter(|entry| wanted(&entry.source)) {
                if let Some(value) = entry.value {
                    config.insert(entry.name, value);
                }
            }
        }
        Ok(config)
    }

    /// Creates a topic. False: it was there already.
    ///
    /// # Errors
    /// If the cluster does not answer or refuses.
    pub fn create_topic(&self, plan: &TopicPlan) -> Result<bool, BusError> {
        let count = i32::try_from(plan.partitions).unwrap_or(i32::MAX);
        let replication = TopicReplication::Fixed(i32::from(plan.replication));
        let mut topic = NewTopic::new(&plan.name, count, replication);
        for (name, value) in &plan.config {
            topic = topic.set(name, value);
        }
        let doing = format!("creating {}", plan.name);
        let results =
            wait(self.admin()?.create_topics([&topic], &options())).map_err(|e| bus_error(&*doing, &e))?;
        let created = results.iter().all(Result::is_ok);
        accept(results, &doing, RDKafkaErrorCode::TopicAlreadyExists)?;
        self.await_partitions(&plan.name, 1)?;
        Ok(created)
    }

    /// Gives a topic more partitions; nothing happens if it has as many already.
    ///
    /// # Errors
    /// If the cluster does not answer or refuses.
    pub fn grow_topic(&self, name: &str, partitions: u32) -> Result<(), BusError> {
        let more = NewPartitions::new(name, partitions as usize);
        let doing = format!("adding partitions to {name}");
        let results =
            wait(self.admin()?.create_partitions([&more], &options())).map_err(|e| bus_error(&*doing, &e))?;
        // Another has added them meanwhile.
        accept(results, &doing, RDKafkaErrorCode::InvalidPartitions)?;
        self.await_partitions(name, partitions)?;
        Ok(())
    }

    /// Sets these settings of a topic; its other own settings stay.
    ///
    /// # Errors
    /// If the cluster does not answer or refuses.
    pub fn configure_topic(&self, name: &str, config: &BTreeMap<String, String>) -> Result<(), BusError> {
        // The request replaces all of a topic's own settings at once.
        let mut all = self.settings_of(name, |source| *source == ConfigSource::DynamicTopic)?;
        all.extend(config.clone());
        let change =
            all.iter().fold(AlterConfig::new(ResourceSpecifier::Topic(name)), |change, (name, value)| {
                change.set(name, value)
            });
        let doing = format!("changing the settings of {name}");
        let results =
            wait(self.admin()?.alter_configs([&change], &options())).map_err(|e| bus_error(&*doing, &e))?;
        results.into_iter().try_for_each(|result| result.map(drop).map_err(|(_, code)| refusal(&doing, code)))
    }

    /// Deletes topics; those that are not there are none the worse.
    ///
    /// # Errors
    /// If the cluster does not answer or refuses.
    pub fn delete_topics(&self, names: &[&str]) -> Result<(), BusError> {
        if names.is_empty() {
            return Ok(());
        }
        let doing = format!("deleting {}", names.join(", "));
        let results =
            wait(self.admin()?.delete_topics(names, &options())).map_err(|e| bus_error(&*doing, &e))?;
        accept(results, &doing, RDKafkaErrorCode::UnknownTopicOrPartition)
    }
}
