//! What was written reads the same.

use herd_spec::units::EventTime;
use herd_spec::units::{Offset, Partition};
use herd_spec::wire::{Event, Fingerprint};
use herd_store::{Advance, Table, UserOrder};

use crate::env::{Raw, StoreEnv, TOPIC, window, write_events, writer_of};

crate::on_both!(
    events_are_read_as_written,
    pages_of_events_do_not_split_a_millisecond,
    windows_are_ordered_and_limited_to_the_newest,
    users_are_ranked,
    unknown_keys_and_users_have_no_data,
);

async fn events_are_read_as_written(env: StoreEnv) {
    let properties = r#"{"price":9.5,"tags":["a","ü \"x\"\n"],"deep":{"n":null,"big":12345678901234567}}"#;
    let raw =
        Raw { properties: properties.into(), ..Raw::view("e-1", "ann \\\"the\\\" user", 1_700_000_000_123) };
    let mut writer = writer_of(&env.store, TOPIC, Table::UserEvents, 1).await;
    let bare = Raw { properties: "null".into(), ..Raw::view("e-0", "ann", -1) };
    write_events(&mut writer, 0, 0, &[raw.clone(), bare]).await.unwrap();
    let stored = env.store.user_events("ann \"the\" user", None, 10).await.unwrap();
    let written = Event::parse(raw.json().as_bytes()).unwrap();
    let key_order = |event: &Event| serde_json::to_value(&event.properties).unwrap();
    assert_eq!(stored.len(), 1);
    assert_eq!(key_order(&stored[0]), key_order(&written));
    assert_eq!(Event { properties: written.properties.clone(), ..stored[0].clone() }, written);
    let bare = env.store.user_events("ann", None, 10).await.unwrap();
    assert!(bare[0].properties.is_empty() && bare[0].time == EventTime(-1));
}

async fn pages_of_events_do_not_split_a_millisecond(env: StoreEnv) {
    let mut writer = writer_of(&env.store, TOPIC, Table::UserEvents, 1).await;
    let events: Vec<Raw> =
        (0..20).map(|n| Raw::view(&format!("e{n:02}"), "ann", [1_000, 2_000, 3_000, 4_000][n / 6])).collect();
    write_events(&mut writer, 0, 0, &events).await.unwrap();
    let whole = env.store.user_events("ann", None, 100).await.unwrap();
    assert_eq!(whole.len(), 20);
    for limit in [1, 3, 6, 7, 20] {
        let (mut before, mut joined) = (None, Vec::new());
        loop {
            let page = env.store.user_events("ann", before, limit).await.unwrap();
            let Some(last) = page.last() else { break };
            before = Some(last.time);
            joined.extend(page);
        }
        assert_eq!(joined, whole, "pages of {limit}");
    }
}

async fn windows_are_ordered_and_limited_to_the_newest(env: StoreEnv) {
    let mut writer = writer_of(&env.store, "windows", Table::Windows, 1).await;
    let mut rows = writer.rows(Table::Windows);
    for n in 0..6 {
        rows.push_window(&window("mug", n * 10_000, 7)).unwrap();
    }
    let advance = Advance { topic: "windows", partition: Partition(0), expected: Offset(0), next: Offset(6) };
    writer.write(&[advance], &rows, 0..6).await.unwrap();
    type Case<'a> = (Option<i64>, Option<i64>, u32, &'a [i64]);
    let table: [Case<'_>; 4] = [
        (None, None, 10, &[0, 10_000, 20_000, 30_000, 40_000, 50_000]),
        (None, None, 2, &[40_000, 50_000]),
        (Some(10_000), Some(30_000), 10, &[10_000, 20_000]),
        (Some(10_000), Some(50_000), 1, &[40_000]),
    ];
    for (from, to, limit, expected) in table {
        let read = env
            .store
            .windows("views", Fingerprint::of_hash(7), "mug", from.map(EventTime), to.map(EventTime), limit)
            .await
            .unwrap();
        assert_eq!(read.iter().map(|window| window.start.0).collect::<Vec<_>>(), expected);
    }
}

async fn users_are_ranked(env: StoreEnv) {
    let mut writer = writer_of(&env.store, TOPIC, Table::UserEvents, 1).await;
    let events = [
        Raw::view("1", "ann", 1),
        Raw::view("2", "ann", 2),
        Raw::view("3", "bob", 9),
        Raw::purchase("4", "cid", 5, r#"{"revenue":3}"#),
    ];
    write_events(&mut writer, 0, 0, &events).await.unwrap();
    for (order, expected) in [
        (UserOrder::Revenue, ["cid", "ann", "bob"]),
        (UserOrder::Events, ["ann", "bob", "cid"]),
        (UserOrder::LastSeen, ["bob", "cid", "ann"]),
    ] {
        let top = env.store.top_users(order, 10).await.unwrap();
        assert_eq!(top.iter().map(|user| user.user_id.as_str()).collect::<Vec<_>>(), expected, "{order}");
    }
    assert_eq!(env.store.top_users(UserOrder::Events, 1).await.unwrap().len(), 1);
}

async fn unknown_keys_and_users_have_no_data(env: StoreEnv) {
    assert_eq!(env.store.user_stats("nobody").await.unwrap(), None);
    assert!(env.store.user_events("nobody", None, 5).await.unwrap().is_empty());
    assert!(
        env.store
            .windows("no metric", Fingerprint::of_hash(7), "no key", None, None, 5)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(env.store.counts().await.unwrap(), herd_store::Counts::default());
}
