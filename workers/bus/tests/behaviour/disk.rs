//! A full disk: a small tmpfs in a mount namespace of the test's own, filled and made free again while everybody holds on to
//! the bus. Mounting needs root, or a kernel that lets users have namespaces.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use herd_bus::embedded::{EmbeddedBus, EmbeddedProducer};
use herd_bus::{Acks, Bus, BusError, Commit, Consumer, Producer, SendError};
use herd_spec::units::{Offset, Partition};

use crate::member::{Member, PATIENCE, fill, plan, record, scan, topic};

const DISK: usize = 160 << 20;
/// Where the small disk is, for the test that runs beside it.
const VARIABLE: &str = "HERD_TEST_SMALL_DISK";

/// Runs the test of this name a second time, beside a small disk that only it sees; there, `body` gets that disk.
fn on_a_small_disk(name: &str, body: impl FnOnce(&Path)) {
    if let Ok(disk) = std::env::var(VARIABLE) {
        return body(Path::new(&disk));
    }
    let folder = tempfile::tempdir().unwrap();
    let root = std::fs::metadata("/proc/self").is_ok_and(|of| std::os::unix::fs::MetadataExt::uid(&of) == 0);
    let output = Command::new("unshare")
        .args(if root { &["--mount"][..] } else { &["--map-root-user", "--mount"][..] })
        .args(["sh", "-c", "mount -t tmpfs -o size=$1 disk \"$2\" && shift 2 && exec \"$@\"", "sh"])
        .args([&DISK.to_string(), folder.path().to_str().unwrap()])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("disk::{name}"), "--nocapture"])
        .env(VARIABLE, folder.path())
        .output()
        .unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// Takes all of the disk but `left` bytes.
fn ballast(disk: &Path, left: usize) -> PathBuf {
    let path = disk.join("ballast");
    let free = || {
        let said = Command::new("df").args(["--output=avail", "-B1"]).arg(disk).output().unwrap();
        String::from_utf8(said.stdout).unwrap().lines().nth(1).unwrap().trim().parse::<usize>().unwrap()
    };
    let taken = free() - left;
    std::fs::write(&path, vec![1; taken]).unwrap();
    assert!(free() <= left + 4096, "{} free", free());
    path
}

/// What no compression makes smaller.
fn filler() -> String {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'0' + (state >> 58) as u8)
    };
    (0..40_000).map(|_| next()).collect()
}

/// Sends to both partitions until a record is not taken; the acknowledged ones of each, in order.
fn send_until_full(producer: &EmbeddedProducer, name: &str, label: &str) -> [Vec<String>; 2] {
    let filler = filler();
    let mut acknowledged = [Vec::new(), Vec::new()];
    let deadline = Instant::now() + PATIENCE;
    for number in 0.. {
        assert!(Instant::now() < deadline, "the disk does not fill");
        let values = [format!("{label}:0:{number} {filler}"), format!("{label}:1:{number} {filler}")];
        let acks = Acks::new();
        let mut refused = Vec::new();
        for (partition, value) in (0_u32..).zip(&values) {
            let one = record(name, Some(partition), None, Some(value));
            match producer.send(&one, acks.expect(partition)) {
                Ok(()) => {}
                Err(SendError::Unavailable(_)) => refused.push(partition),
                Err(error) => panic!("{error}"),
            }
        }
        assert!(acks.wait(PATIENCE));
        let failed: Vec<u32> = acks.take_failed().into_iter().map(|(index, _)| index).collect();
        for (partition, value) in (0_u32..).zip(&values) {
            if !failed.contains(&partition) && !refused.contains(&partition) {
                acknowledged[partition as usize].push(label_of(value));
            }
        }
        if failed.is_empty() && refused.is_empty() {
            continue;
        }
        return acknowledged;
    }
    unreachable!()
}

fn label_of(value: &str) -> String {
    value.split(' ').next().unwrap().to_owned()
}

fn labels<C: Consumer>(member: &Member<C>, partition: u32) -> Vec<String> {
    let of = member.seen.iter().filter(|seen| seen.partition == partition);
    of.map(|seen| label_of(&seen.text())).collect()
}

