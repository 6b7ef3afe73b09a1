//! Which records of the partitions of a consumer are handed out.

use herd_spec::units::{Offset, Partition};

/// Where reading each partition stands, by number.
#[derive(Clone, Debug, Default)]
pub(super) struct Reading(Vec<State>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// It was never started, or is given back.
    #[default]
    Stopped,
    /// Records are handed out; the next one has this offset or a later one.
    From(i64),
    /// Its log begins anew: nothing is handed out until it is started again.
    Restarted,
}

/// What becomes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// It is handed out.
    Yes,
    /// It is passed over.
    No,
    /// It is passed over, because the log begins anew; an offset of at least this was expected.
    Restarted { expected: i64 },
}

impl Reading {
    /// Records from this offset on are handed out.
    pub(super) fn start(&mut self, partition: Partition, from: Offset) {
        self.set(partition, State::From(from.0));
    }

    /// No further record is handed out.
    pub(super) fn stop(&mut self, partition: Partition) {
        self.set(partition, State::Stopped);
    }

    /// Whether it was started, and not stopped since.
    pub(super) fn is_started(&self, partition: Partition) -> bool {
        self.0.get(partition.0 as usize).is_some_and(|state| *state != State::Stopped)
    }

    /// Takes the offset of the next record of a partition in. librdkafka goes to the start of a log that has become shorter than its
    /// position, which a stage must not take for records that come a second time.
    pub(super) fn expects(&mut self, partition: Partition, offset: i64) -> Expected {
        let Some(state) = self.0.get_mut(partition.0 as usize) else { return Expected::No };
        match *state {
            State::From(next) if offset >= next => {
                *state = State::From(offset + 1);
                Expected::Yes
            }
            State::From(expected) => {
                *state = State::Restarted;
                Expected::Restarted { expected }
            }
            State::Stopped | State::Restarted => Expected::No,
        }
    }

    fn set(&mut self, partition: Partition, state: State) {
        let index = partition.0 as usize;
        if index >= self.0.len() {
            self.0.resize(index + 1, State::Stopped);
        }
        self.0[index] = state;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_begins_anew_is_told_once_and_read_when_it_is_started_again() {
        let (p, mut reading) = (Partition(1), Reading::default());
        assert_eq!((reading.is_started(p), reading.expects(p, 0)), (false, Expected::No));
        reading.start(p, Offset(7));
        assert_eq!([7, 9, 10].map(|offset| reading.expects(p, offset)), [Expected::Yes; 3]);
        assert_eq!(reading.expects(p, 0), Expected::Restarted { expected: 11 });
        assert_eq!((reading.is_started(p), reading.expects(p, 1)), (true, Expected::No));
        reading.start(p, Offset(0));
        assert_eq!(reading.expects(p, 0), Expected::Yes);
        reading.stop(p);
        assert_eq!((reading.is_started(p), reading.expects(p, 1)), (false, Expected::No));
    }
}
