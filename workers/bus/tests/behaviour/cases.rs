//! The cases, for any bus.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use herd_bus::{
    Acks, Bus, BusError, Change, Commit, Consumer, Membership, Outgoing, Producer, Since, partitioner,
};
use herd_spec::units::{Offset, Partition, WallTime};

use crate::member::{Member, PATIENCE, both, fill, plan, record, scan, send, topic};

pub(crate) fn records_of_a_partition_come_in_the_order_they_were_sent<B: Bus>(bus: &B) {
    let topic = topic(bus, 3);
    let mut member = Member::join(bus, &topic, "g");
    for round in 0..5 {
        fill(bus, &topic, 3, round * 100, 100);
    }
    member.until("all have come", |m| m.seen.len() == 1500);
    for partition in 0..3 {
        let of: Vec<_> = member.seen.iter().filter(|seen| seen.partition == partition).collect();
        assert_eq!(of.iter().map(|s| s.offset).collect::<Vec<_>>(), (0..500).collect::<Vec<_>>());
        let values: Vec<_> = of.iter().map(|s| s.text()).collect();
        assert_eq!(values, (0..500).map(|i| format!("{partition}:{i}")).collect::<Vec<_>>());
    }
}

pub(crate) fn an_acknowledged_record_can_be_read<B: Bus>(bus: &B) {
    let topic = topic(bus, 1);
    for i in 0..10 {
        fill(bus, &topic, 1, i, 1);
        let (seen, end) = scan(bus, &topic, 0);
        assert_eq!((seen.len(), end), (i + 1, i as i64 + 1));
    }
}

pub(crate) fn a_key_goes_to_the_partition_of_kafkas_java_client<B: Bus>(bus: &B) {
    let topic = topic(bus, 7);
    let keys: Vec<String> = (0..200).map(|i| format!("user-{i}")).chain([String::new()]).collect();
    let records: Vec<_> = keys.iter().map(|key| record(&topic, None, Some(key), Some("x"))).collect();
    send(bus, &records);
    let mut found = 0;
    for partition in 0..7 {
        for seen in scan(bus, &topic, partition).0 {
            assert_eq!(partitioner::partition_of(&seen.key.unwrap(), 7), Partition(partition));
            found += 1;
        }
    }
    assert_eq!(found, keys.len());
}

pub(crate) fn headers_tombstones_and_times_arrive<B: Bus>(bus: &B) {
    let topic = topic(bus, 1);
    let headers: [(&str, &[u8]); 2] = [("why", b"because"), ("empty", b"")];
    let with_headers = Outgoing { headers: &headers, ..record(&topic, Some(0), Some("k"), Some("v")) };
    let tombstone =
        Outgoing { timestamp: WallTime(1_700_000_000_777), ..record(&topic, Some(0), Some("k"), None) };
    send(bus, &[with_headers, tombstone, record(&topic, Some(0), None, Some(""))]);
    let mut seen = Vec::new();
    bus.scan(&topic, Partition(0), PATIENCE, &mut |r| {
        let headers: Vec<_> = r.headers.iter().map(|(n, v)| (n.to_owned(), v.to_vec())).collect();
        seen.push((r.key.map(<[u8]>::to_vec), r.value.map(<[u8]>::to_vec), r.timestamp.0, headers));
    })
    .unwrap();
    let sent = headers.map(|(name, value)| (name.to_owned(), value.to_vec())).to_vec();
    assert_eq!(
        seen,
        [
            (Some(b"k".to_vec()), Some(b"v".to_vec()), 1_700_000_000_000, sent),
            (Some(b"k".to_vec()), None, 1_700_000_000_777, vec![]),
            (None, Some(vec![]), 1_700_000_000_000, vec![]),
        ]
    );
}