fn heals(disk: &Path, left: usize) {
    let folder = disk.join("bus");
    let bus = EmbeddedBus::open(&folder).unwrap();
    let name = topic(&bus, 2);
    let producer = bus.producer("test").unwrap();
    let mut member = Member::join(&bus, &name, "g");
    fill(&bus, &name, 2, 0, 10);
    member.until("the first have come", |m| m.seen.len() == 20);
    member.commit(&[Partition(0), Partition(1)], "before");

    let mut expected = [Vec::new(), Vec::new()];
    for (partition, list) in expected.iter_mut().enumerate() {
        list.extend((0..10).map(|number| format!("{partition}:{number}")));
    }
    for round in 0..2 {
        let full = ballast(disk, left);
        let acknowledged = send_until_full(&producer, &name, &format!("full-{round}"));
        for (list, more) in expected.iter_mut().zip(acknowledged) {
            list.extend(more);
        }
        // It says so, and shows what it has; a failed commit is one that may be tried again.
        assert!(matches!(bus.ping(PATIENCE), Err(BusError::Unavailable { .. })));
        let wanted: usize = expected.iter().map(Vec::len).sum();
        member.until("all that was acknowledged has come", |m| m.seen.len() == wanted);
        let commit = Commit { next: Offset(1), metadata: String::new() };
        let refused = member.consumer.commit(&[(Partition(0), commit)]).unwrap_err();
        assert!(refused.is_retryable(), "{refused}");
        let refused = bus.ensure_topics(&[&plan("made while the disk was full", 1, &[])]).unwrap_err();
        assert!(refused.is_retryable(), "{refused}");

        std::fs::remove_file(full).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = bus.ping(PATIENCE) {
            assert!(Instant::now() < deadline, "{error}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        for (partition, list) in (0_u32..).zip(&mut expected) {
            let value = format!("after-{round}:{partition}");
            let acks = Acks::new();
            producer.send(&record(&name, Some(partition), None, Some(&value)), acks.expect(0)).unwrap();
            assert!(acks.wait(PATIENCE));
            assert_eq!(acks.take_failed(), []);
            list.push(value);
        }
        let wanted: usize = expected.iter().map(Vec::len).sum();
        member.until("what came after has come", |m| m.seen.len() == wanted);
        member.commit(&[Partition(0), Partition(1)], &format!("after-{round}"));
    }
    assert_eq!([labels(&member, 0), labels(&member, 1)], expected);
    let ends = [expected[0].len() as i64, expected[1].len() as i64];
    drop((member, producer, bus));

    // The same after a restart: nothing that was refused, no offset left out, the group where it was.
    let bus = EmbeddedBus::open(&folder).unwrap();
    for (partition, wanted) in (0_u32..).zip(&expected) {
        let (seen, end) = scan(&bus, &name, partition);
        let labels: Vec<String> = seen.iter().map(|one| label_of(&one.text())).collect();
        assert_eq!((&labels, end), (wanted, ends[partition as usize]));
        assert_eq!(seen.iter().map(|one| one.offset).collect::<Vec<_>>(), (0..end).collect::<Vec<_>>());
    }
    assert!(bus.partitions("made while the disk was full").is_err());
    let mut member = Member::join(&bus, &name, "g");
    member.until("it has its partitions", |m| m.owned.len() == 2);
    for (partition, end) in (0_u32..).zip(ends) {
        let found = Some(Commit { next: Offset(end), metadata: "after-1".into() });
        assert_eq!(member.found[&partition], found);
    }
}

#[test]
fn loses_nothing_acknowledged_when_the_disk_is_too_full_for_the_journal() {
    let name = "loses_nothing_acknowledged_when_the_disk_is_too_full_for_the_journal";
    on_a_small_disk(name, |disk| heals(disk, 1 << 20));
}

#[test]
fn loses_nothing_acknowledged_when_the_disk_is_too_full_for_the_memtable() {
    let name = "loses_nothing_acknowledged_when_the_disk_is_too_full_for_the_memtable";
    // The journal gets what fills the memory (16 MiB); writing that out then fails, on a thread of the store.
    on_a_small_disk(name, |disk| heals(disk, 20 << 20));
}
