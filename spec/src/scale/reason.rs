//! Reasons and findings, as sentences with the numbers that decided.

use std::fmt;
use std::time::Duration;

use crate::pipeline::Span;
use crate::units::Replicas;

use super::history::PartitionName;
use super::kind::{FindingKind, ReasonKind};

/// Why a stage has, or gets, this number of replicas. Displayed as one sentence with the numbers that decided; [`Self::kind`] is the
/// word for conditions and metrics.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// See [`ReasonKind::Fixed`].
    Fixed,
    /// See [`ReasonKind::Off`].
    Off,
    /// See [`ReasonKind::Paused`].
    Paused,
    /// See [`ReasonKind::BelowMin`].
    BelowMin {
        /// The minimum.
        min: Replicas,
        /// The floor with this minimum, where it is not `min` of the spec.
        floor: Option<String>,
    },
    /// See [`ReasonKind::AboveMax`].
    AboveMax {
        /// The maximum: `max` of the spec, or the number of partitions.
        max: Replicas,
    },
    /// See [`ReasonKind::NoData`].
    NoData {
        /// The error of the last poll.
        error: String,
    },
    /// See [`ReasonKind::Gathering`].
    Gathering,
    /// See [`ReasonKind::Settling`].
    Settling {
        /// The remaining time.
        left: Duration,
    },
    /// See [`ReasonKind::NotReady`].
    NotReady {
        /// How many are ready.
        ready: Replicas,
        /// Of how many.
        desired: Replicas,
    },
    /// See [`ReasonKind::Rebalancing`].
    Rebalancing,
    /// See [`ReasonKind::Confirming`].
    Confirming {
        /// The number that would be decided.
        wanted: Replicas,
    },
    /// See [`ReasonKind::PausedUp`].
    PausedUp {
        /// The number that would be decided.
        wanted: Replicas,
    },
    /// See [`ReasonKind::PausedDown`].
    PausedDown {
        /// The number that would be decided.
        wanted: Replicas,
    },
    /// See [`ReasonKind::DownstreamBound`].
    DownstreamBound {
        /// Time until the next attempt.
        left: Duration,
    },
    /// See [`ReasonKind::AtMost`].
    AtMost {
        /// The maximum.
        max: Replicas,
        /// The lag in records.
        lag: u64,
        /// How long a new record will wait.
        delay: Option<Duration>,
    },
    /// See [`ReasonKind::Stabilising`].
    Stabilising {
        /// The number that would be decided.
        wanted: Replicas,
        /// The remaining time.
        left: Duration,
    },
    /// See [`ReasonKind::Steady`].
    Steady {
        /// Input in records per second.
        input: f64,
        /// Capacity of all replicas in records per second, where it is known.
        capacity: Option<f64>,
        /// How long a new record will wait.
        delay: Option<Duration>,
    },
    /// See [`ReasonKind::Asleep`].
    Asleep,
    /// See [`ReasonKind::Input`].
    Input {
        /// Input in records per second.
        input: f64,
        /// Capacity of all replicas in records per second.
        capacity: f64,
    },
    /// See [`ReasonKind::Backlog`].
    Backlog {
        /// The lag in records.
        lag: u64,
        /// How long it would take; none if it grows.
        drain: Option<Duration>,
        /// How long it may take.
        catch_up: Duration,
    },
    /// See [`ReasonKind::Doubling`].
    Doubling {
        /// The lag in records.
        lag: u64,
    },
    /// See [`ReasonKind::Uneven`].
    Uneven {
        /// The partition with the highest lag.
        partition: Option<PartitionName>,
        /// Its lag in records.
        lag: u64,
    },
    /// See [`ReasonKind::Busy`].
    Busy {
        /// Utilisation, 0 to 1.
        busy: f64,
    },
    /// See [`ReasonKind::Wake`].
    Wake {
        /// The lag in records.
        lag: u64,
    },
    /// See [`ReasonKind::Spare`].
    Spare {
        /// Input in records per second.
        input: f64,
        /// For how long fewer were enough.
        watched: Duration,
    },
    /// See [`ReasonKind::Probe`].
    Probe {
        /// For how long there was no lag.
        watched: Duration,
    },
    /// See [`ReasonKind::Sleep`].
    Sleep {
        /// For how long there was no input.
        watched: Duration,
    },
    /// See [`ReasonKind::GoBack`].
    GoBack {
        /// Output in records per second before.
        before: f64,
        /// Output in records per second after.
        after: f64,
    },
}

