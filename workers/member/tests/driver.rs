//! A member over a consumer whose fetches are written down beforehand.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use herd_bus::{BusError, Change, Commit, Consumer, Fetched, Headers, Record};
use herd_member::{Assignment, Commits, Demand, Flush, Member, Processor, STEP, Start, TakeOver, Waited};
use herd_spec::units::{Offset, Partition, WallTime};
use herd_stage::SystemClock;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

const P: Partition = Partition(0);

/// What a fetch brings: offsets of records of partition 0, and changes.
type Scripted = (Vec<i64>, Vec<Change>);

/// What was asked of the consumer and of the processor, in order.
type Calls = Arc<Mutex<Vec<String>>>;

struct ScriptedConsumer {
    fetches: VecDeque<Scripted>,
    calls: Calls,
    owner: bool,
}

impl Consumer for ScriptedConsumer {
    fn fetch<E, F>(&mut self, _wait: Duration, _limit: usize, mut each: F) -> Result<Fetched, E>
    where
        E: From<BusError>,
        F: FnMut(&Record<'_>) -> Result<(), E>,
    {
        let (offsets, changes) = self.fetches.pop_front().unwrap_or_default();
        for offset in &offsets {
            each(&Record {
                partition: P,
                offset: Offset(*offset),
                timestamp: WallTime(0),
                key: None,
                value: None,
                headers: Headers::NONE,
            })?;
        }
        Ok(Fetched { records: offsets.len(), changes })
    }

    fn start(&mut self, from: &[(Partition, Offset)]) -> Result<(), BusError> {
        self.calls.lock().push(format!("start at {}", from[0].1));
        Ok(())
    }

    fn release(&mut self, _: &[Partition]) -> Result<(), BusError> {
        self.calls.lock().push("release".into());
        Ok(())
    }

    fn pause(&mut self, partitions: &[Partition], paused: bool) -> Result<(), BusError> {
        self.calls.lock().push(format!("{} {}", if paused { "pause" } else { "resume" }, partitions.len()));
        Ok(())
    }

    fn committed(&mut self, _: &[Partition]) -> Result<Vec<(Partition, Option<Commit>)>, BusError> {
        Ok(vec![(P, None)])
    }

    fn commit(&mut self, commits: &[(Partition, Commit)]) -> Result<(), BusError> {
        if !self.owner {
            return Err(BusError::NotOwner { doing: "committing".into(), why: "lost".into() });
        }
        self.calls.lock().push(format!("commit {}", commits[0].1.next));
        Ok(())
    }

    fn partitions(&mut self, _: Duration) -> Result<u32, BusError> {
        Ok(1)
    }

    fn end_offsets(&mut self, _: &[Partition], _: Duration) -> Result<Vec<(Partition, Offset)>, BusError> {
        Ok(vec![(P, Offset(0))])
    }

    fn close(self) {
        self.calls.lock().push("close".into());
    }
}

/// Counts records, and commits after each step.
struct Counter {
    calls: Calls,
    next: i64,
    /// How often it does not know yet where to begin.
    later: u32,
    /// At this offset it fails.
    fails_at: i64,
    /// Whether it waits as a member in the next step.
    waits: bool,
    busy: u32,
}

impl Processor for Counter {
    type Consumer = ScriptedConsumer;
    type Clock = SystemClock;
    type Error = String;

    fn bus_error(&self, error: BusError) -> String {
        error.to_string()
    }

    fn demand(&mut self, wait: Duration) -> Option<Demand> {
        Some(Demand { limit: 10, wait, idle: true })
    }

    fn take_over(&mut self, _: &mut Assignment<Self>, _: &[Partition]) -> Result<TakeOver, String> {
        if self.later > 0 {
            self.later -= 1;
            self.calls.lock().push("take over later".into());
            return Ok(TakeOver::Later(Duration::ZERO));
        }
        Ok(TakeOver::Begin(vec![Start::at(P, Offset(self.next))]))
    }

    fn process(&mut self, record: &Record<'_>) -> Result<(), String> {
        if record.offset.0 == self.fails_at {
            return Err(format!("record {} is refused", record.offset));
        }
        self.next = record.offset.0 + 1;
        Ok(())
    }

    fn advance(&mut self, assignment: &mut Assignment<Self>, _: Duration) -> Result<Commits, String> {
        self.busy = self.busy.saturating_sub(1);
        if std::mem::take(&mut self.waits) {
            let waited =
                assignment.wait_as_member(self, Duration::from_secs(60), 1, &CancellationToken::new())?;
            assert_eq!(waited, Waited::Interrupted);
            self.calls.lock().push("interrupted".into());
        }
        Ok(vec![(P, Commit { next: Offset(self.next), metadata: String::new() })])
    }

    fn is_busy(&self) -> bool {
        self.busy > 0
    }

