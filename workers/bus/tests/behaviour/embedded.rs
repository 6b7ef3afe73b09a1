//! What only the embedded bus does.

use std::time::{Duration, Instant};

use herd_bus::embedded::{EmbeddedBus, EmbeddedOptions};
use herd_bus::{Acks, Bus, BusError, Change, Commit, Consumer, Producer, SendError};
use herd_spec::units::{Offset, Partition, WallTime};

use crate::member::{Member, PATIENCE, both, fill, plan, record, scan, send, topic};

#[test]
fn keeps_topics_records_and_offsets_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let name = {
        let bus = EmbeddedBus::open(dir.path()).unwrap();
        let name = topic(&bus, 2);
        fill(&bus, &name, 2, 0, 100);
        let mut member = Member::join(&bus, &name, "g");
        member.until("all have come", |m| m.seen.len() == 200);
        member.commit(&[Partition(1)], "kept");
        name
    };
    let bus = EmbeddedBus::open(dir.path()).unwrap();
    assert_eq!(bus.partitions(&name).unwrap(), 2);
    fill(&bus, &name, 2, 100, 1);
    let mut member = Member::join(&bus, &name, "g");
    member.until("the rest has come", |m| m.seen.len() == 102);
    assert_eq!(member.found[&1], Some(Commit { next: Offset(100), metadata: "kept".into() }));
    assert_eq!(scan(&bus, &name, 0).1, 101);
}

#[test]
fn writes_everything_sent_before_the_bus_closes() {
    let dir = tempfile::tempdir().unwrap();
    let bus = EmbeddedBus::open(dir.path()).unwrap();
    let name = topic(&bus, 1);
    let producer = bus.producer("test").unwrap();
    let acks = Acks::new();
    for index in 0..1000 {
        producer.send(&record(&name, Some(0), None, Some("x")), acks.expect(index)).unwrap();
    }
    drop((producer, bus));
    assert_eq!((acks.pending(), acks.take_failed()), (0, vec![]));
    assert_eq!(scan(&EmbeddedBus::open(dir.path()).unwrap(), &name, 0).0.len(), 1000);
}

#[test]
fn rejects_a_folder_that_another_process_uses() {
    let dir = tempfile::tempdir().unwrap();
    let _bus = EmbeddedBus::open(dir.path()).unwrap();
    let refused = EmbeddedBus::open(dir.path()).unwrap_err().to_string();
    assert_eq!(
        refused,
        format!(
            "opening the embedded broker in {}: another process has it open; stop that one, or choose another folder",
            dir.path().display()
        )
    );
}