impl Reason {
    /// The kind, without the numbers.
    #[must_use]
    pub const fn kind(&self) -> ReasonKind {
        match self {
            Self::Fixed => ReasonKind::Fixed,
            Self::Off => ReasonKind::Off,
            Self::Paused => ReasonKind::Paused,
            Self::BelowMin { .. } => ReasonKind::BelowMin,
            Self::AboveMax { .. } => ReasonKind::AboveMax,
            Self::NoData { .. } => ReasonKind::NoData,
            Self::Gathering => ReasonKind::Gathering,
            Self::Settling { .. } => ReasonKind::Settling,
            Self::NotReady { .. } => ReasonKind::NotReady,
            Self::Rebalancing => ReasonKind::Rebalancing,
            Self::Confirming { .. } => ReasonKind::Confirming,
            Self::PausedUp { .. } => ReasonKind::PausedUp,
            Self::PausedDown { .. } => ReasonKind::PausedDown,
            Self::DownstreamBound { .. } => ReasonKind::DownstreamBound,
            Self::AtMost { .. } => ReasonKind::AtMost,
            Self::Stabilising { .. } => ReasonKind::Stabilising,
            Self::Steady { .. } => ReasonKind::Steady,
            Self::Asleep => ReasonKind::Asleep,
            Self::Input { .. } => ReasonKind::Input,
            Self::Backlog { .. } => ReasonKind::Backlog,
            Self::Doubling { .. } => ReasonKind::Doubling,
            Self::Uneven { .. } => ReasonKind::Uneven,
            Self::Busy { .. } => ReasonKind::Busy,
            Self::Wake { .. } => ReasonKind::Wake,
            Self::Spare { .. } => ReasonKind::Spare,
            Self::Probe { .. } => ReasonKind::Probe,
            Self::Sleep { .. } => ReasonKind::Sleep,
            Self::GoBack { .. } => ReasonKind::GoBack,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed => f.write_str("the stage has no `scaling`"),
            Self::Off => f.write_str("`mode` is Off"),
            Self::Paused => f.write_str("the pipeline is paused"),
            Self::BelowMin { min, floor: None } => write!(f, "the minimum is {min}"),
            Self::BelowMin { min, floor: Some(floor) } => {
                write!(f, "the minimum is {min} at this time (floor {floor})")
            }
            Self::AboveMax { max } => {
                write!(f, "the maximum is {max} (`max`, or the number of partitions)")
            }
            Self::NoData { error } => write!(f, "no data: {error}"),
            Self::Gathering => f.write_str("rates are known after two polls"),
            Self::Settling { left } => {
                write!(f, "waiting {} for the last change to take effect", secs(*left))
            }
            Self::NotReady { ready, desired } => write!(f, "{ready} of {} ready", replicas(*desired)),
            Self::Rebalancing => f.write_str("the consumer group is rebalancing"),
            Self::Confirming { wanted } => {
                write!(f, "{} may be needed; the next poll decides", replicas(*wanted))
            }
            Self::PausedUp { wanted } => write!(f, "{} needed, but `pauseUp` is set", replicas(*wanted)),
            Self::PausedDown { wanted } => {
                write!(f, "{} would be enough, but `pauseDown` is set", replicas(*wanted))
            }
            Self::DownstreamBound { left } => write!(
                f,
                "the last added replicas did not raise the output, so the limit is downstream of this stage; next attempt in {}",
                secs(*left)
            ),
            Self::AtMost { max, lag, delay } => {
                write!(f, "at the maximum of {}, with a lag of {} records", replicas(*max), count(*lag))?;
                delay.map_or(Ok(()), |delay| write!(f, " (delay {})", secs(delay)))
            }
            Self::Stabilising { wanted, left } => {
                write!(
                    f,
                    "{} would be enough; removing in {} at the earliest",
                    replicas(*wanted),
                    secs(*left)
                )
            }
            Self::Steady { input, capacity, delay } => {
                write!(f, "input {} records/s", number(*input))?;
                if let Some(capacity) = capacity {
                    write!(f, ", capacity {} records/s", number(*capacity))?;
                }
                delay.map_or(Ok(()), |delay| write!(f, ", delay {}", secs(delay)))
            }
            Self::Asleep => f.write_str("no input and no lag"),
            Self::Input { input, capacity } => {
                write!(
                    f,
                    "input {} records/s exceeds capacity {} records/s",
                    number(*input),
                    number(*capacity)
                )
            }
            Self::Backlog { lag, drain: Some(drain), catch_up } => write!(
                f,
                "processing a lag of {} records takes {}, longer than `catchUp` ({})",
                count(*lag),
                secs(*drain),
                secs(*catch_up)
            ),
            Self::Backlog { lag, drain: None, .. } => {
                write!(f, "a lag of {} records is growing", count(*lag))
            }
            Self::Doubling { lag } => {
                write!(f, "a lag of {} records, and the capacity of a replica is unknown", count(*lag))
            }
            Self::Uneven { partition, lag } => {
                write!(f, "a lag of {} records on ", count(*lag))?;
                match partition {
                    Some(name) => write!(f, "{name}")?,
                    None => f.write_str("one replica")?,
                }
                f.write_str(", whose replica has too many partitions")
            }
            Self::Busy { busy } => write!(f, "replicas are {:.0} % busy", busy * 100.0),
            Self::Wake { lag: 0 } => f.write_str("records arrived"),
            Self::Wake { lag } => write!(f, "{} records arrived", count(*lag)),
            Self::Spare { input, watched } => write!(
                f,
                "input {} records/s; fewer replicas were enough for {}",
                number(*input),
                secs(*watched)
            ),
            Self::Probe { watched } => write!(
                f,
                "no lag for {}; the capacity of a replica is unknown and is measured with fewer replicas",
                secs(*watched)
            ),
            Self::Sleep { watched } => write!(f, "no input for {}", secs(*watched)),
            Self::GoBack { before, after } => write!(
                f,
                "output fell from {} to {} records/s with more replicas",
                number(*before),
                number(*after)
            ),
        }
    }
}

