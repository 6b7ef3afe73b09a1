//! Partitions that are added, told step by step.

use std::time::Duration;

use herd_bus::Bus;
use herd_bus::simulated::{FaultSchedule, SimulatedBus};
use herd_detector::fold::Fold;
use herd_detector::metrics::FoldMetrics;
use herd_spec::plan::TopicPlan;
use herd_spec::units::WallTime;
use herd_spec::wire::PartRecord;

use crate::clock::MemberClock;
use crate::plan;

/// Judges must wait for a new source before anybody reads it, or windows close without what it has: whoever takes it over may
/// be long in coming.
#[test]
fn announces_a_new_source_before_anybody_reads_it() {
    let plan = plan::of(1, 1);
    let begin = WallTime(1_800_000_000_000);
    let far = begin.plus(Duration::from_secs(3600));
    // Nobody hears of the new partition, so nobody takes it over.
    let deaf = FaultSchedule { until: far, discovery: Duration::from_secs(3600), ..FaultSchedule::default() };
    let bus = SimulatedBus::stepped(begin, deaf);
    bus.ensure_topics(&plan.topics.all()).unwrap();
    let clock = MemberClock::new(&bus, 0);
    let mut fold = Fold::join(&plan, &bus, clock.clone(), "fold-0", FoldMetrics::default()).unwrap();
    let mut run = |seconds: u64| {
        for _ in 0..seconds * 10 {
            clock.begin();
            fold.step(Duration::ZERO).unwrap();
            bus.advance(bus.now().plus(Duration::from_millis(100)));
        }
        let records = bus.records(&plan.topics.parts.name);
        let mut words =
            records.iter().filter_map(|kept| match PartRecord::parse(kept.value.as_deref()?).unwrap() {
                PartRecord::Watermark(word) => Some((word.source.0, word.sources)),
                PartRecord::Part(_) => None,
            });
        words.next_back()
    };
    assert_eq!(run(10), Some((0, 1)));
    bus.ensure_topics(&[&TopicPlan { partitions: 2, ..plan.topics.events.clone() }]).unwrap();
    assert_eq!(run(5), Some((0, 2)));
}
