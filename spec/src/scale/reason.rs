//! Why, in words a person understands.

use std::fmt;
use std::time::Duration;

use crate::pipeline::Span;
use crate::units::Replicas;

use super::history::PartitionName;

/// Why a stage has, or gets, that many replicas. Its text is one sentence with the numbers that decided; [`Self::name`] is
/// one word for conditions and metrics.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// No scaling is asked for.
    Fixed,
    /// `mode: Off`.
    Off,
    /// The pipeline is paused.
    Paused,
    /// Fewer than the least run.
    BelowMin {
        /// The least.
        least: Replicas,
        /// The floor that asks for it, where it is not `min`.
        floor: Option<String>,
    },
    /// More run than the most.
    AboveMax {
        /// The most: `max`, or the topic's partitions.
        most: Replicas,
    },
    /// It could not be seen how the stage does: it stays as it is.
    NoData {
        /// Why.
        why: String,
    },
    /// Rates need two polls.
    Gathering,
    /// The last change is too young.
    Settling {
        /// What is left.
        left: Duration,
    },
    /// Not all replicas are ready.
    NotReady {
        /// How many are.
        ready: Replicas,
        /// Of how many.
        wanted: Replicas,
    },
    /// The group is handing partitions over.
    Rebalancing,
    /// More would help; the next poll must agree.
    Confirming {
        /// The count it would be.
        wanted: Replicas,
    },
    /// More would help, but `pauseUp` is set.
    PausedUp {
        /// The count it would be.
        wanted: Replicas,
    },
    /// Fewer would do, but `pauseDown` is set.
    PausedDown {
        /// The count it would be.
        wanted: Replicas,
    },
    /// Replicas added before raised nothing.
    DownstreamBound {
        /// Until the next try.
        left: Duration,
    },
    /// All there may be are running, and it is not enough.
    AtMost {
        /// The most.
        most: Replicas,
        /// Records that wait.
        lag: u64,
        /// How long they wait.
        delay: Option<Duration>,
    },
    /// Fewer would do, but not for long enough yet.
    Stabilising {
        /// The count it would be.
        wanted: Replicas,
        /// What is left.
        left: Duration,
    },
    /// It is right as it is.
    Steady {
        /// Records a second that come in.
        input: f64,
        /// What the replicas can do, records a second, where it is known.
        capacity: Option<f64>,
        /// How long records wait.
        delay: Option<Duration>,
    },
    /// Nothing to do, and nothing runs.
    Asleep,
    /// More comes in than the replicas can do.
    Input {
        /// Records a second that come in.
        input: f64,
        /// What the replicas can do.
        capacity: f64,
    },
    /// What waits would take too long.
    Backlog {
        /// Records that wait.
        lag: u64,
        /// How long it would take; none: it would never end.
        drain: Option<Duration>,
        /// How long it may.
        catch_up: Duration,
    },
    /// It falls behind, and nobody knows how much a replica can do: twice as many.
    Doubling {
        /// Records that wait.
        lag: u64,
    },
    /// One worker has more than its share, though the sum is fine.
    Uneven {
        /// The partition that falls behind.
        partition: Option<PartitionName>,
        /// What waits there.
        lag: u64,
    },
    /// Replicas are busier than they are meant to be.
    Busy {
        /// Share of their time at work.
        busy: f64,
    },
    /// Work has come for a stage that sleeps.
    Wake {
        /// Records that wait.
        lag: u64,
    },
    /// Fewer have been enough for long.
    Spare {
        /// Records a second that come in.
        input: f64,
        /// For how long.
        watched: Duration,
    },
    /// Fewer, to learn how much one can do.
    Probe {
        /// For how long there was no backlog.
        watched: Duration,
    },
    /// Nothing to do for long.
    Sleep {
        /// For how long.
        watched: Duration,
    },
    /// More replicas did less: back.
    GoBack {
        /// Records a second before.
        before: f64,
        /// Records a second after.
        after: f64,
    },
}