#[test]
fn reports_a_full_queue_and_empties_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions { queue_records: 10, ..EmbeddedOptions::default() };
    let bus = EmbeddedBus::open_with(dir.path(), options).unwrap();
    let name = topic(&bus, 1);
    let producer = bus.producer("test").unwrap();
    let acks = Acks::new();
    let (mut taken, mut full) = (0, false);
    let deadline = Instant::now() + PATIENCE;
    while !full || taken < 100 {
        assert!(Instant::now() < deadline);
        match producer.send(&record(&name, None, None, Some("x")), acks.expect(taken)) {
            Ok(()) => taken += 1,
            Err(SendError::Full) => full = true,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(producer.flush(PATIENCE), 0);
    assert_eq!((acks.pending(), acks.take_failed()), (0, vec![]));
    assert_eq!(scan(&bus, &name, 0).1, i64::from(taken));
}

#[test]
fn rejects_a_record_that_is_too_large() {
    let dir = tempfile::tempdir().unwrap();
    let bus = EmbeddedBus::open(dir.path()).unwrap();
    let name = topic(&bus, 1);
    let large = "x".repeat(2 << 20);
    let acks = Acks::new();
    let refused =
        bus.producer("test").unwrap().send(&record(&name, None, None, Some(&large)), acks.expect(0));
    assert!(matches!(refused, Err(SendError::Refused(why)) if why.contains("1048576 are allowed")));
    assert_eq!((acks.pending(), acks.take_failed()), (0, vec![]));
}

#[test]
fn a_member_that_is_silent_too_long_loses_its_partitions() {
    let dir = tempfile::tempdir().unwrap();
    let options =
        EmbeddedOptions { session_timeout: Duration::from_millis(200), ..EmbeddedOptions::default() };
    let bus = EmbeddedBus::open_with(dir.path(), options).unwrap();
    let name = topic(&bus, 2);
    let (mut a, mut b) = (Member::join(&bus, &name, "g"), Member::join(&bus, &name, "g"));
    both(&mut a, &mut b, "they share", |a, b| a.owned.len() == 1 && b.owned.len() == 1);
    let lost = Partition(*a.owned.keys().next().unwrap());
    b.until("it has all", |b| b.owned.len() == 2);
    let refused =
        a.consumer.commit(&[(lost, Commit { next: Offset(1), metadata: String::new() })]).unwrap_err();
    assert!(matches!(refused, BusError::NotOwner { .. }));
    both(&mut a, &mut b, "they share again", |a, b| a.owned.len() == 1 && b.owned.len() == 1);
    assert!(a.changes.contains(&Change::Lost(vec![lost])));
}

#[test]
fn compaction_keeps_the_last_record_of_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let bus = EmbeddedBus::open(dir.path()).unwrap();
    bus.ensure_topics(&[&plan("c", 1, &[("cleanup.policy", "compact")])]).unwrap();
    for round in 0..20 {
        let values: Vec<_> = (0..50).map(|key| (format!("k{key}"), format!("{round}"))).collect();
        let records: Vec<_> = values.iter().map(|(k, v)| record("c", Some(0), Some(k), Some(v))).collect();
        send(&bus, &records);
    }
    send(&bus, &[record("c", Some(0), Some("k7"), None)]);
    let mut reader = Member::all(&bus, "c");
    reader.until("half has come", |r| r.seen.len() >= 400);
    bus.upkeep(WallTime(1_700_000_000_000)).unwrap();
    let (seen, end) = scan(&bus, "c", 0);
    assert_eq!(end, 1001);
    assert_eq!(seen.len(), 50);
    assert!(seen.iter().filter(|s| s.value.is_some()).all(|s| s.text() == "19" && s.offset >= 950));
    assert_eq!(seen.last().unwrap().value, None);
    // Tombstones go in the end, and the end stays where it was, also over a restart.
    let later = WallTime(1_700_000_000_000).plus(Duration::from_secs(25 * 3600));
    bus.upkeep(later).unwrap();
    reader.until("it is at the end", |r| r.seen.last().is_some_and(|s| s.offset >= 999));
    drop((reader, bus));
    let bus = EmbeddedBus::open(dir.path()).unwrap();
    assert_eq!((scan(&bus, "c", 0).0.len(), scan(&bus, "c", 0).1), (49, 1001));
    send(&bus, &[record("c", Some(0), Some("k7"), Some("again"))]);
    let (seen, end) = scan(&bus, "c", 0);
    assert_eq!((seen.last().unwrap().offset, end), (1001, 1002));
}

#[test]
fn records_past_their_retention_go() {
    let dir = tempfile::tempdir().unwrap();
    let bus = EmbeddedBus::open(dir.path()).unwrap();
    bus.ensure_topics(&[&plan("r", 1, &[("retention.ms", "60000")])]).unwrap();
    fill(&bus, "r", 1, 0, 100);
    bus.upkeep(WallTime(1_700_000_060_000)).unwrap();
    assert_eq!(scan(&bus, "r", 0).0.len(), 100);
    bus.upkeep(WallTime(1_700_000_060_001)).unwrap();
    assert_eq!(scan(&bus, "r", 0), (vec![], 100));
    let progress = bus.progress("r", "g").unwrap()[0];
    assert_eq!((progress.start, progress.end, progress.lag()), (Offset(100), Offset(100), 0));
    let mut member = Member::join(&bus, "r", "g");
    fill(&bus, "r", 1, 100, 5);
    member.until("the new ones have come", |m| m.seen.len() == 5);
    drop((member, bus));
    let bus = EmbeddedBus::open(dir.path()).unwrap();
    assert_eq!(bus.progress("r", "g").unwrap()[0].start, Offset(100));
}

#[test]
fn a_reader_far_behind_reads_from_disk() {
    let dir = tempfile::tempdir().unwrap();
    let bus = EmbeddedBus::open(dir.path()).unwrap();
    let name = topic(&bus, 1);
    // Twice what stays in memory.
    let value = "v".repeat(10_000);
    for _ in 0..8 {
        let records: Vec<_> = (0..100).map(|_| record(&name, Some(0), None, Some(&value))).collect();
        send(&bus, &records);
    }
    let mut member = Member::join(&bus, &name, "g");
    member.until("all have come", |m| m.seen.len() == 800);
    assert_eq!(member.seen.iter().map(|s| s.offset).collect::<Vec<_>>(), (0..800).collect::<Vec<_>>());
    assert!(member.seen.iter().all(|s| s.value.as_deref() == Some(value.as_bytes())));
}
