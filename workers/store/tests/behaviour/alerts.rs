//! An alert's row is the highest of its states, in whatever order and however often its records come (`episodes` has the order
//! within a state).

use herd_spec::units::WallTime;
use herd_spec::wire::{AlertState, Severity};
use herd_store::{AlertFilter, StateChange, StoredAlert, Table};

use crate::env::{StoreEnv, alert, write_alerts, writer_of};

crate::on_both!(
    the_highest_state_wins_in_any_order,
    alerts_are_filtered,
    pages_have_no_gap_or_overlap,
    refuses_an_invalid_cursor,
);

async fn only(env: &StoreEnv, key: &str) -> Option<StoredAlert> {
    let page =
        env.store.alerts(&AlertFilter { key: Some(key.into()), ..AlertFilter::default() }).await.unwrap();
    assert!(page.alerts.len() <= 1);
    page.alerts.into_iter().next()
}

async fn the_highest_state_wins_in_any_order(env: StoreEnv) {
    use AlertState::{Early, Firing, Resolved, Withdrawn};
    let orders: [&[(AlertState, i64)]; 8] = [
        &[(Early, 100), (Firing, 200), (Resolved, 300)],
        &[(Early, 100), (Resolved, 300), (Firing, 200)],
        &[(Firing, 200), (Early, 100), (Resolved, 300)],
        &[(Firing, 200), (Resolved, 300), (Early, 100)],
        &[(Resolved, 300), (Early, 100), (Firing, 200)],
        &[(Resolved, 300), (Firing, 200), (Early, 100)],
        &[(Early, 100), (Firing, 200), (Early, 100), (Resolved, 300), (Firing, 200), (Resolved, 300)],
        &[(Early, 100), (Withdrawn, 150), (Early, 100)],
    ];
    for (index, order) in orders.iter().enumerate() {
        for in_one_batch in [true, false] {
            let name = format!("{index}-{in_one_batch}");
            let mut writer = writer_of(&env.store, &name, Table::Alerts, 1).await;
            let records: Vec<_> =
                order.iter().map(|(state, sent)| (alert(&name, 5_000, *state), *sent)).collect();
            let batch = if in_one_batch { records.len() } else { 1 };
            for (turn, some) in (0_i64..).zip(records.chunks(batch)) {
                write_alerts(&mut writer, &name, turn * i64::try_from(batch).unwrap(), some).await;
            }
            let highest = order.iter().map(|(state, _)| *state).max_by_key(|state| state.rank()).unwrap();
            let mut history: Vec<StateChange> = order
                .iter()
                .map(|(state, sent)| StateChange { state: *state, at: WallTime(*sent) })
                .collect();
            history.sort_unstable_by_key(|change| change.state);
            history.dedup();
            let alert = alert(&name, 5_000, highest);
            let expected = StoredAlert { alert, raised: WallTime(100), history, useful: None };
            let expected = (highest != Withdrawn).then_some(expected);
            assert_eq!(only(&env, &name).await, expected, "{order:?}");
        }
    }
    let counts = env.store.counts().await.unwrap();
    assert_eq!((counts.alerts, counts.alerts_firing), (16, 0));
}

async fn alerts_are_filtered(env: StoreEnv) {
    let mut writer = writer_of(&env.store, "alerts", Table::Alerts, 1).await;
    let mut critical = alert("cup", 20_000, AlertState::Early);
    critical.severity = Severity::Critical;
    critical.detector = "drop".into();
    let records = [
        (alert("mug", 10_000, AlertState::Resolved), 1),
        (critical, 2),
        (alert("pot", 30_000, AlertState::Firing), 3),
        (alert("pan", 40_000, AlertState::Withdrawn), 4),
    ];
    write_alerts(&mut writer, "alerts", 0, &records).await;
    let all = AlertFilter::default;
    let table: [(&str, AlertFilter, &[&str]); 10] = [
        ("all but withdrawn, newest first", all(), &["pot", "cup", "mug"]),
        (
            "firing",
            AlertFilter { states: vec![AlertState::Early, AlertState::Firing], ..all() },
            &["pot", "cup"],
        ),
        ("resolved", AlertFilter { states: vec![AlertState::Resolved], ..all() }, &["mug"]),
        ("withdrawn ones never", AlertFilter { states: vec![AlertState::Withdrawn], ..all() }, &[]),
        ("detector", AlertFilter { detector: Some("drop".into()), ..all() }, &["cup"]),
        ("metric", AlertFilter { metric: Some("sales".into()), ..all() }, &[]),
        ("key", AlertFilter { key: Some("mug".into()), ..all() }, &["mug"]),
        ("severity", AlertFilter { severity: Some(Severity::Critical), ..all() }, &["cup"]),
        (
            "from and to",
            AlertFilter {
                from: Some(herd_spec::units::EventTime(10_000)),
                to: Some(herd_spec::units::EventTime(30_000)),
                ..all()
            },
            &["cup", "mug"],
        ),
        ("limit", AlertFilter { limit: 1, ..all() }, &["pot"]),
    ];
    for (what, filter, expected) in table {
        let page = env.store.alerts(&filter).await.unwrap();
        let keys: Vec<&str> = page.alerts.iter().map(|stored| stored.alert.key.as_str()).collect();
        assert_eq!(keys, expected, "{what}");
        assert_eq!(page.next_cursor.is_some(), what == "limit");
    }
}

async fn pages_have_no_gap_or_overlap(env: StoreEnv) {
    let mut writer = writer_of(&env.store, "alerts", Table::Alerts, 1).await;
    // Many alerts with the same start: only their ids differ.
    let records: Vec<_> =
        (0..25).map(|n| (alert(&format!("item-{n}"), n / 10 * 10_000, AlertState::Firing), 1)).collect();
    write_alerts(&mut writer, "alerts", 0, &records).await;
    let whole = env.store.alerts(&AlertFilter::default()).await.unwrap();
    assert_eq!((whole.alerts.len(), whole.next_cursor), (25, None));
    for limit in [1, 4, 5, 24, 25] {
        let mut filter = AlertFilter { limit, ..AlertFilter::default() };
        let mut joined = Vec::new();
        loop {
            let page = env.store.alerts(&filter).await.unwrap();
            assert!(page.alerts.len() <= limit as usize);
            joined.extend(page.alerts);
            match page.next_cursor {
                Some(cursor) => filter.cursor = Some(cursor),
                None => break,
            }
        }
        assert_eq!(joined, whole.alerts, "pages of {limit}");
    }
}

async fn refuses_an_invalid_cursor(env: StoreEnv) {
    let filter = AlertFilter { cursor: Some("page 2".into()), ..AlertFilter::default() };
    let refused = env.store.alerts(&filter).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "reading alerts: `page 2` is not a cursor: use `next_cursor` of the previous page"
    );
}
