//! Where the events of a backtest come from: a file, the store of the pipeline, or its `events` topic.
//!
//! An [`Input`] can be opened any number of times, and gives the same events in the same order each time, as long as nothing is
//! added. Events of the store and of the topic come with the partition that they have there, those of a partition in the order of
//! their offsets; the partitions are merged by the time that each has reached, so that none runs ahead of the others and windows
//! can be closed as they are read.

mod broker;
mod store;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use herd_spec::units::{EventTime, Partition};
use herd_spec::wire::EventRef;
use herd_store::StoreError;

use super::time::TimeRange;
use crate::replay::{EventReader, Mapping, RecordedEvent, RowsError};

pub(super) use broker::TopicInput;
pub(super) use store::StoreInput;

/// An event of the past.
#[derive(Debug)]
pub(super) enum InputEvent<'a> {
    /// As it would be sent to a collector.
    Recorded(RecordedEvent<'a>),
    /// As a collector accepted it.
    Accepted {
        /// Its partition in the `events` topic.
        partition: Partition,
        /// The event.
        event: EventRef<'a>,
    },
}

impl InputEvent<'_> {
    /// Its event time.
    pub(super) fn time(&self) -> EventTime {
        match self {
            Self::Recorded(RecordedEvent::Plain(event)) => event.time(),
            Self::Recorded(RecordedEvent::Body(_, time)) => *time,
            Self::Accepted { event, .. } => event.time,
        }
    }
}

/// Events in their order.
pub(super) trait Events {
    /// The next event; none after the last one.
    fn next_event(&mut self) -> Option<Result<InputEvent<'_>, InputError>>;

    /// Records that are no events, so far.
    fn unreadable(&self) -> u64 {
        0
    }
}

/// An input that was opened.
pub(super) struct Opened {
    /// Its events.
    pub(super) events: Box<dyn Events>,
    /// Partitions that events may have; 0 for events without partitions.
    pub(super) partitions: u32,
    /// The number of events, if it is known.
    pub(super) total: Option<u64>,
    /// Whether older events were there that expired.
    pub(super) has_expired: bool,
}

/// Why events cannot be read.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum InputError {
    /// The file cannot be read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Rows(#[from] RowsError),
    /// The pipeline has no store.
    #[error("--store: the pipeline `{pipeline}` has no `postgres` or `sqlite` sink")]
    #[diagnostic(help(
        "say where its events are stored: --store postgres://user:password@host/database or --store FILE"
    ))]
    NoStore {
        /// The pipeline.
        pipeline: String,
    },
    /// The Secret with the address of the store cannot be read.
    #[error("--store: {0}")]
    #[diagnostic(help(
        "give the directory of the Secrets with --secrets DIR, or the URL: --store postgres://…"
    ))]
    Secret(#[from] herd_stage::SecretError),
    /// The store cannot be read.
    #[error("--store: {0}")]
    #[diagnostic(help(
        "the tables are those that the sink of the pipeline writes: check that it has run with this address"
    ))]
    Store(#[from] StoreError),
    /// A stored event is damaged.
    #[error("--store: the properties of a stored event are not JSON: {0}")]
    #[diagnostic(help("the table `user_events` was changed by another program: delete or correct the row"))]
    Properties(#[from] serde_json::Error),
    /// The broker cannot be read.
    #[error("--kafka: cannot read the `events` topic: {why}")]
    #[diagnostic(help("{help}"))]
    Broker {
        /// The cause.
        why: String,
        /// The remedy.
        help: &'static str,
    },
    /// The data directory does not exist.
    #[error("--kafka: the data directory {} does not exist", path.display())]
    #[diagnostic(help(
        "the pipeline has no spec.kafka: give the data directory of its `herd up` with --data DIR"
    ))]
    NoData {
        /// The directory.
        path: PathBuf,
    },
    /// The thread or task that reads is gone.
    #[error("reading the events ended unexpectedly")]
    #[diagnostic(help("this is a fault of Herd: please report it"))]
    Ended,
}

/// A source of events.
pub(super) enum Input<'c> {
    /// A file.
    File(FileInput<'c>),
    /// The tables of a sink.
    Store(StoreInput),
    /// The `events` topic.
    Topic(TopicInput),
}

/// A file of events.
pub(super) struct FileInput<'c> {
    pub(super) path: &'c Path,
    pub(super) map: &'c Mapping,
    pub(super) event_type: Option<&'c str>,
    pub(super) properties: Option<BTreeSet<String>>,
    pub(super) alternatives: [Vec<String>; 5],
}

impl Input<'_> {
    /// Opens it at its beginning. `range` is what will be used: more may come.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) fn open(&self, range: &TimeRange) -> Result<Opened, InputError> {
        match self {
            Self::File(file) => {
                let (properties, names) = (file.properties.clone(), file.alternatives.clone());
                let reader = EventReader::open(file.path, file.map, file.event_type, properties, names)?;
                Ok(Opened { events: Box::new(reader), partitions: 0, total: None, has_expired: false })
            }
            Self::Store(store) => store.open(range),
            Self::Topic(topic) => topic.open(),
        }
    }

    /// The name of the source in messages.
    pub(super) fn name(&self) -> String {
        match self {
            Self::File(file) => file.path.display().to_string(),
            Self::Store(_) => "the store".to_owned(),
            Self::Topic(topic) => format!("the topic {}", topic.name()),
        }
    }

    /// What limits the age of its events, for messages.
    pub(super) fn keeps(&self) -> Option<String> {
        match self {
            Self::File(_) | Self::Store(_) => None,
            Self::Topic(topic) => topic.keeps(),
        }
    }
}

impl Events for EventReader {
    fn next_event(&mut self) -> Option<Result<InputEvent<'_>, InputError>> {
        let event = Self::next_event(self)?;
        Some(event.map(InputEvent::Recorded).map_err(InputError::from))
    }
}
