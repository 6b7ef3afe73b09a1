//! A topic that is deleted and created again while it is read, which only Kafka has.

use std::time::{Duration, Instant};

use herd_bus::{Bus, BusError, Change, Consumer as _, Membership};
use herd_spec::units::{Offset, Partition};

use crate::member::{PATIENCE, fill, plan, topic};

const P: Partition = Partition(0);

/// Whether the log begins anew before or after the group has noticed that the topic is gone, its member is told.
#[test]
#[ignore = "needs HERD_TEST_KAFKA: make test sets it"]
fn is_read_from_its_start_and_the_member_is_told() {
    let bus = crate::kafka();
    let name = topic(&bus, 1);
    fill(&bus, &name, 1, 0, 20);
    let mut consumer = bus.consumer(&name, Membership::Group { group: "g", instance: None }).unwrap();
    let mut told = 0;
    let mut next = 0;
    let mut read_until = |what: &str, is_done: &mut dyn FnMut(i64, usize) -> bool| {
        let deadline = Instant::now() + PATIENCE;
        while !is_done(next, told) {
            assert!(Instant::now() < deadline, "{what}: offset {next}, told {told} times");
            let fetched = consumer
                .fetch(Duration::from_millis(50), 100, |record| {
                    assert_eq!(record.offset.0, next, "no record is handed out of turn");
                    next += 1;
                    Ok::<_, BusError>(())
                })
                .unwrap();
            for change in fetched.changes {
                match change {
                    Change::Assigned(_) | Change::Restarted(_) => {
                        consumer.start(&[(P, Offset(0))]).unwrap();
                        (next, told) = (0, told + 1);
                    }
                    Change::Revoked(gone) | Change::Lost(gone) => consumer.release(&gone).unwrap(),
                }
            }
        }
    };
    read_until("the first topic", &mut |next, _| next == 20);
    bus.delete_topics(&[&name]).unwrap();
    let plan = plan(&name, 1, &[("cleanup.policy", "delete"), ("retention.ms", "-1")]);
    let deadline = Instant::now() + PATIENCE;
    while bus.ensure_topics(&[&plan]).is_err() {
        assert!(Instant::now() < deadline, "the topic cannot be created again");
        std::thread::sleep(Duration::from_millis(20));
    }
    fill(&bus, &name, 1, 0, 5);
    read_until("the second topic", &mut |next, told| told >= 2 && next == 5);
}
