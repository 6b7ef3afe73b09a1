//! Looking after topics one by one, for the operator: what they are like, making, growing, configuring and deleting them.
//! [`crate::Bus::ensure_topics`] is the short form for those who run without one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use herd_spec::plan::TopicPlan;
use rdkafka::admin::{
    AlterConfig, ConfigSource, NewPartitions, NewTopic, OwnedResourceSpecifier, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::consumer::Consumer as _;
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

/// How often, and how far apart, a topic is looked at for settings that were changed.
const SETTINGS_LOOKS: u32 = 10;
const SETTINGS_PAUSE: Duration = Duration::from_millis(100);

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
            shape => shape.map(Some).map_err(|error| self.explained(error)),
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
        for result in results {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, code)) => {
                    return Err(match plans.iter().find(|plan| plan.name == name) {
                        Some(plan) => self.refused_topic(plan, code),
                        None => refusal(&doing, code),
                    });
                }
            }
        }
        for name in names {
            self.await_partitions(name, 1)?;
        }
        Ok(())
    }

    /// Why a topic was not created. The client passes on no words of the broker, only its code: what the code is about is
    /// found out here.
    fn refused_topic(&self, plan: &TopicPlan, code: RDKafkaErrorCode) -> BusError {
        let doing = format!("creating {}", plan.name);
        match (refusal(&doing, code), code) {
            (BusError::Refused { doing, why }, RDKafkaErrorCode::InvalidReplicationFactor) => {
                let brokers = match self.inner.reader.fetch_metadata(Some(&plan.name), ANSWER) {
                    Ok(metadata) => metadata.brokers().len(),
                    Err(_) => return BusError::Refused { doing, why },
                };
                let (copies, plural) = (plan.replication, if brokers == 1 { "" } else { "s" });
                let why = format!(
                    "{why}: replication factor {copies}, {brokers} broker{plural}: lower spec.kafka.replication, or add brokers"
                );
                BusError::Refused { doing, why }
            }
            (BusError::Refused { doing, why }, RDKafkaErrorCode::InvalidConfig) => {
                let refused = self.refused_settings(&plan.config, |name, value| {
                    let one = NewTopic::new(&plan.name, 1, TopicReplication::Fixed(-1)).set(name, value);
                    let answers = wait(self.admin()?.create_topics([&one], &options().validate_only(true)));
                    let answers = answers.map_err(|error| bus_error(&*doing, &error))?;
                    Ok(answers.into_iter().all(|answer| answer.is_ok()))
                });
                BusError::Refused { doing, why: with_settings(&why, &refused) }
            }
            (error, _) => error,
        }
    }

    /// Which of these settings a broker refuses, each in words; `takes` asks it about one. Empty: none alone, or nobody knows.
    fn refused_settings(
        &self,
        config: &BTreeMap<String, String>,
        takes: impl Fn(&str, &str) -> Result<bool, BusError>,
    ) -> Vec<String> {
        // Of a topic, whichever, a broker tells all settings that there are; the offsets' topic is in every cluster with groups.
        let known = self.settings_of(&["__consumer_offsets".to_owned()], |_| true).ok();
        let known: BTreeSet<String> =
            known.into_iter().flatten().flat_map(|(_, settings)| settings.into_keys()).collect();
        let refused = config.iter().filter(|(name, value)| takes(name, value).is_ok_and(|taken| !taken));
        let words = |(name, value): (&String, &String)| {
            if known.is_empty() {
                format!("configuration {name} with the value {value} is unknown or invalid")
            } else if known.contains(name) {
                format!("invalid value {value} for configuration {name}")
            } else {
                format!("unknown configuration {name}")
            }
        };
        refused.map(words).collect()
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
        self.alter_topic(name, config)?;
        // The client says yes whatever the broker answers for a topic (rdkafka 0.39 drops that error): what counts is what the
        // topic has afterwards.
        if self.has_settings(name, config)? {
            return Ok(());
        }
        let refused = self.refused_settings(config, |key, value| {
            let one = BTreeMap::from([(key.to_owned(), value.to_owned())]);
            self.alter_topic(name, &one)?;
            self.has_settings(name, &one)
        });
        if refused.is_empty() {
            return Ok(());
        }
        let doing = format!("changing the settings of {name}");
        Err(BusError::Refused { doing, why: refused.join(", ") })
    }

    /// Asks for these settings of a topic besides those that it has of its own: the request replaces all of them at once.
    fn alter_topic(&self, name: &str, config: &BTreeMap<String, String>) -> Result<(), BusError> {
        let mut all = self.own_settings(name)?;
        all.extend(config.clone());
        let change =
            all.iter().fold(AlterConfig::new(ResourceSpecifier::Topic(name)), |change, (name, value)| {
                change.set(name, value)
            });
        let doing = format!("changing the settings of {name}");
        let results =
            wait(self.admin()?.alter_configs([&change], &options())).map_err(|e| bus_error(&*doing, &e))?;
        let refused = results.into_iter().find_map(|result| result.err().map(|(_, code)| code));
        refused.map_or(Ok(()), |code| Err(refusal(&doing, code)))
    }

    /// Whether a topic has these settings by now; brokers may hear of a change a moment later.
    fn has_settings(&self, name: &str, config: &BTreeMap<String, String>) -> Result<bool, BusError> {
        for _ in 0..SETTINGS_LOOKS {
            let own = self.own_settings(name)?;
            if config.iter().all(|(key, value)| own.get(key) == Some(value)) {
                return Ok(true);
            }
            std::thread::sleep(SETTINGS_PAUSE);
        }
        Ok(false)
    }

    fn own_settings(&self, name: &str) -> Result<BTreeMap<String, String>, BusError> {
        let mut all = self.settings_of(&[name.to_owned()], |source| *source == ConfigSource::DynamicTopic)?;
        Ok(all.remove(name).unwrap_or_default())
    }

    /// Deletes consumer groups; those that are not there are none the worse. Those that still have members stay: their names.
    ///
    /// # Errors
    /// If the cluster does not answer or refuses.
    pub fn delete_groups(&self, names: &[&str]) -> Result<Vec<String>, BusError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let doing = format!("deleting the consumer groups {}", names.join(", "));
        let results =
            wait(self.admin()?.delete_groups(names, &options())).map_err(|e| bus_error(&*doing, &e))?;
        let mut left = Vec::new();
        for result in results {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::GroupIdNotFound)) => {}
                Err((name, RDKafkaErrorCode::NonEmptyGroup)) => left.push(name),
                Err((_, code)) => return Err(refusal(&doing, code)),
            }
        }
        Ok(left)
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

fn with_settings(why: &str, refused: &[String]) -> String {
    if refused.is_empty() { why.to_owned() } else { format!("{why}: {}", refused.join(", ")) }
}

fn new_topic(plan: &TopicPlan) -> NewTopic<'_> {
    let count = i32::try_from(plan.partitions).unwrap_or(i32::MAX);
    let topic = NewTopic::new(&plan.name, count, TopicReplication::Fixed(i32::from(plan.replication)));
    plan.config.iter().fold(topic, |topic, (name, value)| topic.set(name, value))
}