/// A problem of a stage that scaling cannot solve.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// The input of one partition exceeds the capacity of a replica, and a partition has one reader.
    HotPartition {
        /// Which partition.
        partition: PartitionName,
        /// Its input in records per second.
        input: f64,
        /// Capacity of one replica in records per second.
        capacity: f64,
    },
    /// A partition has not advanced for a minute while others have.
    StuckPartition {
        /// Which partition.
        partition: PartitionName,
        /// Its lag in records.
        lag: u64,
    },
    /// Replicas that were added did not raise the output.
    DownstreamBound {
        /// Output in records per second.
        output: f64,
        /// Time until the next attempt.
        left: Duration,
    },
}

impl Finding {
    /// The kind, without the numbers.
    #[must_use]
    pub const fn kind(&self) -> FindingKind {
        match self {
            Self::HotPartition { .. } => FindingKind::HotPartition,
            Self::StuckPartition { .. } => FindingKind::StuckPartition,
            Self::DownstreamBound { .. } => FindingKind::DownstreamBound,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HotPartition { partition, input, capacity } => write!(
                f,
                "input {} records/s on {partition} exceeds the capacity of one replica, {} records/s. More replicas do not help: spread the keys",
                number(*input),
                number(*capacity)
            ),
            Self::StuckPartition { partition, lag } => write!(
                f,
                "{partition} has not advanced for a minute while others have, with a lag of {} records: see the log of its replica",
                count(*lag)
            ),
            Self::DownstreamBound { output, left } => write!(
                f,
                "more replicas do not raise the output above {} records/s: check what is downstream of this stage. Next attempt in {}",
                number(*output),
                secs(*left)
            ),
        }
    }
}

/// `1 replica`, `4 replicas`.
pub(super) fn replicas(count: Replicas) -> String {
    if count.0 == 1 { "1 replica".into() } else { format!("{count} replicas") }
}

/// A duration in whole seconds.
fn secs(duration: Duration) -> Span {
    Span(Duration::from_secs(duration.as_secs_f64().round() as u64))
}

/// A rate: rounded to a whole number from ten on.
fn number(rate: f64) -> String {
    if rate >= 10.0 || rate == 0.0 { count(rate.round() as u64) } else { format!("{rate:.1}") }
}

/// A count with commas between thousands.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
