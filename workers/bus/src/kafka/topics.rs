//! Looking after topics one by one, for the operator: what they are like, making, growing, configuring and deleting them.
//! [`crate::Bus::ensure_topics`] is the short form for those who run without one.

use std::collections::{BTreeMap, BTreeSet};

use herd_spec::plan::TopicPlan;
use rdkafka::admin::{
    AlterConfig, ConfigSource, NewPartitions, NewTopic, OwnedResourceSpecifier, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::error::RDKafkaErrorCode;

use super::admin::{accept, options, refusal, wait};
use super::error::bus_error;
use super::requests::shape_of;
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
        for (name, config) in self.settings_of(&known, |_| true)? {
            if let Some(facts) = facts.get_mut(&name) {
                facts.config = config;
            }
        }
        Ok(facts)
    }

    /// Partitions and replication; none if it is not there.
    fn shape(&self, name: &str) -> Result<Option<(u32, u32)>, BusError> {
        match shape_of(&self.inner.reader, name, ANSWER) {
            Err(BusError::Missing { .. }) => Ok(None),
            shape => shape.map(Some),
        }
    }

    /// Settings by topic, of those whose source is wanted.
    fn settings_of(
        &self,
        names: &[String],
        wanted: impl Fn(&ConfigSource) -> bool,
    ) -> Result<BTreeMap<String, BTreeMap<String, String>>, BusError> {
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let doing = format!("reading the settings of {}", names.join(", "));
        let topics: Vec<_> = names.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
        let answers = wait(self.admin()?.describe_configs(&topics, &options()))
            .map_err(|error| bus_error(&*doing, &error))?;
        let mut settings = BTreeMap::new();
        for answer in answers {
            let answer = answer.map_err(|code| refusal(&doing, code))?;
            let OwnedResourceSpecifier::Topic(name) = answer.specifier else { continue };
            let entries = answer.entries.into_iter().filter(|entry| wanted(&entry.source));
            let config = entries.filter_map(|entry| Some((entry.name, entry.value?))).collect();
            settings.insert(name, config);
        }
        Ok(settings)
    }

    /// Creates topics, all in one request. `made` gets the names of those that were not there already, whatever becomes of others.
    ///
    /// # Errors
    /// If the cluster does not answer or refuses.
    pub fn make_topics(&self, plans: &[TopicPlan], made: &mut BTreeSet<String>) -> Result<(), BusError> {
        if plans.is_empty() {
            return Ok(());
        }
        let topics: Vec<NewTopic<'_>> = plans.iter().map(new_topic).collect();
        let names: Vec<&str> = plans.iter().map(|plan| &*plan.name).collect();
        let doing = format!("creating {}", names.join(", "));
        let results =
            wait(self.admin()?.create_topics(&topics, &options())).map_err(|e| bus_error(&*doing, &e))?;
        made.extend(results.iter().filter_map(|result| result.as_ref().ok().cloned()));
        accept(results, &doing, RDKafkaErrorCode::TopicAlreadyExists)?;
        for name in names {
            self.await_partitions(name, 1)?;
        }
        Ok(())
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
        let names = [name.to_owned()];
        let mut all = self.settings_of(&names, |source| *source == ConfigSource::DynamicTopic)?;
        let mut all = all.remove(name).unwrap_or_default();
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

fn new_topic(plan: &TopicPlan) -> NewTopic<'_> {
    let count = i32::try_from(plan.partitions).unwrap_or(i32::MAX);
    let topic = NewTopic::new(&plan.name, count, TopicReplication::Fixed(i32::from(plan.replication)));
    plan.config.iter().fold(topic, |topic, (name, value)| topic.set(name, value))
}
