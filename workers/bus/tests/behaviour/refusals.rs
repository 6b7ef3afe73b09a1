//! What Kafka refuses, and how that is told; groups that are deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use herd_bus::kafka::{KafkaBus, KafkaSettings};
use herd_bus::{Bus as _, BusError};
use herd_spec::plan::TopicPlan;
use herd_spec::units::Partition;
use rstest::rstest;

use crate::member::{Member, fill, topic};

fn plan(replication: u16, config: &[(&str, &str)]) -> TopicPlan {
    let config = config.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    TopicPlan {
        name: format!("t-{}", uuid::Uuid::now_v7()),
        partitions: 1,
        replication,
        config: config.collect(),
    }
}

#[rstest]
#[case::replication(3, &[], "replication factor 3, 1 broker: lower spec.kafka.replication")]
#[case::unknown(1, &[("foo.bar", "x"), ("retention.ms", "1000")], "unknown configuration foo.bar")]
#[case::invalid(1, &[("retention.ms", "soon")], "invalid value soon for configuration retention.ms")]
#[ignore = "needs HERD_TEST_KAFKA: make test sets it"]
fn a_topic_that_kafka_refuses_is_told_with_what_it_is_about(
    #[case] replication: u16,
    #[case] config: &[(&str, &str)],
    #[case] words: &str,
) {
    let bus = crate::kafka();
    // A group that has committed: a broker then has a topic by which it tells the settings that there are.
    let used = topic(&bus, 1);
    fill(&bus, &used, 1, 0, 1);
    let mut member = Member::join(&bus, &used, "settings");
    member.until("it has come", |member| member.seen.len() == 1);
    member.commit(&[Partition(0)], "");
    let plan = plan(replication, config);
    let refused = bus.make_topics(std::slice::from_ref(&plan), &mut BTreeSet::new()).unwrap_err();
    assert!(matches!(refused, BusError::Refused { .. }), "{refused:?}");
    let told = refused.to_string();
    assert!(told.contains(words) && told.contains(&plan.name), "{told}");
    assert!(!told.contains("1000"), "a setting that is taken is not blamed: {told}");
}

#[test]
#[ignore = "needs HERD_TEST_KAFKA: make test sets it"]
fn a_changed_setting_that_kafka_refuses_is_named() {
    let bus = crate::kafka();
    let name = topic(&bus, 1);
    // A name it does not know, Kafka takes where a topic is changed, and refuses where one is created.
    let config =
        [("retention.ms", "2000"), ("max.message.bytes", "many")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    let told = bus.configure_topic(&name, &BTreeMap::from(config)).unwrap_err().to_string();
    assert!(told.contains("configuration max.message.bytes") && !told.contains("2000"), "{told}");
}

#[rstest]
#[case::closed_port("127.0.0.1:1", "127.0.0.1:1 refuses the connection")]
#[case::unknown_host(
    "kafka.invalid:9092",
    "the host name kafka.invalid of kafka.invalid:9092 cannot be resolved"
)]
fn a_broker_that_cannot_be_reached_is_named_with_the_cause(#[case] servers: &str, #[case] words: &str) {
    let bus = KafkaBus::connect(&KafkaSettings::plain(servers, "test")).unwrap();
    let error = bus.ping(Duration::from_secs(3)).unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains(words), "{error}");
}

#[test]
#[ignore = "needs HERD_TEST_KAFKA: make test sets it"]
fn a_group_is_deleted_once_its_members_have_left() {
    let bus = crate::kafka();
    let (name, group) = (topic(&bus, 1), format!("g-{}", uuid::Uuid::now_v7()));
    fill(&bus, &name, 1, 0, 3);
    let mut member = Member::join(&bus, &name, &group);
    member.until("all have come", |member| member.seen.len() == 3);
    member.commit(&[Partition(0)], "");
    assert_eq!(bus.committed(&group, &[(&name, 1)]).unwrap().len(), 1);
    assert_eq!(bus.delete_groups(&[&group]).unwrap(), std::slice::from_ref(&group));
    drop(member);
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !bus.delete_groups(&[&group]).unwrap().is_empty() {
        assert!(std::time::Instant::now() < deadline, "the group stays");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(bus.committed(&group, &[(&name, 1)]).unwrap().is_empty());
    assert!(bus.delete_groups(&[&group]).unwrap().is_empty(), "one that is not there is none the worse");
}
