//! The kinds of reasons and findings: one word each, without their numbers, for conditions, Events and metrics.

use std::fmt;

/// The kind of a [`Reason`](super::Reason).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReasonKind {
    /// The stage has no `scaling`.
    Fixed,
    /// `mode: Off`.
    Off,
    /// The pipeline is paused.
    Paused,
    /// Fewer replicas run than the minimum.
    BelowMin,
    /// More replicas run than the maximum.
    AboveMax,
    /// The stage could not be polled.
    NoData,
    /// Rates are not known before the second poll.
    Gathering,
    /// The last change has not taken effect yet.
    Settling,
    /// Not all replicas are ready.
    NotReady,
    /// The consumer group is rebalancing.
    Rebalancing,
    /// The next poll must confirm that more are needed.
    Confirming,
    /// More are needed, but `pauseUp` is set.
    PausedUp,
    /// Fewer would be enough, but `pauseDown` is set.
    PausedDown,
    /// Replicas that were added did not raise the output.
    DownstreamBound,
    /// The maximum runs, and more would be needed.
    AtMost,
    /// Fewer would be enough, but not for long enough yet.
    Stabilising,
    /// The number is right.
    Steady,
    /// Nothing to do, and no replica runs.
    Asleep,
    /// The input exceeds the capacity.
    Input,
    /// The lag would take longer than `catchUp`.
    Backlog,
    /// The lag grows, and the capacity of a replica is unknown.
    Doubling,
    /// One replica has too many partitions.
    Uneven,
    /// Replicas are busier than `utilisation` allows.
    Busy,
    /// Work arrived for a stage without replicas.
    Wake,
    /// Fewer were enough for all of `stabilisation`.
    Spare,
    /// Fewer, to learn the capacity of a replica.
    Probe,
    /// Nothing to do for all of `stabilisation`.
    Sleep,
    /// More replicas lowered the output.
    GoBack,
}

impl ReasonKind {
    /// The word, in CamelCase.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fixed => "Fixed",
            Self::Off => "Off",
            Self::Paused => "Paused",
            Self::BelowMin => "BelowMin",
            Self::AboveMax => "AboveMax",
            Self::NoData => "NoData",
            Self::Gathering => "Gathering",
            Self::Settling => "Settling",
            Self::NotReady => "NotReady",
            Self::Rebalancing => "Rebalancing",
            Self::Confirming => "Confirming",
            Self::PausedUp => "PausedUp",
            Self::PausedDown => "PausedDown",
            Self::DownstreamBound => "DownstreamBound",
            Self::AtMost => "AtMost",
            Self::Stabilising => "Stabilising",
            Self::Steady => "Steady",
            Self::Asleep => "Asleep",
            Self::Input => "Input",
            Self::Backlog => "Backlog",
            Self::Doubling => "Doubling",
            Self::Uneven => "Uneven",
            Self::Busy => "Busy",
            Self::Wake => "Wake",
            Self::Spare => "Spare",
            Self::Probe => "Probe",
            Self::Sleep => "Sleep",
            Self::GoBack => "GoBack",
        }
    }
}

impl fmt::Display for ReasonKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The kind of a [`Finding`](super::Finding).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingKind {
    /// The input of one partition exceeds the capacity of a replica.
    HotPartition,
    /// A partition does not advance while others do.
    StuckPartition,
    /// Replicas that were added did not raise the output.
    DownstreamBound,
}

impl FindingKind {
    /// The word, in CamelCase.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HotPartition => "HotPartition",
            Self::StuckPartition => "StuckPartition",
            Self::DownstreamBound => "DownstreamBound",
        }
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
