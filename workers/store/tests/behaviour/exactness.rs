//! Every record is stored exactly once, despite crashes at any time.

use herd_spec::units::{Offset, Partition};
use herd_spec::wire::{EventRef, Fingerprint};
use herd_store::{Advance, Counts, StoreError, Table, Unstorable};

use crate::env::{Raw, StoreEnv, TOPIC, window, write_events, writer_of};

crate::on_both!(
    a_duplicate_event_is_stored_and_counted_once,
    a_repeated_batch_is_fenced_or_changes_nothing,
    a_writer_without_its_partition_is_fenced_and_stores_nothing,
    positions_of_several_partitions_advance_atomically,
    an_empty_batch_advances_the_position,
    a_poison_row_is_refused_and_the_others_can_be_written,
    a_closed_window_is_stored_once,
    unstorable_records_are_refused_before_sending,
);

async fn a_duplicate_event_is_stored_and_counted_once(env: StoreEnv) {
    let mut writer = writer_of(&env.store, TOPIC, Table::UserEvents, 2).await;
    let first = [Raw::view("a", "ann", 1_000), Raw::view("b", "ann", 2_000), Raw::view("a", "ann", 3_000)];
    assert_eq!(write_events(&mut writer, 0, 0, &first).await.unwrap().inserted, 2);
    let second = [Raw::view("b", "ann", 2_000), Raw::view("c", "ann", 4_000)];
    assert_eq!(write_events(&mut writer, 0, 3, &second).await.unwrap().inserted, 1);
    // From another partition too.
    assert_eq!(write_events(&mut writer, 1, 0, &first).await.unwrap().inserted, 0);

    let stored = env.store.user_events("ann", None, 10).await.unwrap();
    let times: Vec<(&str, i64)> = stored.iter().map(|e| (e.event_id.as_str(), e.time.0)).collect();
    assert_eq!(times, [("c", 4_000), ("b", 2_000), ("a", 1_000)], "the first of two counts");
    let stats = env.store.user_stats("ann").await.unwrap().unwrap();
    assert_eq!((stats.events, stats.sessions, stats.last_seen.0), (3, 1, 4_000));
    assert_eq!(env.store.counts().await.unwrap(), Counts { events: 3, ..Counts::default() });
}