pub(crate) fn rejects_a_record_for_a_topic_that_does_not_exist<B: Bus>(bus: &B) {
    let producer = bus.producer("test").unwrap();
    let name = topic(bus, 2);
    let acks = Acks::new();
    // A partition the topic does not have: no waiting for a topic that may yet come.
    let sent = producer.send(&record(&name, Some(9), None, Some("x")), acks.expect(0));
    assert!(acks.wait(PATIENCE));
    assert!(sent.is_err() || acks.take_failed().len() == 1);
    assert!(matches!(bus.partitions("no-such-topic"), Err(BusError::Missing { .. })));
    assert!(bus.consumer("no-such-topic", Membership::All).is_err());
    assert_eq!(producer.flush(PATIENCE), 0);
    bus.ping(PATIENCE).unwrap();
}

pub(crate) fn a_fetch_hands_out_no_more_than_its_limit<B: Bus>(bus: &B) {
    let topic = topic(bus, 2);
    fill(bus, &topic, 2, 0, 50);
    let mut consumer = bus.consumer(&topic, Membership::All).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let mut total = 0;
    while total < 100 {
        assert!(Instant::now() < deadline);
        let count = Cell::new(0);
        let fetched = consumer.fetch(Duration::from_millis(50), 7, |_| {
            count.set(count.get() + 1);
            Ok::<_, BusError>(())
        });
        let fetched = fetched.unwrap();
        assert!(count.get() <= 7);
        assert_eq!(fetched.records, count.get());
        total += count.get();
        for change in fetched.changes {
            if let Change::Assigned(partitions) = change {
                consumer.start(&partitions.into_iter().map(|p| (p, Offset(0))).collect::<Vec<_>>()).unwrap();
            }
        }
    }
    assert_eq!(total, 100);
}

pub(crate) fn two_members_share_the_partitions<B: Bus>(bus: &B) {
    let topic = topic(bus, 5);
    let (mut a, mut b) = (Member::join(bus, &topic, "g"), Member::join(bus, &topic, "g"));
    both(&mut a, &mut b, "both have their share", |a, b| {
        a.owned.len().min(b.owned.len()) == 2 && a.owned.len() + b.owned.len() == 5
    });
    fill(bus, &topic, 5, 0, 20);
    both(&mut a, &mut b, "all have come", |a, b| a.seen.len() + b.seen.len() == 100);
    let all: BTreeSet<_> = a.seen.iter().chain(&b.seen).map(|s| s.text()).collect();
    assert_eq!(all.len(), 100);
    assert!(a.seen.iter().all(|s| a.owned.contains_key(&s.partition)));
}

pub(crate) fn a_new_member_does_not_interrupt_partitions_that_stay<B: Bus>(bus: &B) {
    let topic = topic(bus, 4);
    let mut a = Member::join(bus, &topic, "g");
    a.until("it has all", |a| a.owned.len() == 4);
    let mut b = Member::join(bus, &topic, "g");
    both(&mut a, &mut b, "they share", |a, b| a.owned.len() == 2 && b.owned.len() == 2);
    b.consumer.close();
    a.until("it has all again", |a| a.owned.len() == 4);
    let mut moved = BTreeSet::new();
    let mut assigned = Vec::new();
    for change in &a.changes {
        match change {
            Change::Assigned(partitions) => assigned.extend(partitions.iter().copied()),
            Change::Revoked(partitions) => moved.extend(partitions.iter().copied()),
            Change::Lost(_) | Change::Restarted(_) => panic!("{change:?}"),
        }
    }
    // Two went and came back; the other two were assigned once and never touched.
    assert_eq!(moved.len(), 2);
    assert_eq!(assigned.len(), 6);
}

pub(crate) fn takes_revoked_partitions_over_at_the_committed_offset<B: Bus>(bus: &B) {
    let topic = topic(bus, 2);
    fill(bus, &topic, 2, 0, 30);
    let mut a = Member::join(bus, &topic, "g");
    a.until("all have come", |a| a.seen.len() == 60);
    let mut b = Member::join(bus, &topic, "g");
    both(&mut a, &mut b, "one has moved", |a, b| a.owned.len() == 1 && b.owned.len() == 1);
    let moved = *b.owned.keys().next().unwrap();
    assert_eq!(b.found[&moved], Some(Commit { next: Offset(30), metadata: "handed over".into() }));
    fill(bus, &topic, 2, 30, 5);
    both(&mut a, &mut b, "the rest has come", |a, b| a.seen.len() == 65 && b.seen.len() == 5);
    assert_eq!(b.seen[0].offset, 30);
}

