//! How an alert goes on is stored with it: its newest record, when it first was in each state, and what people say of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use herd_spec::units::{EventTime, WallTime};
use herd_spec::wire::{Alert, AlertState, Cause, Ending, Episode, Explanation};
use herd_store::{AlertFilter, StateChange, Store, StoredAlert, Table};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::env::{StoreEnv, alert, execute_directly, server, write_alerts, writer_of};
use AlertState::{Early, Firing, Resolved, Withdrawn};

crate::on_both!(
    an_episode_is_read_as_it_was_recorded,
    the_row_is_the_newest_record_in_any_order,
    an_explanation_outlasts_later_records_without_one,
    a_nul_character_in_an_explanation_is_replaced,
    the_last_feedback_counts,
    rows_from_before_episodes_are_read_and_brought_up_to_date,
);

const START: i64 = 1_700_000_000_000;

fn episode(windows: i64, ending: Option<Ending>) -> Episode {
    Episode {
        since: EventTime(START - 20_000),
        until: EventTime(START + 10_000 * windows),
        peak: 96.5 + windows as f64,
        peak_start: EventTime(START + 10_000 * (windows - 1)),
        excess: 512.25 * windows as f64,
        ending,
    }
}

async fn read(store: &Store, key: &str) -> Option<StoredAlert> {
    let filter = AlertFilter { key: Some(key.into()), ..AlertFilter::default() };
    let page = store.alerts(&filter).await.unwrap();
    assert!(page.alerts.len() <= 1);
    page.alerts.into_iter().next()
}

async fn an_episode_is_read_as_it_was_recorded(env: StoreEnv) {
    let table = [
        ("none yet", Early, None),
        ("lasts", Firing, Some(episode(2, None))),
        ("usual again", Resolved, Some(episode(25, Some(Ending::Usual)))),
        ("new level", Resolved, Some(episode(40, Some(Ending::NewLevel(340.125))))),
        ("fewer than usual", Firing, Some(Episode { peak: -0.5, excess: -5120.0, ..episode(1, None) })),
    ];
    let mut writer = writer_of(&env.store, "alerts", Table::Alerts, 1).await;
    for (offset, (key, state, episode)) in (0..).zip(table) {
        let sent = Alert { span_ms: 80_000, episode, ..alert(key, START, state) };
        write_alerts(&mut writer, "alerts", offset, &[(sent.clone(), START + 700)]).await;
        let history = vec![StateChange { state, at: WallTime(START + 700) }];
        let expected = StoredAlert { alert: sent, raised: WallTime(START + 700), history, useful: None };
        assert_eq!(read(&env.store, key).await, Some(expected));
    }
    // Records from before the span was recorded are of one window.
    let old = Alert { span_ms: 0, ..alert("old", START, Firing) };
    write_alerts(&mut writer, "alerts", 5, &[(old, START)]).await;
    assert_eq!(read(&env.store, "old").await.unwrap().alert.span_ms, 10_000);
}

/// A record of one alert: state, windows in its episode (0: none), events, score, when it was sent, and its explanation: windows
/// and events that were looked through.
type Sent = (AlertState, i64, u64, u8, i64, Option<(i64, u64)>);

fn explanation(windows: i64, events: u64) -> Explanation {
    let pair = |field: &str, value: &str| (field.to_owned(), value.to_owned());
    Explanation {
        until: EventTime(START + 10_000 * windows),
        events,
        sampled: events % 2 == 1,
        users: events / 2,
        causes: vec![
            Cause { values: vec![pair("properties.country", "BR")], share: 0.92, usual: 0.1 + 0.2 },
            Cause {
                values: vec![pair("properties.device", "a \"tablet\" \\u0000 é"), pair("user_id", "")],
                share: 1.0 / 3.0,
                usual: 0.0,
            },
        ],
        // Not in the order of ASCII in every collation, as above.
        summary: ["e", "E", "é", "z"][usize::try_from(events % 4).unwrap()].into(),
    }
}

fn record(key: &str, (state, windows, count, score, _, explained): Sent) -> Alert {
    let ending = (state == Resolved).then_some(Ending::Usual);
    Alert {
        count,
        score: f64::from(score) / 8.0,
        // Not in the order of ASCII in every collation: é, E, e.
        summary: format!("{key}: {}", ["e", "E", "é", "z"][usize::from(score) % 4]),
        episode: (windows > 0).then(|| episode(windows, ending)),
        explanation: explained.map(|(windows, events)| explanation(windows, events)),
        ..alert(key, START, state)
    }
}

