//! What every bus does, run against each of them. Kafka's half needs a broker: `HERD_TEST_KAFKA=host:port`, and
//! `--include-ignored`; `make test` starts one and sets it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cases;
mod disk;
mod embedded;
mod looks;
mod member;
mod recreated;
mod refusals;
mod unread;

/// Each case once against each bus.
macro_rules! behaviour {
    ($($case:ident)*) => {
        mod on_embedded {
            $(#[test]
            fn $case() {
                let dir = tempfile::tempdir().unwrap();
                crate::cases::$case(&herd_bus::embedded::EmbeddedBus::open(dir.path()).unwrap());
            })*
        }
        mod on_simulated {
            $(#[test]
            fn $case() {
                crate::cases::$case(&herd_bus::simulated::SimulatedBus::new());
            })*
        }
        mod on_kafka {
            $(#[test]
            #[ignore = "needs HERD_TEST_KAFKA: make test sets it"]
            fn $case() {
                crate::cases::$case(&super::kafka());
            })*
        }
    };
}

behaviour! {
    records_of_a_partition_come_in_the_order_they_were_sent
    an_acknowledged_record_can_be_read
    a_key_goes_to_the_partition_of_kafkas_java_client
    headers_tombstones_and_times_arrive
    rejects_a_record_for_a_topic_that_does_not_exist
    a_fetch_hands_out_no_more_than_its_limit
    two_members_share_the_partitions
    a_new_member_does_not_interrupt_partitions_that_stay
    takes_revoked_partitions_over_at_the_committed_offset
    rejects_a_commit_for_a_released_partition
    commits_kept_partitions_at_any_moment_of_a_rebalance
    the_group_has_the_last_of_many_commits
    a_partition_that_pauses_keeps_its_records_for_later
    reports_end_offsets_and_lag
    a_reader_of_all_sees_partitions_that_come_later
    a_member_gets_partitions_that_come_later
    a_scan_reads_to_the_end_as_it_stood
    a_scan_since_a_time_begins_with_the_first_record_that_is_not_older
    a_member_that_closes_hands_over_at_once
    members_that_join_and_leave_hold_nobody_up
    static_members_that_join_and_leave_hold_nobody_up
    topics_are_never_made_smaller
}

fn kafka() -> herd_bus::kafka::KafkaBus {
    let servers = std::env::var("HERD_TEST_KAFKA").expect("HERD_TEST_KAFKA=host:port");
    herd_bus::kafka::KafkaBus::connect(&herd_bus::kafka::KafkaSettings::plain(&servers, "behaviour")).unwrap()
}