pub(crate) fn rejects_a_commit_for_a_released_partition<B: Bus>(bus: &B) {
    let topic = topic(bus, 2);
    let mut a = Member::join(bus, &topic, "g");
    a.until("it has all", |a| a.owned.len() == 2);
    let mut b = Member::join(bus, &topic, "g");
    both(&mut a, &mut b, "one has moved", |a, b| a.owned.len() == 1 && b.owned.len() == 1);
    let moved = Partition(*b.owned.keys().next().unwrap());
    let commit = Commit { next: Offset(1), metadata: String::new() };
    let refused = a.consumer.commit(&[(moved, commit)]).unwrap_err();
    assert!(matches!(refused, BusError::NotOwner { .. }), "{refused}");
    assert!(!refused.is_retryable());
    assert!(a.consumer.start(&[(moved, Offset(0))]).is_err());
}

pub(crate) fn commits_kept_partitions_at_any_moment_of_a_rebalance<B: Bus>(bus: &B) {
    let topic = topic(bus, 6);
    let over = std::sync::atomic::AtomicBool::new(false);
    let over = &over;
    std::thread::scope(|threads| {
        let mut stays = Member::join(bus, &topic, "g");
        stays.until("it owns all", |m| m.owned.len() == 6);
        threads.spawn(move || {
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                stays.step();
                let owned: Vec<Partition> = stays.owned.keys().copied().map(Partition).collect();
                for _ in 0..20 {
                    // Panics if it is refused.
                    stays.commit(&owned, "it stays");
                }
            }
        });
        for _ in 0..4 {
            let mut comes = Member::join(bus, &topic, "g");
            comes.until("it has its share", |m| m.owned.len() == 3);
            comes.consumer.close();
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

pub(crate) fn the_group_has_the_last_of_many_commits<B: Bus>(bus: &B) {
    let topic = topic(bus, 2);
    let mut a = Member::join(bus, &topic, "g");
    a.until("it has all", |a| a.owned.len() == 2);
    let has = |next: i64| {
        let progress = bus.progress(&topic, "g").unwrap();
        progress.iter().all(|progress| progress.committed == Some(Offset(next)))
    };
    for round in 1..=20 {
        fill(bus, &topic, 2, 0, 1);
        a.until("one more has come", |a| a.seen.len() == 2 * round);
        a.commit(&[Partition(0), Partition(1)], "round");
    }
    a.until("the group has it", |_| has(20));
    fill(bus, &topic, 2, 0, 1);
    a.until("one more has come", |a| a.seen.len() == 42);
    a.commit(&[Partition(0), Partition(1)], "round");
    // Also what nobody fetches after any more.
    a.consumer.close();
    assert!(has(21));
}

pub(crate) fn a_partition_that_pauses_keeps_its_records_for_later<B: Bus>(bus: &B) {
    let topic = topic(bus, 2);
    let mut a = Member::join(bus, &topic, "g");
    a.until("it has all", |a| a.owned.len() == 2);
    fill(bus, &topic, 2, 0, 10);
    a.until("all have come", |a| a.seen.len() == 20);
    a.consumer.pause(&[Partition(0)], true).unwrap();
    fill(bus, &topic, 2, 10, 10);
    a.until("the other's have come", |a| a.seen.iter().filter(|s| s.partition == 1).count() == 20);
    for _ in 0..5 {
        a.step();
    }
    assert_eq!(a.seen.iter().filter(|s| s.partition == 0).count(), 10);
    a.consumer.pause(&[Partition(0)], false).unwrap();
    a.until("the rest has come", |a| a.seen.len() == 40);
}

pub(crate) fn reports_end_offsets_and_lag<B: Bus>(bus: &B) {
    let topic = topic(bus, 2);
    fill(bus, &topic, 2, 0, 10);
    let mut a = Member::join(bus, &topic, "g");
    a.until("all have come", |a| a.seen.len() == 20);
    let ends = a.consumer.end_offsets(&[Partition(0), Partition(1)], PATIENCE).unwrap();
    assert_eq!(ends, [(Partition(0), Offset(10)), (Partition(1), Offset(10))]);
    let lag = || bus.progress(&topic, "g").unwrap().iter().map(|p| p.lag()).collect::<Vec<_>>();
    assert_eq!(lag(), [10, 10]);
    a.commit(&[Partition(1)], "");
    fill(bus, &topic, 2, 10, 3);
    assert_eq!(lag(), [13, 3]);
    let progress = bus.progress(&topic, "g").unwrap();
    assert_eq!(progress[0].committed, None);
    assert_eq!(progress[1].committed, Some(Offset(10)));
    assert_eq!((progress[1].start, progress[1].end), (Offset(0), Offset(13)));
}

pub(crate) fn a_reader_of_all_sees_partitions_that_come_later<B: Bus>(bus: &B) {
    let topic = topic(bus, 1);
    let (mut a, mut b) = (Member::all(bus, &topic), Member::all(bus, &topic));
    fill(bus, &topic, 1, 0, 10);
    both(&mut a, &mut b, "both have read all", |a, b| a.seen.len() == 10 && b.seen.len() == 10);
    bus.ensure_topics(&[&plan(&topic, 3, &[])]).unwrap();
    assert_eq!(bus.partitions(&topic).unwrap(), 3);
    fill(bus, &topic, 3, 10, 10);
    both(&mut a, &mut b, "both have read all", |a, b| a.seen.len() == 40 && b.seen.len() == 40);
}

pub(crate) fn a_member_gets_partitions_that_come_later<B: Bus>(bus: &B) {
    let topic = topic(bus, 1);
    let mut a = Member::join(bus, &topic, "g");
    a.until("it has all", |a| a.owned.len() == 1);
    bus.ensure_topics(&[&plan(&topic, 3, &[])]).unwrap();
    fill(bus, &topic, 3, 0, 10);
    a.until("all have come", |a| a.seen.len() == 30);
}

pub(crate) fn a_scan_reads_to_the_end_as_it_stood<B: Bus>(bus: &B) {
    let topic = topic(bus, 2);
    assert_eq!(scan(bus, &topic, 1), (vec![], 0));
    fill(bus, &topic, 2, 0, 1000);
    let mut count = 0;
    let end = bus
        .scan(&topic, Partition(1), PATIENCE, &mut |_| {
            if count == 0 {
                fill(bus, &topic, 2, 1000, 10);
            }
            count += 1;
        })
        .unwrap();
    assert_eq!((count, end), (1000, Offset(1000)));
    assert_eq!(scan(bus, &topic, 1).0.len(), 1010);
    assert!(matches!(bus.scan(&topic, Partition(7), PATIENCE, &mut |_| ()), Err(BusError::Missing { .. })));
}

pub(crate) fn a_scan_since_a_time_begins_with_the_first_record_that_is_not_older<B: Bus>(bus: &B) {
    let topic = topic(bus, 2);
    // Records of several senders are not in the order of their times.
    let times = [1_000, 2_000, 1_500, 3_000, 2_500, 4_000];
    let of = |time: i64| WallTime(1_700_000_000_000 + time);
    let since = |time, most| Since { time: of(time), most };
    let scan = |partition, since| {
        let mut offsets = Vec::new();
        let scanned = bus.scan_since(&topic, Partition(partition), since, PATIENCE, &mut |record| {
            offsets.push(record.offset.0);
        });
        scanned.map(|scanned| (offsets, scanned.start.0, scanned.end.0, scanned.cut))
    };
    assert_eq!(scan(1, since(0, 10)).unwrap(), (vec![], 0, 0, false));
    for time in times {
        send(bus, &[Outgoing { timestamp: of(time), ..record(&topic, Some(1), None, Some("x")) }]);
    }
    for (time, most, offsets, is_cut) in [
        (0, 10, 0..6, false),
        (1_500, 10, 1..6, false),
        (2_001, 10, 3..6, false),
        (4_000, 10, 5..6, false),
        (4_001, 10, 6..6, false),
        (0, 2, 4..6, true),
        (4_000, 2, 5..6, false),
        (0, 0, 6..6, true),
    ] {
        let expected = (offsets.clone().collect(), offsets.start, 6, is_cut);
        assert_eq!(scan(1, since(time, most)).unwrap(), expected, "since {time}, at most {most}");
    }
    assert_eq!(scan(0, since(0, 10)).unwrap(), (vec![], 0, 0, false));
    assert!(matches!(scan(7, since(0, 10)), Err(BusError::Missing { .. })));
}

pub(crate) fn a_member_that_closes_hands_over_at_once<B: Bus>(bus: &B) {
    let topic = topic(bus, 4);
    let (mut a, mut b) = (Member::join(bus, &topic, "g"), Member::join(bus, &topic, "g"));
    both(&mut a, &mut b, "they share", |a, b| a.owned.len() == 2 && b.owned.len() == 2);
    let closed = Instant::now();
    a.consumer.close();
    b.until("it has all", |b| b.owned.len() == 4);
    assert!(
        closed.elapsed() < Duration::from_secs(8),
        "took {:?}, no less than a session's end",
        closed.elapsed()
    );
}

pub(crate) fn members_that_join_and_leave_hold_nobody_up<B: Bus>(bus: &B) {
    comes_and_goes(bus, |_| None);
}

pub(crate) fn static_members_that_join_and_leave_hold_nobody_up<B: Bus>(bus: &B) {
    comes_and_goes(bus, Some);
}

/// Two members stay, others come and leave again, with partitions and before they have any: whoever stays goes on reading and
/// committing, and has everything again long before a session would have ended.
fn comes_and_goes<B: Bus>(bus: &B, name: fn(&'static str) -> Option<&'static str>) {
    const LONG: Duration = Duration::from_secs(5);
    let topic = topic(bus, 6);
    let (mut a, mut b) =
        (Member::join_as(bus, &topic, "g", name("a")), Member::join_as(bus, &topic, "g", name("b")));
    both(&mut a, &mut b, "they share", |a, b| a.owned.len() == 3 && b.owned.len() == 3);
    for (visitor, stay) in [("c", 500), ("d", 0), ("e", 3000)] {
        let mut visitor = Member::join_as(bus, &topic, "g", name(visitor));
        let step = |a: &mut Member<B::Consumer>, b: &mut Member<B::Consumer>| {
            let begun = Instant::now();
            for member in [a, b] {
                member.step();
                let owned: Vec<Partition> = member.owned.keys().copied().map(Partition).collect();
                member.commit(&owned, "it stays");
            }
            assert!(begun.elapsed() < LONG, "held up for {:?}", begun.elapsed());
        };
        let until = Instant::now() + Duration::from_millis(stay);
        while Instant::now() < until {
            step(&mut a, &mut b);
            visitor.step();
        }
        let left = std::thread::scope(|threads| {
            let closing = threads.spawn(|| visitor.consumer.close());
            while !closing.is_finished() {
                step(&mut a, &mut b);
            }
            Instant::now()
        });
        while a.owned.len() + b.owned.len() < 6 {
            step(&mut a, &mut b);
            assert!(
                left.elapsed() < LONG,
                "without all for {:?}: {:?} {:?}",
                left.elapsed(),
                a.owned,
                b.owned
            );
        }
    }
}

pub(crate) fn topics_are_never_made_smaller<B: Bus>(bus: &B) {
    let topic = topic(bus, 3);
    bus.ensure_topics(&[&plan(&topic, 2, &[]), &plan(&topic, 3, &[])]).unwrap();
    assert_eq!(bus.partitions(&topic).unwrap(), 3);
}
