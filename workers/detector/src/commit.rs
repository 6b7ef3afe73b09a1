//! What a commit carries besides the offset, in both steps: where to start again, and what is closed by then.

use herd_bus::Commit;
use herd_spec::units::{EventTime, Offset};

/// The position of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The next offset to process.
    pub next: Offset,
    /// The first offset of the oldest window still open: where a successor starts to read.
    pub replay_from: Offset,
    /// Windows that end at or before this are closed; none before the first event.
    pub closed: Option<EventTime>,
}

impl Position {
    /// Before anything was processed.
    pub const START: Self = Self { next: Offset(0), replay_from: Offset(0), closed: None };

    /// As the bus takes it.
    #[must_use]
    pub fn to_commit(self) -> Commit {
        let closed = self.closed.map_or_else(|| "-".to_owned(), |time| time.0.to_string());
        Commit { next: self.next, metadata: format!("1 {} {closed}", self.replay_from) }
    }

    /// From a commit. One without our metadata (set by hand, by a tool) starts at its offset with nothing open.
    #[must_use]
    pub fn of(commit: &Commit) -> Self {
        let bare = Self { next: commit.next, replay_from: commit.next, closed: None };
        let mut words = commit.metadata.split(' ');
        if words.next() != Some("1") {
            return bare;
        }
        let (Some(from), Some(closed)) = (words.next(), words.next()) else { return bare };
        match (from.parse(), closed, closed.parse()) {
            (Ok(from), "-", _) => Self { replay_from: Offset(from), ..bare },
            (Ok(from), _, Ok(time)) => {
                Self { replay_from: Offset(from), closed: Some(EventTime(time)), ..bare }
            }
            _ => bare,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_position_reads_what_it_writes(next in 0..i64::MAX, from in 0..i64::MAX, closed in proptest::option::of(any::<i64>())) {
            let position = Position { next: Offset(next), replay_from: Offset(from), closed: closed.map(EventTime) };
            prop_assert_eq!(Position::of(&position.to_commit()), position);
        }

        #[test]
        fn foreign_metadata_starts_at_the_offset(metadata in "[^1].{0,40}") {
            let position = Position::of(&Commit { next: Offset(7), metadata });
            prop_assert_eq!(position, Position { next: Offset(7), replay_from: Offset(7), closed: None });
        }
    }
}
