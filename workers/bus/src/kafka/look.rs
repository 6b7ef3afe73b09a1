//! How far topics and groups are, asked for many of them at once: for the operator, which looks at all pipelines of a cluster every
//! few seconds.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use herd_spec::units::{Offset, Partition};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};

use super::context::Plain;
use super::error::bus_error;
use super::{KafkaBus, kafka_partition};
use crate::BusError;

/// How long brokers may take: shorter than the time between two looks.
const PATIENCE: Duration = Duration::from_secs(4);
/// Partitions in one request: for each of them librdkafka looks through all of its list, so a long one takes for ever.
const AT_ONCE: usize = 500;

/// How long it is taken as known where partitions begin.
const STARTS_KNOWN: Duration = Duration::from_secs(60);

/// Where the partitions of some topics began.
pub(super) struct Starts {
    asked: BTreeMap<String, u32>,
    at: Instant,
    places: Places,
}

/// A topic with the number of its partitions.
pub type TopicSize<'a> = (&'a str, u32);

/// A place of one partition of a topic, by both.
pub type Places = BTreeMap<(String, Partition), Offset>;

impl KafkaBus {
    /// Where the partitions of these topics begin and end: a request to each broker for some hundred of them. Those of topics that
    /// are not there are left out. Where they begin may be as it was a minute ago.
    ///
    /// # Errors
    /// If a broker does not answer.
    pub fn spans(&self, topics: &[TopicSize<'_>]) -> Result<(Places, Places), BusError> {
        // Ends last, so that nothing committed meanwhile lies behind them by much.
        let starts = self.starts(topics)?;
        let ends = places_at(&self.inner.reader, topics, KafkaOffset::End);
        Ok((starts, ends.map_err(|error| self.explained(error))?))
    }

    /// Asked for again when further topics are asked about, and each minute: it changes only when old records are deleted.
    fn starts(&self, topics: &[TopicSize<'_>]) -> Result<Places, BusError> {
        let covers = |known: &&Starts| {
            known.at.elapsed() < STARTS_KNOWN
                && topics.iter().all(|(name, size)| known.asked.get(*name) == Some(size))
        };
        if let Some(known) = self.inner.starts.lock().as_ref().filter(covers) {
            let places = partitions(topics)
                .filter_map(|(name, partition)| known.places.get_key_value(&(name.to_owned(), partition)));
            return Ok(places.map(|(place, offset)| (place.clone(), *offset)).collect());
        }
        let places = places_at(&self.inner.reader, topics, KafkaOffset::Beginning);
        let places = places.map_err(|error| self.explained(error))?;
        let asked = topics.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect();
        *self.inner.starts.lock() = Some(Starts { asked, at: Instant::now(), places: places.clone() });
        Ok(places)
    }

    /// Which records of these topics a group reads next; partitions for which it never committed are left out.
    ///
    /// # Errors
    /// If the broker that coordinates the group does not answer.
    pub fn committed(&self, group: &str, topics: &[TopicSize<'_>]) -> Result<Places, BusError> {
        let doing = || format!("looking up the offsets of {group}");
        let reader = self.group_reader(group)?;
        let found = reader
            .committed_offsets(list(partitions(topics)), PATIENCE)
            .map_err(|e| bus_error(doing(), &e))?;
        read(&found, doing)
    }

    /// Whether a group is at rest: its members have their partitions, or it has none.
    ///
    /// # Errors
    /// If a broker does not answer.
    pub fn is_at_rest(&self, group: &str) -> Result<bool, BusError> {
        let found = self.inner.reader.fetch_group_list(Some(group), PATIENCE);
        let found = found.map_err(|e| bus_error(format!("looking at the group {group}"), &e))?;
        let state =
            found.groups().iter().find(|found| found.name() == group).map(|found| found.state().to_owned());
        Ok(!matches!(state.as_deref(), Some("PreparingRebalance" | "CompletingRebalance")))
    }
}

fn partitions<'a>(topics: &'a [TopicSize<'_>]) -> impl Iterator<Item = (&'a str, Partition)> {
    topics.iter().flat_map(|(topic, count)| (0..*count).map(move |number| (*topic, Partition(number))))
}

fn list<'a>(partitions: impl IntoIterator<Item = (&'a str, Partition)>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (topic, partition) in partitions {
        list.add_partition(topic, kafka_partition(partition));
    }
    list
}

fn places_at(
    reader: &BaseConsumer<Plain>,
    topics: &[TopicSize<'_>],
    at: KafkaOffset,
) -> Result<Places, BusError> {
    let doing = || format!("looking for the ends of {} topics", topics.len());
    let deadline = Instant::now() + PATIENCE;
    let all: Vec<_> = partitions(topics).collect();
    let mut places = Places::new();
    for some in all.chunks(AT_ONCE) {
        let mut asked = list(some.iter().copied());
        asked.set_all_offsets(at).map_err(|e| bus_error(doing(), &e))?;
        let left = deadline.saturating_duration_since(Instant::now());
        let found = reader.offsets_for_times(asked, left).map_err(|e| bus_error(doing(), &e))?;
        places.extend(read(&found, doing)?);
    }
    Ok(places)
}

fn read(found: &TopicPartitionList, doing: impl Fn() -> String) -> Result<Places, BusError> {
    let mut places = Places::new();
    for element in found.elements() {
        match element.error() {
            Ok(()) => {}
            Err(error) => {
                let error = bus_error(doing(), &error);
                if error.is_retryable() {
                    return Err(error);
                }
                continue;
            }
        }
        if let KafkaOffset::Offset(offset) = element.offset() {
            let partition = Partition(u32::try_from(element.partition()).unwrap_or(0));
            places.insert((element.topic().to_owned(), partition), Offset(offset));
        }
    }
    Ok(places)
}