impl Reason {
    /// One word, in CamelCase.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Fixed => "Fixed",
            Self::Off => "Off",
            Self::Paused => "Paused",
            Self::BelowMin { .. } => "BelowMin",
            Self::AboveMax { .. } => "AboveMax",
            Self::NoData { .. } => "NoData",
            Self::Gathering => "Gathering",
            Self::Settling { .. } => "Settling",
            Self::NotReady { .. } => "NotReady",
            Self::Rebalancing => "Rebalancing",
            Self::Confirming { .. } => "Confirming",
            Self::PausedUp { .. } => "PausedUp",
            Self::PausedDown { .. } => "PausedDown",
            Self::DownstreamBound { .. } => "DownstreamBound",
            Self::AtMost { .. } => "AtMost",
            Self::Stabilising { .. } => "Stabilising",
            Self::Steady { .. } => "Steady",
            Self::Asleep => "Asleep",
            Self::Input { .. } => "Input",
            Self::Backlog { .. } => "Backlog",
            Self::Doubling { .. } => "Doubling",
            Self::Uneven { .. } => "Uneven",
            Self::Busy { .. } => "Busy",
            Self::Wake { .. } => "Wake",
            Self::Spare { .. } => "Spare",
            Self::Probe { .. } => "Probe",
            Self::Sleep { .. } => "Sleep",
            Self::GoBack { .. } => "GoBack",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed => f.write_str("no scaling is asked for"),
            Self::Off => f.write_str("scaling is off"),
            Self::Paused => f.write_str("the pipeline is paused"),
            Self::BelowMin { least, floor: None } => write!(f, "at least {least} are asked for"),
            Self::BelowMin { least, floor: Some(floor) } => {
                write!(f, "at least {least} are asked for now ({floor})")
            }
            Self::AboveMax { most } => {
                write!(f, "at most {most} are of use: `max`, or the topic's partitions")
            }
            Self::NoData { why } => write!(f, "nothing is changed without data: {why}"),
            Self::Gathering => f.write_str("rates need two looks at the stage"),
            Self::Settling { left } => write!(f, "the last change has {} to take effect", secs(*left)),
            Self::NotReady { ready, wanted } => write!(f, "{ready} of {wanted} replicas are ready"),
            Self::Rebalancing => f.write_str("the consumer group is handing partitions over"),
            Self::Confirming { wanted } => write!(f, "{wanted} seem to be needed; the next look decides"),
            Self::PausedUp { wanted } => write!(f, "{wanted} are needed, but `pauseUp` is set"),
            Self::PausedDown { wanted } => write!(f, "{wanted} would do, but `pauseDown` is set"),
            Self::DownstreamBound { left } => write!(
                f,
                "the replicas added last raised nothing: what comes after this stage is the limit; next try in {}",
                secs(*left)
            ),
            Self::AtMost { most, lag, delay } => {
                write!(f, "all {most} that may run do, and {} records wait", count(*lag))?;
                delay.map_or(Ok(()), |delay| write!(f, " for {}", secs(delay)))
            }
            Self::Stabilising { wanted, left } => {
                write!(f, "{wanted} would do, if so for {} more", secs(*left))
            }
            Self::Steady { input, capacity, delay } => {
                write!(f, "{} records/s come in", number(*input))?;
                if let Some(capacity) = capacity {
                    write!(f, " of {} possible", number(*capacity))?;
                }
                delay.map_or(Ok(()), |delay| write!(f, ", waiting {}", secs(delay)))
            }
            Self::Asleep => f.write_str("nothing to do"),
            Self::Input { input, capacity } => {
                write!(f, "{} records/s come in, {} can be done", number(*input), number(*capacity))
            }
            Self::Backlog { lag, drain: Some(drain), catch_up } => write!(
                f,
                "{} records wait, which would take {}, more than {}",
                count(*lag),
                secs(*drain),
                secs(*catch_up)
            ),
            Self::Backlog { lag, drain: None, .. } => {
                write!(f, "{} records wait, and they become more", count(*lag))
            }
            Self::Doubling { lag } => {
                write!(f, "{} records wait, and it is not known yet what one replica can do", count(*lag))
            }
            Self::Uneven { partition, lag } => {
                write!(f, "{} records wait on ", count(*lag))?;
                match partition {
                    Some(name) => write!(f, "{name}")?,
                    None => f.write_str("one replica")?,
                }
                f.write_str(", whose replica has too many partitions")
            }
            Self::Busy { busy } => write!(f, "replicas are at work {:.0} % of their time", busy * 100.0),
            Self::Wake { lag: 0 } => f.write_str("records have come"),
            Self::Wake { lag } => write!(f, "{} records have come", count(*lag)),
            Self::Spare { input, watched } => {
                write!(
                    f,
                    "{} records/s come in; fewer have been enough for {}",
                    number(*input),
                    secs(*watched)
                )
            }
            Self::Probe { watched } => write!(
                f,
                "no backlog for {}, and it is not known yet what one replica can do: fewer will tell",
                secs(*watched)
            ),
            Self::Sleep { watched } => write!(f, "nothing to do for {}", secs(*watched)),
            Self::GoBack { before, after } => write!(
                f,
                "with more replicas only {} records/s were done, before it were {}",
                number(*after),
                number(*before)
            ),
        }
    }
}

/// Something about a stage that scaling cannot put right.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// More comes in on one partition than one replica can do, and a partition has one reader.
    HotPartition {
        /// Which.
        partition: PartitionName,
        /// Records a second that come in.
        input: f64,
        /// Records a second one replica can do.
        capacity: f64,
    },
    /// A partition has not moved for a minute while others did.
    StuckPartition {
        /// Which.
        partition: PartitionName,
        /// Records that wait there.
        lag: u64,
    },
    /// Replicas that were added raised nothing.
    DownstreamBound {
        /// Records a second that get through.
        output: f64,
        /// Until more are tried.
        left: Duration,
    },
}

impl Finding {
    /// One word, in CamelCase.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::HotPartition { .. } => "HotPartition",
            Self::StuckPartition { .. } => "StuckPartition",
            Self::DownstreamBound { .. } => "DownstreamBound",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HotPartition { partition, input, capacity } => write!(
                f,
                "{} records/s come in on {partition}, one replica can do {}: more replicas do not help; spread the keys",
                number(*input),
                number(*capacity)
            ),
            Self::StuckPartition { partition, lag } => write!(
                f,
                "{partition} has not moved for a minute while others did; {} records wait: look at its reader's log",
                count(*lag)
            ),
            Self::DownstreamBound { output, left } => write!(
                f,
                "more replicas do not get more than {} records/s through: look at what comes after this stage; next try in {}",
                number(*output),
                secs(*left)
            ),
        }
    }
}

/// A length of time in whole seconds.
fn secs(duration: Duration) -> Span {
    Span(Duration::from_secs(duration.as_secs_f64().round() as u64))
}

/// A rate: whole from ten on.
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
