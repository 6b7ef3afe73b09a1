//! Reading all events again.

use herd_spec::units::EventTime;
use herd_store::{EventTimes, Store, StoreError, StoreLocation, StoredEvent, Table};
use tokio::sync::mpsc;

use crate::env::{Raw, StoreEnv, TOPIC, server, write_events, writer_of};
use crate::on_both;

on_both!(
    events_come_back_by_partition_and_the_time_it_has_reached,
    events_come_back_as_they_were,
    only_the_time_asked_for_comes_back,
    a_reader_that_stops_ends_the_replay,
    an_opening_to_read_cannot_write,
);

const AT: i64 = 1_700_000_000_000;

/// Opens the tables as `herd backtest` does.
fn to_read(env: &StoreEnv) -> Store {
    let location = if env.is_postgres() {
        StoreLocation::Postgres { url: server(), schema: env.schema.clone() }
    } else {
        StoreLocation::Sqlite(env.file.clone())
    };
    Store::open_to_read(&location).unwrap()
}

async fn replay(store: &Store, since: Option<i64>, until: Option<i64>) -> Vec<StoredEvent> {
    let (sender, mut receiver) = mpsc::channel(1);
    let store = store.clone();
    let (since, until) = (since.map(EventTime), until.map(EventTime));
    let sending = tokio::spawn(async move { store.replay(since, until, &sender).await });
    let mut all = Vec::new();
    while let Some(batch) = receiver.recv().await {
        assert!(!batch.is_empty() && batch.len() <= 1_024, "{} events in a batch", batch.len());
        all.extend(batch);
    }
    sending.await.unwrap().unwrap();
    all
}

fn ids(events: &[StoredEvent]) -> Vec<(u32, String)> {
    events.iter().map(|event| (event.partition.0, event.event().unwrap().event_id.into_owned())).collect()
}

async fn events_come_back_by_partition_and_the_time_it_has_reached(env: StoreEnv) {
    let mut writer = writer_of(&env.store, TOPIC, Table::UserEvents, 4).await;
    let at = |id: &str, second: i64| Raw::view(id, "u", AT + second * 1_000);
    // Partition 3 jumps ahead with its second event: what follows there comes when the other partition has got as far.
    for (partition, events) in
        [(3, [at("a", 0), at("b", 60), at("c", 5)]), (1, [at("d", 1), at("e", 2), at("f", 70)])]
    {
        write_events(&mut writer, partition, 0, &events).await.unwrap();
    }
    let store = to_read(&env);
    let seen = ids(&replay(&store, None, None).await);
    let expected = [(3, "a"), (1, "d"), (1, "e"), (3, "b"), (3, "c"), (1, "f")];
    assert_eq!(seen, expected.map(|(partition, id)| (partition, id.to_owned())));
    assert_eq!(store.event_partitions().await.unwrap(), 4);
    let times = EventTimes { first: EventTime(AT), last: EventTime(AT + 70_000) };
    assert_eq!(store.event_times().await.unwrap(), Some(times));
}

async fn events_come_back_as_they_were(env: StoreEnv) {
    let mut writer = writer_of(&env.store, TOPIC, Table::UserEvents, 4).await;
    let properties = r#"{"price": 9.50, "note": "ü \"x\"", "cart": {"lines": [1, 2]}}"#;
    let mut nobody = Raw::view("b", "u", AT + 1);
    nobody.user = None;
    let sent = [Raw::purchase("a", "u", AT, properties), nobody];
    write_events(&mut writer, 0, 0, &sent).await.unwrap();
    let back = replay(&to_read(&env), None, None).await;
    assert_eq!(back.len(), sent.len());
    for (raw, stored) in sent.iter().zip(&back) {
        let json = raw.json();
        let (sent, stored) =
            (herd_spec::wire::EventRef::parse(json.as_bytes()).unwrap(), stored.event().unwrap());
        assert_eq!(
            (&sent.event_id, &sent.event_type, &sent.user_id, &sent.item_id, sent.time, sent.received),
            (
                &stored.event_id,
                &stored.event_type,
                &stored.user_id,
                &stored.item_id,
                stored.time,
                stored.received
            )
        );
        let value = |event: &herd_spec::wire::EventRef<'_>| -> serde_json::Value {
            serde_json::from_str(event.properties.unwrap().get()).unwrap()
        };
        assert_eq!(value(&sent), value(&stored));
        // The digits of numbers are kept: keys and sums are made of them.
        if raw.id == "a" {
            assert!(stored.properties.unwrap().get().contains("9.50"));
        }
    }
}

async fn only_the_time_asked_for_comes_back(env: StoreEnv) {
    let mut writer = writer_of(&env.store, TOPIC, Table::UserEvents, 4).await;
    let events: Vec<Raw> = (0..3_000).map(|n| Raw::view(&format!("{n:04}"), "u", AT + n)).collect();
    write_events(&mut writer, 0, 0, &events).await.unwrap();
    let store = to_read(&env);
    for (since, until) in
        [(None, None), (Some(AT + 10), None), (None, Some(AT + 10)), (Some(AT + 10), Some(AT + 2_500))]
    {
        let seen = ids(&replay(&store, since, until).await);
        let is_asked =
            |n: &i64| since.is_none_or(|since| AT + n >= since) && until.is_none_or(|until| AT + n < until);
        let expected: Vec<_> = (0..3_000).filter(is_asked).map(|n| (0, format!("{n:04}"))).collect();
        assert_eq!(seen, expected, "{since:?} {until:?}");
    }
    assert_eq!(replay(&store, Some(AT + 5_000), None).await, []);
}

async fn a_reader_that_stops_ends_the_replay(env: StoreEnv) {
    let mut writer = writer_of(&env.store, TOPIC, Table::UserEvents, 4).await;
    let events: Vec<Raw> = (0..8_000).map(|n| Raw::view(&format!("{n}"), "u", AT + n)).collect();
    write_events(&mut writer, 0, 0, &events).await.unwrap();
    let (sender, mut receiver) = mpsc::channel(1);
    let store = to_read(&env);
    let sending = tokio::spawn(async move { store.replay(None, None, &sender).await });
    assert_eq!(receiver.recv().await.unwrap().len(), 1_024);
    drop(receiver);
    tokio::time::timeout(std::time::Duration::from_secs(60), sending).await.unwrap().unwrap().unwrap();
}

async fn an_opening_to_read_cannot_write(env: StoreEnv) {
    let store = to_read(&env);
    let id = herd_spec::wire::AlertId("a".into());
    let refused = store.set_feedback(&id, true, herd_spec::units::WallTime(AT)).await;
    assert!(
        matches!(refused, Err(StoreError::Refused { .. } | StoreError::Unavailable { .. })),
        "{refused:?}"
    );
    assert_eq!(replay(&store, None, None).await, []);
    assert_eq!(store.event_times().await.unwrap(), None);
}