async fn a_repeated_batch_is_fenced_or_changes_nothing(env: StoreEnv) {
    let batch = [Raw::view("a", "ann", 1_000), Raw::purchase("b", "ann", 2_000, r#"{"price":5}"#)];
    let mut writer = writer_of(&env.store, TOPIC, Table::UserEvents, 1).await;
    write_events(&mut writer, 0, 0, &batch).await.unwrap();
    // A crash after the commit: the writer expects position 0, but the stored position is 2.
    let again = write_events(&mut writer, 0, 0, &batch).await;
    assert!(matches!(again, Err(StoreError::Fenced { expected: Offset(0), .. })), "{again:?}");
    // The successor asks.
    let mut successor = env.again().await.unwrap().writer();
    let positions =
        successor.positions(TOPIC, Table::UserEvents, &[Partition(0), Partition(1)]).await.unwrap();
    assert_eq!(positions, [(Partition(0), Offset(2)), (Partition(1), Offset(0))]);
    // And if the producer had sent them once more:
    assert_eq!(write_events(&mut successor, 0, 2, &batch).await.unwrap().inserted, 0);
    let stats = env.store.user_stats("ann").await.unwrap().unwrap();
    assert_eq!((stats.events, stats.purchases, stats.revenue), (2, 1, 5.0));
}

async fn a_writer_without_its_partition_is_fenced_and_stores_nothing(env: StoreEnv) {
    let mut zombie = writer_of(&env.store, TOPIC, Table::UserEvents, 1).await;
    let mut owner = writer_of(&env.store, TOPIC, Table::UserEvents, 1).await;
    write_events(&mut owner, 0, 0, &[Raw::view("a", "ann", 1_000)]).await.unwrap();
    let refused = write_events(&mut zombie, 0, 0, &[Raw::view("z", "zoe", 1_000)]).await.unwrap_err();
    assert!(!refused.is_retryable() && !refused.is_poison());
    assert!(refused.to_string().starts_with("shop.events/0: another writer"), "{refused}");
    assert_eq!(env.store.user_stats("zoe").await.unwrap(), None);
    // The connection is as good as before.
    assert!(write_events(&mut zombie, 0, 1, &[Raw::view("y", "zoe", 1_000)]).await.is_ok());
}

async fn positions_of_several_partitions_advance_atomically(env: StoreEnv) {
    let mut writer = writer_of(&env.store, TOPIC, Table::UserEvents, 3).await;
    let rows = writer.rows(Table::UserEvents);
    let advance = |partition, expected, next| Advance {
        topic: TOPIC,
        partition: Partition(partition),
        expected: Offset(expected),
        next: Offset(next),
    };
    writer.write(&[advance(0, 0, 5), advance(1, 0, 7)], &rows, 0..0).await.unwrap();
    let half = writer.write(&[advance(0, 5, 6), advance(1, 0, 9)], &rows, 0..0).await;
    assert!(matches!(half, Err(StoreError::Fenced { .. })), "{half:?}");
    let all = [Partition(0), Partition(1), Partition(2)];
    let positions = writer.positions(TOPIC, Table::UserEvents, &all).await.unwrap();
    assert_eq!(positions.iter().map(|(_, next)| next.0).collect::<Vec<_>>(), [5, 7, 0]);
}

async fn an_empty_batch_advances_the_position(env: StoreEnv) {
    let mut writer = writer_of(&env.store, TOPIC, Table::Windows, 1).await;
    let rows = writer.rows(Table::Windows);
    let advance =
        Advance { topic: TOPIC, partition: Partition(0), expected: Offset(0), next: Offset(1_000_000) };
    assert_eq!(writer.write(&[advance], &rows, 0..0).await.unwrap().inserted, 0);
    let positions = writer.positions(TOPIC, Table::Windows, &[Partition(0)]).await.unwrap();
    assert_eq!(positions, [(Partition(0), Offset(1_000_000))]);
}

async fn a_poison_row_is_refused_and_the_others_can_be_written(env: StoreEnv) {
    let mut writer = writer_of(&env.store, TOPIC, Table::UserEvents, 1).await;
    for (index, properties) in [r#"{"n":1e200000}"#, r#"{"n":-1e200000}"#].iter().enumerate() {
        let start = i64::try_from(index).unwrap() * 3;
        let user = format!("user-{index}");
        let poison =
            Raw { properties: (*properties).to_owned(), ..Raw::view(&format!("p{index}"), &user, 2_000) };
        let (before, after) =
            (Raw::view(&format!("b{index}"), &user, 1_000), Raw::view(&format!("a{index}"), &user, 3_000));
        let batch = [before.clone(), poison, after.clone()];
        let all = write_events(&mut writer, 0, start, &batch).await;
        if !env.is_postgres() {
            // SQLite keeps JSON as the text it is.
            assert_eq!(all.unwrap().inserted, 3);
            continue;
        }
        let refused = all.unwrap_err();
        assert!(refused.is_poison() && !refused.is_retryable(), "{refused:?}");
        assert_eq!(env.store.user_stats(&user).await.unwrap(), None, "all or nothing");
        assert!(write_events(&mut writer, 0, start, &batch[1..2]).await.unwrap_err().is_poison());
        write_events(&mut writer, 0, start, &[before]).await.unwrap();
        // Past the poison without it.
        let rows = writer.rows(Table::UserEvents);
        let past = Advance {
            topic: TOPIC,
            partition: Partition(0),
            expected: Offset(start + 1),
            next: Offset(start + 2),
        };
        writer.write(&[past], &rows, 0..0).await.unwrap();
        write_events(&mut writer, 0, start + 2, &[after]).await.unwrap();
        assert_eq!(env.store.user_stats(&user).await.unwrap().unwrap().events, 2);
    }
}

async fn a_closed_window_is_stored_once(env: StoreEnv) {
    let mut writer = writer_of(&env.store, "shop.windows", Table::Windows, 1).await;
    let mut rows = writer.rows(Table::Windows);
    for window in [window("mug", 0, 3), window("mug", 10_000, 4), window("mug", 0, 3), window("cup", 0, 9)] {
        rows.push_window(&window).unwrap();
    }
    for (expected, range, inserted) in [(0, 0..2, 2), (2, 2..4, 1), (4, 0..4, 0)] {
        let advance = Advance {
            topic: "shop.windows",
            partition: Partition(0),
            expected: Offset(expected),
            next: Offset(expected + i64::try_from(range.len()).unwrap()),
        };
        assert_eq!(writer.write(&[advance], &rows, range).await.unwrap().inserted, inserted);
    }
    let stored = env.store.windows("views", Fingerprint::of_hash(7), "mug", None, None, 10).await.unwrap();
    assert_eq!(stored, [window("mug", 0, 3), window("mug", 10_000, 4)]);
    assert_eq!(env.store.counts().await.unwrap().windows, 3);
}

async fn unstorable_records_are_refused_before_sending(env: StoreEnv) {
    let mut rows = env.store.writer().rows(Table::UserEvents);
    let mut refused = |raw: Raw| {
        let json = raw.json();
        rows.push_event(Partition(0), Offset(0), &EventRef::parse(json.as_bytes()).unwrap()).unwrap_err()
    };
    assert_eq!(refused(Raw::view("a\\u0000b", "ann", 0)), Unstorable::Nul { field: "event_id" });
    assert_eq!(
        refused(Raw::view("a", &"x".repeat(1025), 0)),
        Unstorable::Long { field: "user_id", length: 1025 }
    );
    let endless = Unstorable::Time { field: "time", millis: i64::MAX - 100 };
    assert_eq!(refused(Raw::view("a", "ann", i64::MAX - 100)), endless);
    if env.is_postgres() {
        let nul = Raw { properties: r#"{"note":"a \u0000 inside"}"#.into(), ..Raw::view("a", "ann", 0) };
        assert_eq!(refused(nul), Unstorable::Escape { field: "properties", code: 0 });
    }
    assert!(rows.is_empty(), "the batch is as it was");
}
