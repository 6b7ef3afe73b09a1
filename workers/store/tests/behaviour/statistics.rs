//! A user's statistics are a function of the set of the user's events: not of their order, their batches, their replays.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use herd_store::{Store, Table, UserOrder, UserStats};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rstest::rstest;

use crate::env::{Raw, StoreEnv, TOPIC, write_events, write_events_of, writer_of};

crate::on_both!(
    statistics_equal_a_recomputation,
    sessions_end_after_thirty_minutes,
    concurrent_writers_of_a_user_agree,
    money_adds_up_exactly,
    events_without_a_user_are_not_counted,
);

const MINUTE: i64 = 60_000;

/// Recomputes the statistics from all events, the first of each id.
fn recomputed(events: &[Raw]) -> BTreeMap<String, (i64, i64, i64, i64, i64, i64)> {
    let mut seen = std::collections::HashSet::new();
    let mut users: BTreeMap<String, Vec<&Raw>> = BTreeMap::new();
    for event in events.iter().filter(|event| seen.insert(event.id.clone())) {
        users.entry(event.user.clone().unwrap()).or_default().push(event);
    }
    let tally = |of: &Vec<&Raw>| {
        let mut times: Vec<i64> = of.iter().map(|event| event.time).collect();
        times.sort_unstable();
        let purchases = of.iter().filter(|event| event.kind == "purchase").count();
        let gaps = times.windows(2).filter(|pair| pair[1] - pair[0] > 30 * MINUTE).count();
        let count = |n: usize| i64::try_from(n).unwrap();
        (
            count(of.len()),
            count(purchases),
            count(purchases) * 2_500_000,
            count(gaps) + 1,
            times[0],
            times[times.len() - 1],
        )
    };
    users.iter().map(|(user, of)| (user.clone(), tally(of))).collect()
}

fn figures(stats: &UserStats) -> (i64, i64, i64, i64, i64, i64) {
    #[allow(clippy::cast_possible_truncation)]
    let micros = (stats.revenue * 1e6).round() as i64;
    (stats.events, stats.purchases, micros, stats.sessions, stats.first_seen.0, stats.last_seen.0)
}

/// Events of three users in twelve hours, some at the same moment, some of them twice, in batches of any size.
fn history() -> impl Strategy<Value = Vec<Vec<Raw>>> {
    let event =
        (0..60_u32, 0..3_u8, prop_oneof![0..720_i64, 0..60_i64, Just(30), Just(60)], any::<bool>(), 0..2_i64);
    let event = event.prop_map(|(id, user, minute, buys, millis)| {
        // The user is part of the id: the same event is the same user's.
        let (id, user) = (format!("{id}-{user}"), format!("user-{user}"));
        let time = minute * MINUTE + millis;
        if buys {
            Raw::purchase(&id, &user, time, r#"{"price":"2.50"}"#)
        } else {
            Raw::view(&id, &user, time)
        }
    });
    prop::collection::vec(prop::collection::vec(event, 1..12), 1..8)
}

static CASE: AtomicU32 = AtomicU32::new(0);

/// Writes the batches, turn about from two partitions with a writer each.
async fn check(store: &Store, batches: &[Vec<Raw>]) {
    let case = CASE.fetch_add(1, Ordering::Relaxed);
    let topic = format!("case-{case}");
    let own = |raw: &Raw| Raw {
        id: format!("{case}-{}", raw.id),
        user: raw.user.as_ref().map(|user| format!("{case}-{user}")),
        ..raw.clone()
    };
    let batches: Vec<Vec<Raw>> = batches.iter().map(|batch| batch.iter().map(own).collect()).collect();
    let mut writers = [
        writer_of(store, &topic, Table::UserEvents, 1).await,
        writer_of(store, &topic, Table::UserEvents, 2).await,
    ];
    let mut next = [0; 2];
    for (index, batch) in batches.iter().enumerate() {
        let side = index % 2;
        write_events_of(&mut writers[side], &topic, u32::try_from(side).unwrap(), next[side], batch)
            .await
            .unwrap();
        next[side] += i64::try_from(batch.len()).unwrap();
    }
    for (user, expected) in recomputed(&batches.concat()) {
        let stats = store.user_stats(&user).await.unwrap().unwrap();
        assert_eq!(figures(&stats), expected, "{user} of {batches:#?}");
    }
}

async fn statistics_equal_a_recomputation(env: StoreEnv) {
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let mut runner =
            TestRunner::new(Config { cases: 64, failure_persistence: None, ..Config::default() });
        runner
            .run(&history(), |batches| {
                runtime.block_on(check(&env.store, &batches));
                Ok(())
            })
            .unwrap();
    })
    .await
    .unwrap();
}

