//! What goes wrong, and how often.

use std::collections::BTreeMap;
use std::time::Duration;

use herd_spec::units::WallTime;

/// The faults of a simulated bus, as chances from 0 to 1. [`FaultSchedule::default`] is calm: nothing goes wrong.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FaultSchedule {
    /// What all chance comes from.
    pub seed: u64,
    /// When it clears up: from then on nothing new goes wrong.
    pub until: WallTime,
    /// What happens to a record that is sent.
    pub sending: Sending,
    /// The same for topics that have faults of their own, by name.
    pub topics: BTreeMap<String, Sending>,
    /// Chance that a fetch brings a few of the records at hand only.
    pub partial: f64,
    /// Chance that a fetch brings nothing, and the following neither.
    pub dry: f64,
    /// How long that lasts at most.
    pub longest_dry: Duration,
    /// Chance that a request is not answered, and that a commit waits for up to a session, as while the group waits for others.
    pub unanswered: f64,
    /// How long the group waits for a member that died before its partitions go to others.
    pub session: Duration,
    /// How long consumers take to see that partitions were added.
    pub discovery: Duration,
}

/// What happens to a record that is sent. The order of a producer's records in a partition is kept, but for doubles.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sending {
    /// Chance that it is written late.
    pub late: f64,
    /// Chance that it is acknowledged late.
    pub late_ack: f64,
    /// Chance that it is written and reported as failed: its acknowledgement was lost.
    pub lost_ack: f64,
    /// Chance that it is not written, and reported as failed.
    pub unwritten: f64,
    /// Chance that it is written a second time, a while later: the client tried again, and both arrived.
    pub doubled: f64,
    /// Chance that there is no room in the queue for a while.
    pub full: f64,
    /// The longest any of this takes.
    pub longest: Duration,
}

impl FaultSchedule {
    pub(super) fn sending(&self, topic: &str) -> &Sending {
        self.topics.get(topic).unwrap_or(&self.sending)
    }
}
