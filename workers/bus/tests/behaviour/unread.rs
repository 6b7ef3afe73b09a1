//! A member that dies between the two rounds in which partitions change hands, which only Kafka has.

use std::collections::BTreeSet;

use herd_bus::{BusError, Change, Consumer as _};

use crate::member::{Member, both, fill, topic};

#[test]
#[ignore = "needs HERD_TEST_KAFKA: make test sets it"]
fn reads_partitions_again_that_a_dead_member_was_giving_up() {
    let bus = crate::kafka();
    let topic = topic(&bus, 6);
    let join = |name| Member::join_as(&bus, &topic, "g", Some(name));
    let mut first = join("a");
    first.until("it has all", |first| first.owned.len() == 6);
    let mut newcomer = join("b");
    // Told to give some up, it says nothing more.
    let deadline = std::time::Instant::now() + crate::member::PATIENCE;
    loop {
        let fetched =
            first.consumer.fetch(std::time::Duration::from_millis(20), 1, |_| Ok::<_, BusError>(())).unwrap();
        newcomer.step();
        if fetched.changes.iter().any(|change| matches!(change, Change::Revoked(_))) {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "never told to give anything up");
    }
    std::mem::forget(first);
    let mut again = join("a");
    both(&mut again, &mut newcomer, "all are read", |again, newcomer| {
        let read: BTreeSet<_> = again.owned.keys().chain(newcomer.owned.keys()).collect();
        read.len() == 6
    });
    fill(&bus, &topic, 6, 0, 10);
    both(&mut again, &mut newcomer, "all has come", |again, newcomer| {
        again.seen.len() + newcomer.seen.len() == 60
    });
}