/// Records of one alert, the same ones in another order with some of them twice, and how many are in a batch.
fn deliveries() -> impl Strategy<Value = (Vec<Sent>, Vec<Sent>, usize)> {
    let state = prop_oneof![3 => Just(Early), 5 => Just(Firing), 2 => Just(Resolved), 1 => Just(Withdrawn)];
    let explained = prop::option::of((1..4_i64, 400..404_u64));
    let record = (state, 0..4_i64, 400..403_u64, 0..6_u8, 0..5_000_i64, explained);
    prop::collection::vec(record, 1..10).prop_flat_map(|all| {
        let twice: Vec<Sent> = all.iter().chain(all.iter().take(4)).copied().collect();
        (Just(all), Just(twice).prop_shuffle(), 1..6_usize)
    })
}

static CASE: AtomicU32 = AtomicU32::new(0);

async fn deliver(store: &Store, key: &str, records: &[Sent], batch: usize) {
    let mut writer = writer_of(store, key, Table::Alerts, 1).await;
    let mut next = 0;
    for some in records.chunks(batch) {
        let some: Vec<(Alert, i64)> = some.iter().map(|sent| (record(key, *sent), START + sent.4)).collect();
        write_alerts(&mut writer, key, next, &some).await;
        next += i64::try_from(some.len()).unwrap();
    }
}

/// What must be stored after these records.
fn expected(key: &str, records: &[Sent]) -> Option<StoredAlert> {
    let newest = records.iter().map(|sent| record(key, *sent)).max_by(|a, b| {
        let order = |alert: &Alert| {
            (alert.state.rank(), alert.episode.as_ref().map(|episode| episode.until), alert.count)
        };
        order(a).cmp(&order(b)).then(a.score.total_cmp(&b.score)).then_with(|| a.summary.cmp(&b.summary))
    });
    let mut first: BTreeMap<AlertState, i64> = BTreeMap::new();
    for (state, _, _, _, at, _) in records {
        let known = first.entry(*state).or_insert(*at);
        *known = (*at).min(*known);
    }
    let raised = WallTime(START + first.values().min().unwrap());
    let change = |(state, at): (AlertState, i64)| StateChange { state, at: WallTime(START + at) };
    let explanation = records
        .iter()
        .filter_map(|sent| record(key, *sent).explanation)
        .max_by_key(|explanation| (explanation.until, explanation.events));
    let alert = Alert { explanation, ..newest.filter(|alert| alert.state != Withdrawn)? };
    Some(StoredAlert { alert, raised, history: first.into_iter().map(change).collect(), useful: None })
}

async fn check(store: &Store, all: &[Sent], shuffled: &[Sent], batch: usize) {
    let case = CASE.fetch_add(1, Ordering::Relaxed);
    for (name, records, batch) in
        [("in-order", all, 1), ("shuffled", shuffled, batch), ("at-once", shuffled, 100)]
    {
        let key = format!("{case}-{name}");
        deliver(store, &key, records, batch).await;
        assert_eq!(read(store, &key).await, expected(&key, all), "{records:?} in batches of {batch}");
    }
}

async fn the_row_is_the_newest_record_in_any_order(env: StoreEnv) {
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let mut runner =
            TestRunner::new(Config { cases: 64, failure_persistence: None, ..Config::default() });
        runner
            .run(&deliveries(), |(all, shuffled, batch)| {
                runtime.block_on(check(&env.store, &all, &shuffled, batch));
                Ok(())
            })
            .unwrap();
    })
    .await
    .unwrap();
}

async fn an_explanation_outlasts_later_records_without_one(env: StoreEnv) {
    let mut writer = writer_of(&env.store, "alerts", Table::Alerts, 1).await;
    let raised = Alert { episode: Some(episode(1, None)), ..alert("mug", START, Firing) };
    let explained = Alert { explanation: Some(explanation(1, 412)), ..raised.clone() };
    let over = Alert { episode: Some(episode(9, Some(Ending::Usual))), ..alert("mug", START, Resolved) };
    // The second one is equal to the first in all but the explanation.
    for (offset, sent) in (0..).zip([raised, explained, over.clone()]) {
        write_alerts(&mut writer, "alerts", offset, &[(sent, START)]).await;
    }
    let stored = read(&env.store, "mug").await.unwrap().alert;
    assert_eq!(stored, Alert { explanation: Some(explanation(1, 412)), ..over });
}

async fn a_nul_character_in_an_explanation_is_replaced(env: StoreEnv) {
    let mut odd = explanation(1, 412);
    odd.summary = "100 % via a\0b".into();
    odd.causes[0].values[0].1 = "a\0b".into();
    let mut clean = odd.clone();
    clean.summary = "100 % via a\u{fffd}b".into();
    clean.causes[0].values[0].1 = "a\u{fffd}b".into();
    let sent = Alert { explanation: Some(odd), ..alert("mug", START, Firing) };
    let mut writer = writer_of(&env.store, "alerts", Table::Alerts, 1).await;
    write_alerts(&mut writer, "alerts", 0, &[(sent, START)]).await;
    assert_eq!(read(&env.store, "mug").await.unwrap().alert.explanation, Some(clean));
}

