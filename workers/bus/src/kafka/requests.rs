//! Requests that need no member of a group: how many partitions, where they begin and end, what is committed, and whole scans.

use std::ops::Range;
use std::time::{Duration, Instant};

use herd_spec::units::{Offset, Partition};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};

use super::error::{Kind, bus_error, kind};
use super::record::record;
use super::{POLL, kafka_partition};
use crate::{BusError, Commit, Record, Scanned, Since};

/// Pause before something is tried again.
const RETRY: Duration = Duration::from_millis(50);

/// How many partitions the topic has, by `reader`.
pub(super) fn partitions_of<C: ConsumerContext>(
    reader: &BaseConsumer<C>,
    topic: &str,
    patience: Duration,
) -> Result<u32, BusError> {
    shape_of(reader, topic, patience).map(|(partitions, _)| partitions)
}

/// How many partitions the topic has, and how many copies there are of each (the fewest), by `reader`.
pub(super) fn shape_of<C: ConsumerContext>(
    reader: &BaseConsumer<C>,
    topic: &str,
    patience: Duration,
) -> Result<(u32, u32), BusError> {
    let doing = || format!("counting the partitions of {topic}");
    let metadata = reader.fetch_metadata(Some(topic), patience).map_err(|e| bus_error(doing(), &e))?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let missing = |why: String| BusError::Missing { doing: doing(), why };
    let found = found.ok_or_else(|| missing("the broker does not know it".into()))?;
    if let Some(error) = found.error() {
        let code = RDKafkaErrorCode::from(error);
        return Err(match kind(code) {
            Kind::Missing => missing(code.to_string()),
            Kind::Transient => BusError::Unavailable { doing: doing(), why: code.to_string() },
            _ => BusError::Refused { doing: doing(), why: code.to_string() },
        });
    }
    let count = |many: usize| u32::try_from(many).unwrap_or(u32::MAX);
    let copies = found.partitions().iter().map(|partition| partition.replicas().len()).min();
    Ok((count(found.partitions().len()), count(copies.unwrap_or(0))))
}

/// Where partitions begin, end, or have their first record that is not older than a time; [`Offset`]`(i64::MAX)` where all are
/// older. One request a broker.
pub(super) fn offsets_at<C: ConsumerContext>(
    reader: &BaseConsumer<C>,
    topic: &str,
    partitions: impl Iterator<Item = Partition>,
    at: KafkaOffset,
    patience: Duration,
) -> Result<Vec<(Partition, Offset)>, BusError> {
    let doing = || format!("looking for the ends of {topic}");
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition_offset(topic, kafka_partition(partition), at)
            .map_err(|e| bus_error(doing(), &e))?;
    }
    if list.count() == 0 {
        return Ok(Vec::new());
    }
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let found = reader.offsets_for_times(list.clone(), left);
        let outcome = found.and_then(|found| {
            found
                .elements()
                .iter()
                .map(|element| {
                    element.error()?;
                    let offset = match (element.offset(), at) {
                        (KafkaOffset::Offset(offset), _) => offset,
                        (KafkaOffset::End, KafkaOffset::Offset(_)) => i64::MAX,
                        _ => return Err(KafkaError::OffsetFetch(RDKafkaErrorCode::LeaderNotAvailable)),
                    };
                    Ok((Partition(u32::try_from(element.partition()).unwrap_or(0)), Offset(offset)))
                })
                .collect::<Result<Vec<_>, _>>()
        });
        match outcome.map_err(|error| bus_error(doing(), &error)) {
            Err(error) if error.is_retryable() && Instant::now() < deadline => {
                tracing::debug!(%error, "trying again");
                std::thread::sleep(Duration::from_millis(100).min(left));
            }
            outcome => return outcome,
        }
    }
}

