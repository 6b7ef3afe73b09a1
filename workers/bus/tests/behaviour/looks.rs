//! Looks at many topics at once, which only Kafka has.

use herd_spec::units::{Offset, Partition};

use crate::member::{Member, fill, topic};

#[test]
#[ignore = "needs HERD_TEST_KAFKA: make test sets it"]
fn progress_covers_more_partitions_than_one_request() {
    let bus = crate::kafka();
    let (wide, narrow) = (topic(&bus, 501), topic(&bus, 2));
    fill(&bus, &narrow, 2, 0, 10);
    let mut member = Member::join(&bus, &narrow, "g");
    member.until("all have come", |member| member.seen.len() == 20);
    member.commit(&[Partition(1)], "");

    let (starts, ends) = bus.spans(&[(&wide, 501), (&narrow, 2)]).unwrap();
    assert_eq!((starts.len(), ends.len()), (503, 503));
    let at = |topic: &str, partition| ends[&(topic.to_owned(), Partition(partition))];
    assert_eq!([at(&wide, 500), at(&narrow, 0), at(&narrow, 1)], [Offset(0), Offset(10), Offset(10)]);
    // What is asked about then is part of what is known.
    let (starts, ends) = bus.spans(&[(&narrow, 2)]).unwrap();
    assert_eq!((starts.len(), ends.len()), (2, 2));
    let committed = bus.committed("g", &[(&narrow, 2)]).unwrap();
    assert_eq!(committed.into_iter().collect::<Vec<_>>(), [((narrow, Partition(1)), Offset(10))]);
    assert!(bus.is_at_rest("g").unwrap());
}