    fn flush(&mut self, _: &mut Assignment<Self>, why: Flush<'_>) -> Result<Commits, String> {
        self.calls.lock().push(format!("flush {why:?}"));
        self.busy = 2;
        Ok(Vec::new())
    }

    fn drop_partitions(&mut self, _: &[Partition]) {
        self.calls.lock().push("drop".into());
    }
}

fn assigned() -> Scripted {
    (vec![], vec![Change::Assigned(vec![P])])
}

fn member(
    fetches: impl IntoIterator<Item = Scripted>,
    change: impl FnOnce(&mut Counter, &mut ScriptedConsumer),
) -> (Member<Counter>, Calls) {
    let calls = Calls::default();
    let mut consumer =
        ScriptedConsumer { fetches: fetches.into_iter().collect(), calls: Arc::clone(&calls), owner: true };
    let mut counter =
        Counter { calls: Arc::clone(&calls), next: 0, later: 0, fails_at: -1, waits: false, busy: 0 };
    change(&mut counter, &mut consumer);
    (Member::new(consumer, counter, SystemClock, None), calls)
}

fn steps(member: &mut Member<Counter>, count: usize) {
    for _ in 0..count {
        member.step(STEP).unwrap();
    }
}

#[test]
fn commits_what_is_new_and_leaves_the_group_after_a_flush() {
    let (mut member, calls) = member([assigned(), (vec![0, 1], vec![]), (vec![], vec![])], |_, _| {});
    steps(&mut member, 3);
    assert_eq!(*calls.lock(), ["start at 0", "commit 0", "commit 2"]);
    calls.lock().clear();
    member.finish().unwrap();
    assert_eq!(*calls.lock(), ["flush Finish", "close"]);
}

#[test]
fn flushes_and_commits_revoked_partitions_before_it_releases_them() {
    let (mut member, calls) = member([assigned(), (vec![0], vec![Change::Revoked(vec![P])])], |_, _| {});
    steps(&mut member, 2);
    let flush = "flush HandOver([Partition(0)])";
    assert_eq!(*calls.lock(), ["start at 0", "commit 0", flush, "commit 1", "drop", "release"]);
}

#[test]
fn releases_revoked_partitions_when_they_were_lost_before_the_commit() {
    let revoked = (vec![0], vec![Change::Revoked(vec![P])]);
    let (mut member, calls) = member([assigned(), revoked], |counter, consumer| {
        consumer.owner = false;
        assert_eq!(counter.next, 0);
    });
    // Outside of handing over, somebody else's partition ends the member.
    assert!(member.step(STEP).unwrap_err().contains("another member"));
    member.step(STEP).unwrap();
    assert_eq!(calls.lock().last().unwrap(), "release");
}

#[test]
fn drops_lost_partitions_without_a_flush() {
    let (mut member, calls) = member([assigned(), (vec![], vec![Change::Lost(vec![P])])], |_, _| {});
    steps(&mut member, 2);
    assert_eq!(*calls.lock(), ["start at 0", "commit 0", "drop", "release"]);
}

#[test]
fn takes_partitions_over_again_whose_logs_begin_anew() {
    let restarted = (vec![0, 1], vec![Change::Restarted(vec![P])]);
    let (mut member, calls) = member([assigned(), restarted], |counter, _| counter.later = 0);
    steps(&mut member, 2);
    let flush = "flush HandOver([Partition(0)])";
    assert_eq!(
        *calls.lock(),
        ["start at 0", "commit 0", flush, "commit 2", "drop", "start at 2", "commit 2"]
    );
}

#[test]
fn asks_again_where_to_begin_until_the_processor_knows() {
    let (mut member, calls) = member([assigned()], |counter, _| counter.later = 2);
    steps(&mut member, 3);
    assert_eq!(*calls.lock(), ["take over later", "take over later", "start at 0", "commit 0"]);
}

#[test]
fn returns_the_error_of_a_record_and_hands_out_no_further_one() {
    let (mut member, _) = member([assigned(), (vec![0, 1, 2], vec![])], |counter, _| counter.fails_at = 1);
    member.step(STEP).unwrap();
    assert_eq!(member.step(STEP), Err("record 1 is refused".into()));
    assert_eq!(member.processor().next, 1);
}

#[test]
fn a_wait_ends_when_partitions_are_revoked_and_applies_that_in_the_next_step() {
    let revoked = (vec![], vec![Change::Revoked(vec![P])]);
    let (mut member, calls) = member([assigned(), revoked], |counter, _| counter.waits = true);
    steps(&mut member, 2);
    let flush = "flush HandOver([Partition(0)])";
    let expected = ["start at 0", "pause 1", "resume 1", "interrupted", "commit 0", flush, "drop", "release"];
    assert_eq!(*calls.lock(), expected);
}