async fn sessions_end_after_thirty_minutes(env: StoreEnv) {
    let mut writer = writer_of(&env.store, TOPIC, Table::UserEvents, 1).await;
    // Each a batch of its own; what stands after it is the number of sessions then.
    let steps = [
        (0, 1),
        (30 * MINUTE, 1),
        (60 * MINUTE + 1, 2),
        (200 * MINUTE, 3),
        // Before all others, within reach of none.
        (-31 * MINUTE, 4),
        // Joins two.
        (60 * MINUTE, 3),
        // Amid a gap, near neither end.
        (130 * MINUTE, 4),
        (-MINUTE, 3),
    ];
    for (offset, (time, sessions)) in (0..).zip(steps) {
        write_events(&mut writer, 0, offset, &[Raw::view(&format!("e{offset}"), "ann", time)]).await.unwrap();
        let stats = env.store.user_stats("ann").await.unwrap().unwrap();
        assert_eq!(stats.sessions, sessions, "after the event at minute {}", time / MINUTE);
    }
}

async fn concurrent_writers_of_a_user_agree(env: StoreEnv) {
    let mut tasks = tokio::task::JoinSet::new();
    let mut all = Vec::new();
    for side in 0..4_u32 {
        let events: Vec<Raw> = (0..200_i64)
            .map(|n| {
                let minute = (n * 7919 + i64::from(side) * 131) % 5_000;
                Raw::view(&format!("{side}-{n}"), &format!("user-{}", n % 3), minute * MINUTE)
            })
            .collect();
        all.extend(events.clone());
        let mut writer = writer_of(&env.store, TOPIC, Table::UserEvents, side + 1).await;
        tasks.spawn(async move {
            for (index, batch) in (0..).zip(events.chunks(10)) {
                // A deadlock between writers is retryable, and retried.
                loop {
                    match write_events(&mut writer, side, index * 10, batch).await {
                        Ok(_) => break,
                        Err(error) => assert!(error.is_retryable(), "{error}"),
                    }
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    for (user, expected) in recomputed(&all) {
        assert_eq!(figures(&env.store.user_stats(&user).await.unwrap().unwrap()), expected, "{user}");
    }
}

async fn money_adds_up_exactly(env: StoreEnv) {
    let mut writer = writer_of(&env.store, TOPIC, Table::UserEvents, 1).await;
    let dimes: Vec<Raw> = (0..1000)
        .map(|n| Raw::purchase(&format!("d{n}"), "ann", n, r#"{"price":0.1,"quantity":1}"#))
        .collect();
    write_events(&mut writer, 0, 0, &dimes).await.unwrap();
    write_events(&mut writer, 0, 1000, &[Raw::purchase("x", "bob", 0, r#"{"revenue":1e300}"#)])
        .await
        .unwrap();
    let fortunes: Vec<Raw> =
        (0..20).map(|n| Raw::purchase(&format!("f{n}"), "cid", n, r#"{"revenue":1e300}"#)).collect();
    write_events(&mut writer, 0, 1001, &fortunes).await.unwrap();
    let top = env.store.top_users(UserOrder::Revenue, 10).await.unwrap();
    let money: Vec<(&str, f64)> = top.iter().map(|user| (user.user_id.as_str(), user.revenue)).collect();
    assert_eq!(money, [("cid", 2e13), ("bob", 1e12), ("ann", 100.0)]);
}

async fn events_without_a_user_are_not_counted(env: StoreEnv) {
    let mut writer = writer_of(&env.store, TOPIC, Table::UserEvents, 1).await;
    let nobody = Raw { user: None, ..Raw::view("a", "", 0) };
    assert_eq!(write_events(&mut writer, 0, 0, &[nobody]).await.unwrap().inserted, 1);
    assert!(env.store.top_users(UserOrder::Events, 10).await.unwrap().is_empty());
    assert_eq!(env.store.counts().await.unwrap().events, 1);
}

#[rstest]
#[case("revenue", Ok(UserOrder::Revenue))]
#[case("last_seen", Ok(UserOrder::LastSeen))]
#[case("name", Err("`name` is not an order of users; use `revenue`, `events` or `last_seen`".to_owned()))]
fn parses_an_order_of_users(#[case] written: &str, #[case] order: Result<UserOrder, String>) {
    assert_eq!(written.parse::<UserOrder>(), order);
}