/// What the group of `consumer` has committed.
pub(super) fn committed<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partitions: &[Partition],
    patience: Duration,
) -> Result<Vec<(Partition, Option<Commit>)>, BusError> {
    let doing = || format!("looking up offsets of {topic}");
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(topic, kafka_partition(*partition));
    }
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let outcome = consumer.committed_offsets(list.clone(), left).and_then(|found| {
            found
                .elements()
                .iter()
                .map(|element| {
                    element.error()?;
                    let partition = Partition(u32::try_from(element.partition()).unwrap_or(0));
                    let KafkaOffset::Offset(next) = element.offset() else { return Ok((partition, None)) };
                    let metadata = element.metadata().to_owned();
                    Ok((partition, Some(Commit { next: Offset(next), metadata })))
                })
                .collect::<Result<Vec<_>, _>>()
        });
        match outcome.map_err(|error| bus_error(doing(), &error)) {
            Err(error) if error.is_retryable() && Instant::now() < deadline => std::thread::sleep(RETRY),
            outcome => return outcome,
        }
    }
}

/// Reads a partition from its beginning to where it ends now.
pub(super) fn scan<C: ConsumerContext>(
    scanner: &BaseConsumer<C>,
    topic: &str,
    of: Partition,
    patience: Duration,
    each: &mut dyn FnMut(&Record<'_>),
) -> Result<Offset, BusError> {
    let start = bound(scanner, topic, of, KafkaOffset::Beginning, patience)?;
    let end = bound(scanner, topic, of, KafkaOffset::End, patience)?;
    read(scanner, topic, of, start..end, patience, each)?;
    Ok(end)
}

/// Reads a partition from a time on to where it ends now.
pub(super) fn scan_since<C: ConsumerContext>(
    scanner: &BaseConsumer<C>,
    topic: &str,
    of: Partition,
    since: Since,
    patience: Duration,
    each: &mut dyn FnMut(&Record<'_>),
) -> Result<Scanned, BusError> {
    let start = bound(scanner, topic, of, KafkaOffset::Beginning, patience)?;
    let end = bound(scanner, topic, of, KafkaOffset::End, patience)?;
    let oldest = since.oldest(start, end);
    // Negative ones have meanings of their own in the protocol.
    let time = KafkaOffset::Offset(since.time.0.max(0));
    let first = bound(scanner, topic, of, time, patience)?.max(oldest).min(end);
    read(scanner, topic, of, first..end, patience, each)?;
    Ok(Scanned { start: first, end, cut: first == oldest && oldest > start })
}

fn bound<C: ConsumerContext>(
    scanner: &BaseConsumer<C>,
    topic: &str,
    of: Partition,
    at: KafkaOffset,
    patience: Duration,
) -> Result<Offset, BusError> {
    let found = offsets_at(scanner, topic, std::iter::once(of), at, patience)?;
    Ok(found.first().map_or(Offset(0), |(_, offset)| *offset))
}

/// Hands out the records of a partition at these offsets.
fn read<C: ConsumerContext>(
    scanner: &BaseConsumer<C>,
    topic: &str,
    of: Partition,
    offsets: Range<Offset>,
    patience: Duration,
    each: &mut dyn FnMut(&Record<'_>),
) -> Result<(), BusError> {
    let doing = || format!("scanning {topic}/{of}");
    let Range { start, end } = offsets;
    if start >= end {
        return Ok(());
    }
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, kafka_partition(of), KafkaOffset::Offset(start.0))
        .and_then(|()| scanner.assign(&list))
        .map_err(|error| bus_error(doing(), &error))?;
    let mut heard = Instant::now();
    loop {
        match scanner.poll(POLL.min(patience)) {
            Some(Ok(message)) => {
                heard = Instant::now();
                if message.offset() < end.0 {
                    each(&record(&message));
                }
                if message.offset() + 1 >= end.0 {
                    return Ok(());
                }
            }
            // The log's end: compaction has left nothing before it.
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(()),
            Some(Err(error)) => {
                let error = bus_error(doing(), &error);
                if !error.is_retryable() {
                    return Err(error);
                }
                tracing::debug!(%error, "still scanning");
            }
            None => {}
        }
        if heard.elapsed() >= patience {
            return Err(BusError::Unavailable {
                doing: doing(),
                why: format!("nothing came for {patience:?}"),
            });
        }
    }
}
