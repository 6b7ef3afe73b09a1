use super::*;
use proptest::prelude::*;

const SIZE: Duration = Duration::from_secs(10);

fn trending(capacity: usize) -> Trending {
    Trending::new(SIZE, false, Duration::from_secs(90), capacity)
}

fn see(trending: &mut Trending, window: i64, key: &str, value: u32, is_final: bool) {
    trending.observe(key, EventTime(window * 10_000), u64::from(value), f64::from(value), is_final);
}

fn ranks(top: &Top) -> Vec<(String, u64, Option<u64>, f64)> {
    top.items.iter().map(|item| (item.key.to_string(), item.rank, item.previous_rank, item.value)).collect()
}

#[test]
fn is_empty_without_data() {
    let top = trending(10).top(5);
    assert_eq!((top.as_of, top.keys, top.items.len()), (None, 0, 0));
}

#[test]
fn ranks_keys_by_the_last_minute_with_their_previous_rank() {
    let mut t = trending(10);
    for window in 0..10 {
        see(&mut t, window, "steady", 10, true);
    }
    see(&mut t, 10, "steady", 10, false);
    see(&mut t, 10, "star", 90, false);
    let top = t.top(5);
    assert_eq!(ranks(&top), [("star".into(), 1, None, 90.0), ("steady".into(), 2, Some(1), 60.0)]);
    assert_eq!(top.as_of, Some(EventTime(110_000)));
    assert!((top.total - 150.0).abs() < 1e-9);
    assert!((top.items[0].share - 0.6).abs() < 1e-9);
    assert_eq!(top.items[1].spark.len(), SPARK);
    assert_eq!(top.items[1].spark[SPARK - 11..], [10.0; 11]);
}

#[test]
fn a_provisional_value_is_replaced_not_added() {
    let mut t = trending(10);
    see(&mut t, 3, "a", 5, false);
    see(&mut t, 3, "a", 8, false);
    see(&mut t, 3, "a", 8, true);
    see(&mut t, 3, "a", 5, false);
    assert_eq!(ranks(&t.top(5)), [("a".into(), 1, None, 8.0)]);
}

#[test]
fn a_single_event_with_a_clock_ahead_does_not_move_the_list() {
    let mut t = trending(10);
    for window in 0..10 {
        see(&mut t, window, "a", 100, true);
    }
    see(&mut t, 15, "b", 1, false);
    let top = t.top(5);
    assert_eq!(top.as_of, Some(EventTime(100_000)));
    assert_eq!(top.items[0].value, 600.0);
}

#[test]
fn aggregates_keys_that_are_not_listed() {
    let mut t = trending(10);
    for (key, value) in [("a", 50), ("b", 30), ("c", 15), ("(other)", 5)] {
        see(&mut t, 1, key, value, true);
    }
    let top = t.top(2);
    assert_eq!((top.keys, top.other_keys, top.other_value, top.total), (3, 1, 20.0, 100.0));
}

#[test]
fn a_mean_is_averaged_over_its_windows() {
    let mut t = Trending::new(SIZE, true, Duration::ZERO, 10);
    see(&mut t, 1, "a", 4, true);
    see(&mut t, 2, "a", 6, true);
    assert_eq!(t.top(1).items[0].value, 5.0);
}

#[test]
fn inactive_keys_are_evicted() {
    let mut t = trending(8);
    for key in 0..8 {
        see(&mut t, 0, &format!("old-{key}"), 1_000, true);
    }
    for window in 100..103 {
        for key in 0..8 {
            see(&mut t, window, &format!("new-{key}"), 1, true);
        }
    }
    let top = t.top(100);
    assert_eq!((top.total, top.items.len(), top.other_value), (24.0, 8, 0.0));
}

type Record = (i64, u8, u32, bool);

/// Records as judge may send them: a window's running counts grow, and the final one is the highest.
fn records() -> impl Strategy<Value = Vec<Record>> {
    prop::collection::vec((0_i64..30, 0_u8..12, 1_u32..50), 1..60).prop_map(|windows| {
        let mut seen = std::collections::BTreeMap::new();
        for (window, key, value) in windows {
            seen.insert((window, key), value);
        }
        seen.into_iter()
            .flat_map(|((window, key), value)| {
                [
                    (window, key, value.div_ceil(2), false),
                    (window, key, value, false),
                    (window, key, value, true),
                ]
            })
            .collect()
    })
}

fn feed(records: &[Record], capacity: usize) -> Trending {
    let mut t = trending(capacity);
    for (window, key, value, is_final) in records {
        see(&mut t, *window, &format!("k{key}"), *value, *is_final);
    }
    t
}

proptest! {
    #[test]
    fn repeated_and_reordered_records_change_nothing(
        (all, shuffled) in records().prop_flat_map(|all| {
            let twice: Vec<Record> = all.iter().chain(&all).copied().collect();
            (Just(all), Just(twice).prop_shuffle())
        })
    ) {
        prop_assert_eq!(feed(&all, 100).top(5), feed(&shuffled, 100).top(5));
    }

    #[test]
    fn the_list_is_ranked_and_adds_up(all in records(), limit in 0_usize..15) {
        let top = feed(&all, 100).top(limit);
        prop_assert!(top.items.len() <= limit);
        prop_assert!(top.items.windows(2).all(|pair| pair[0].value >= pair[1].value));
        prop_assert!(top.items.iter().enumerate().all(|(place, item)| item.rank == place as u64 + 1));
        let listed: f64 = top.items.iter().map(|item| item.value).sum();
        prop_assert!((listed + top.other_value - top.total).abs() < 1e-6);
        prop_assert_eq!(top.items.len() as u64 + top.other_keys, top.keys);
    }

    #[test]
    fn above_the_capacity_heavy_keys_stay_exact_and_none_is_counted_twice(
        tail in prop::collection::vec((0_i64..6, 0_u32..400, 1_u32..4), 1..800),
        capacity in 8_usize..40,
    ) {
        let mut t = trending(capacity);
        let mut tail_total = std::collections::BTreeMap::new();
        for (place, (window, key, value)) in tail.iter().enumerate() {
            // Three heavy keys report with each window, among the many.
            for heavy in 0..3 {
                see(&mut t, *window, &format!("heavy-{heavy}"), 5_000, place % 2 == 0);
            }
            let value = *tail_total.entry((*window, *key)).or_insert(*value);
            see(&mut t, *window, &format!("k{key}"), value, true);
            see(&mut t, *window, &format!("k{key}"), value, true);
            prop_assert!(t.tracked() <= capacity);
        }
        let top = t.top(3);
        prop_assert!(top.items.iter().all(|item| item.key.starts_with("heavy-")), "{:?}", top);
        let windows: std::collections::BTreeSet<i64> = tail.iter().map(|(window, ..)| *window).collect();
        #[allow(clippy::cast_precision_loss)]
        let heavy = windows.len() as f64 * 5_000.0;
        prop_assert!(top.items.iter().all(|item| (item.value - heavy).abs() < 1e-9));
        let true_tail: f64 = tail_total.values().map(|value| f64::from(*value)).sum();
        prop_assert!(top.other_value <= true_tail + 1e-6, "{} > {}", top.other_value, true_tail);
        prop_assert!(top.other_value >= true_tail * 0.95, "{} < {}", top.other_value, true_tail);
    }
}