async fn the_last_feedback_counts(env: StoreEnv) {
    let store = &env.store;
    let (mug, cup) = (alert("mug", START, Firing), alert("cup", START, Withdrawn));
    assert!(!store.has_alert(&mug.id).await.unwrap());
    // Said before the sink has stored the alert.
    store.set_feedback(&mug.id, true, WallTime(2_000)).await.unwrap();
    let mut writer = writer_of(store, "alerts", Table::Alerts, 1).await;
    write_alerts(&mut writer, "alerts", 0, &[(mug.clone(), START), (cup.clone(), START)]).await;
    assert!(store.has_alert(&mug.id).await.unwrap());
    assert!(!store.has_alert(&cup.id).await.unwrap(), "withdrawn");
    for (useful, time, counts) in [(false, 3_000, false), (true, 1_000, false), (true, 3_000, true)] {
        store.set_feedback(&mug.id, useful, WallTime(time)).await.unwrap();
        assert_eq!(read(store, "mug").await.unwrap().useful, Some(counts), "{useful} at {time}");
    }
    // Later records of the alert leave it as it is.
    let over = Alert { episode: Some(episode(3, Some(Ending::Usual))), ..alert("mug", START, Resolved) };
    write_alerts(&mut writer, "alerts", 2, &[(over, START)]).await;
    assert_eq!(read(store, "mug").await.unwrap().useful, Some(true));
}

async fn rows_from_before_episodes_are_read_and_brought_up_to_date(env: StoreEnv) {
    let old = if env.is_postgres() {
        StoreEnv { schema: format!("{}-old", env.schema), ..env }
    } else {
        StoreEnv { file: env.file.with_file_name("old.db"), ..env }
    };
    // The tables of version 2, by the same migrations.
    let folder = tempfile::tempdir().unwrap();
    let dialect = if old.is_postgres() { "postgres" } else { "sqlite" };
    let all = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(dialect);
    for file in ["0001_tables.sql", "0002_window_definitions.sql"] {
        std::fs::copy(all.join(file), folder.path().join(file)).unwrap();
    }
    let migrator = sqlx::migrate::Migrator::new(folder.path()).await.unwrap();
    let known = alert("mug", START, Firing);
    let row = |start: &str| {
        format!(
            "INSERT INTO alerts (id, pipeline, detector, metric, key, severity, state, rank, start, size_ms, count, value, \
             expected, spread, score, summary, raised) VALUES ('{}', 'shop', 'rush', 'views', 'mug', 'warning', 'firing', 1, \
             {start}, 10000, 401, 412.5, 35.0, 6.0, 62.9, '{}', {start})",
            known.id, known.summary
        )
    };
    use sqlx::{AssertSqlSafe, Connection, Executor};
    if old.is_postgres() {
        let mut connection = sqlx::PgConnection::connect(&server()).await.unwrap();
        let schema = format!("CREATE SCHEMA \"{0}\"; SET search_path TO \"{0}\"", old.schema);
        connection.execute(AssertSqlSafe(schema)).await.unwrap();
        migrator.run_direct(None, &mut connection, false).await.unwrap();
        execute_directly(&old, &row("timestamptz '2023-11-14 22:13:20Z'")).await;
    } else {
        let url = format!("sqlite://{}?mode=rwc", old.file.display());
        let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
        migrator.run_direct(None, &mut connection, false).await.unwrap();
        execute_directly(&old, &row(&START.to_string())).await;
    }
    let store = old.again().await.unwrap();
    let before = StoredAlert { alert: known, raised: WallTime(START), history: Vec::new(), useful: None };
    assert_eq!(read(&store, "mug").await, Some(before));
    let over = Alert { episode: Some(episode(3, Some(Ending::Usual))), ..alert("mug", START, Resolved) };
    let mut writer = writer_of(&store, "alerts", Table::Alerts, 1).await;
    write_alerts(&mut writer, "alerts", 0, &[(over.clone(), START + 40_000)]).await;
    let history = vec![StateChange { state: Resolved, at: WallTime(START + 40_000) }];
    let after = StoredAlert { alert: over, raised: WallTime(START), history, useful: None };
    assert_eq!(read(&store, "mug").await, Some(after));
    if old.is_postgres() {
        crate::env::drop_schema(&old.schema).await;
    }
}
