use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, LogNormal, StandardNormal};
use rstest::rstest;

use super::*;

const SIZE_MS: u64 = 10_000;
const MINUTE_MS: u64 = 60_000;
const SUM: LevelRule = LevelRule { direction: Direction::Both, additive: true, threshold: 4.0 };

fn normal(rng: &mut StdRng) -> f64 {
    StandardNormal.sample(rng)
}

/// Observes the values as windows of `size_ms` from the beginning of time, and returns what is said of each.
fn observe_all(
    level: &mut Level,
    rule: &LevelRule,
    size_ms: u64,
    values: impl IntoIterator<Item = f64>,
) -> Vec<LevelScore> {
    let mut start_ms = 0;
    let mut said = Vec::new();
    for value in values {
        said.push(level.observe(rule, start_ms, size_ms, value));
        start_ms += size_ms;
    }
    said
}

fn alerts(said: &[LevelScore]) -> Vec<usize> {
    let begins = |said: &LevelScore| matches!(said.episode, Some((_, Progress::Began)));
    said.iter().enumerate().filter(|(_, said)| begins(said)).map(|(window, _)| window).collect()
}

fn endings(said: &[LevelScore]) -> Vec<(usize, Ending, Episode)> {
    let ending = |(window, said): (usize, &LevelScore)| match &said.episode {
        Some((episode, Progress::Ended(ending))) => Some((window, *ending, episode.clone())),
        _ => None,
    };
    said.iter().enumerate().filter_map(ending).collect()
}

#[test]
fn constant_series_never_scores() {
    let said = observe_all(&mut Level::default(), &SUM, SIZE_MS, std::iter::repeat_n(0.1 + 0.2, 5_000));
    assert!(said.iter().all(|said| said.score == 0.0));
}

#[rstest]
#[case::up_sees_a_peak(Direction::Up, 200.0, true)]
#[case::up_ignores_a_drop(Direction::Up, 0.0, false)]
#[case::down_sees_a_drop(Direction::Down, 0.0, true)]
#[case::down_ignores_a_peak(Direction::Down, 200.0, false)]
#[case::both_see_a_peak(Direction::Both, 200.0, true)]
#[case::both_see_a_drop(Direction::Both, 0.0, true)]
fn direction_decides_what_is_unusual(
    #[case] direction: Direction,
    #[case] value: f64,
    #[case] expected: bool,
) {
    let mut rng = StdRng::seed_from_u64(1);
    let rule = LevelRule { direction, ..SUM };
    let mut level = Level::default();
    observe_all(&mut level, &rule, SIZE_MS, (0..2_000).map(|_| 100.0 + 5.0 * normal(&mut rng)));
    let said = level.observe(&rule, 2_000 * SIZE_MS, SIZE_MS, value);
    assert_eq!(said.score >= rule.threshold, expected, "{said:?}");
    assert_eq!(said.episode.is_some(), expected);
}

#[test]
fn peak_is_one_episode_that_ends_as_usual() {
    let mut rng = StdRng::seed_from_u64(2);
    let values = (0..3_000).map(|window| {
        let more = if (2_000..2_020).contains(&window) { 200.0 } else { 0.0 };
        100.0 + more + 5.0 * normal(&mut rng)
    });
    let said = observe_all(&mut Level::default(), &SUM, SIZE_MS, values);
    assert_eq!(alerts(&said), [2_000]);
    let [(window, Ending::Usual, episode)] = &endings(&said)[..] else { panic!("{:?}", endings(&said)) };
    assert_eq!(*window, 2_024, "after five usual windows");
    assert_eq!(episode.since_ms, 2_000 * SIZE_MS);
    assert!((4_000.0 - episode.excess).abs() < 200.0, "20 windows with 200 more each: {episode:?}");
    assert!((episode.peak - 300.0).abs() < 20.0);
}

#[test]
fn four_peaks_are_four_episodes() {
    let mut rng = StdRng::seed_from_u64(11);
    let peaks = [2_000, 2_300, 2_600, 2_900];
    let values: Vec<f64> = (0..3_500)
        .map(|window: usize| {
            let more =
                if peaks.iter().any(|peak| (*peak..peak + 20).contains(&window)) { 200.0 } else { 0.0 };
            100.0 + more + 5.0 * normal(&mut rng)
        })
        .collect();
    assert_eq!(alerts(&observe_all(&mut Level::default(), &SUM, SIZE_MS, values)), peaks);
}

#[test]
fn slow_drift_does_not_alert() {
    let mut rng = StdRng::seed_from_u64(12);
    let values: Vec<f64> =
        (0..30_000).map(|window| 100.0 + 0.02 * f64::from(window) + 5.0 * normal(&mut rng)).collect();
    let said = observe_all(&mut Level::default(), &SUM, SIZE_MS, values);
    assert!(alerts(&said).len() <= 3, "three of 30,000 may alert: {:?}", alerts(&said));
}

#[test]
fn lasting_change_is_one_episode_that_ends_with_the_new_level() {
    let mut rng = StdRng::seed_from_u64(3);
    let values = (0..6_000).map(|window| if window < 2_000 { 100.0 } else { 300.0 } + 5.0 * normal(&mut rng));
    let said = observe_all(&mut Level::default(), &SUM, SIZE_MS, values);
    assert_eq!(alerts(&said), [2_000]);
    let [(_, Ending::NewLevel(new), _)] = &endings(&said)[..] else { panic!("{:?}", endings(&said)) };
    assert!((290.0..305.0).contains(new), "{new}");
    let last = said.last().map(|said| said.expected);
    assert!(last.is_some_and(|expected| (expected - 300.0).abs() < 5.0));
}

#[rstest]
#[case::both(Direction::Both, true)]
#[case::up(Direction::Up, false)]
#[case::down(Direction::Down, false)]
fn frozen_value_is_unusual_where_both_directions_are_watched(
    #[case] direction: Direction,
    #[case] expected: bool,
) {
    let mut rng = StdRng::seed_from_u64(10);
    let rule = LevelRule { direction, ..SUM };
    let values = (0..5_060).map(|window| if window < 5_000 { 100.0 + 5.0 * normal(&mut rng) } else { 101.0 });
    let said = observe_all(&mut Level::default(), &rule, SIZE_MS, values.collect::<Vec<_>>());
    let found =
        said[5_000..].iter().any(|said| said.score >= SUM.threshold && said.cause == Some(Cause::Steps));
    assert_eq!(found, expected);
}

#[test]
fn rare_purchases_of_similar_size_do_not_alert() {
    let amount = LogNormal::new(3.0, 0.3).unwrap();
    let mut purchases = 0;
    let mut alerted = 0;
    for seed in 0..20 {
        let mut rng = StdRng::seed_from_u64(seed);
        let values: Vec<f64> =
            (0..50_000).map(|_| if rng.random_bool(0.002) { amount.sample(&mut rng) } else { 0.0 }).collect();
        purchases += values.iter().filter(|value| **value > 0.0).count();
        alerted += alerts(&observe_all(&mut Level::default(), &SUM, SIZE_MS, values)).len();
    }
    // At this threshold one in 10,000 windows may alert: 100 of the million.
    assert!(alerted <= 50, "{alerted} alerts at {purchases} purchases");
}

/// A day of traffic in windows of ten minutes: little by night, much by day.
fn by_day(window: u64) -> f64 {
    let angle = (window % 144) as f64 / 144.0 * std::f64::consts::TAU;
    1_000.0 - 800.0 * angle.cos()
}

#[test]
fn daily_wave_is_expected_and_its_absence_is_unusual() {
    let mut rng = StdRng::seed_from_u64(4);
    let values = (0..144 * 41).map(|window| {
        // On the last day the peak does not come.
        let usual = if window >= 144 * 40 { by_day(window).min(400.0) } else { by_day(window) };
        usual + 20.0 * normal(&mut rng)
    });
    let said = observe_all(&mut Level::default(), &SUM, 10 * MINUTE_MS, values.collect::<Vec<_>>());
    let error = said[144 * 15..144 * 40]
        .iter()
        .enumerate()
        .map(|(window, said)| (said.expected - by_day(window as u64)).abs())
        .fold(0.0, f64::max);
    assert!(error < 120.0, "expected follows the wave: {error}");
    let alerts = alerts(&said);
    assert!(alerts.iter().all(|window| *window >= 144 * 40), "{alerts:?}");
    assert_eq!(alerts.len(), 1, "{alerts:?}");
}

#[rstest]
#[case::in_the_first_day(0, 60, 100)]
#[case::in_the_second_day(1, 60, 100)]
#[case::later(10, 60, 100)]
#[case::a_whole_day(12, 0, 144)]
fn outage_does_not_come_back_a_day_or_a_week_later(
    #[case] day: u64,
    #[case] from: u64,
    #[case] until: u64,
    #[values(true, false)] zeros: bool,
) {
    let mut rng = StdRng::seed_from_u64(5);
    let mut level = Level::default();
    let size_ms = 10 * MINUTE_MS;
    let mut echoes = Vec::new();
    for window in 0..144 * 30 {
        let value = by_day(window) + 20.0 * normal(&mut rng);
        let out = (144 * day + from..144 * day + until).contains(&window);
        if out && !zeros {
            continue;
        }
        let said = level.observe(&SUM, window * size_ms, size_ms, if out { 0.0 } else { value });
        // The outage itself, its end and the new beginning may be told.
        let near = (144 * day + from..144 * day + until + 12).contains(&window);
        if said.score >= SUM.threshold && !near {
            echoes.push(window);
        }
    }
    assert!(echoes.is_empty(), "{echoes:?}");
}

#[test]
fn quiet_weekend_is_expected_from_the_third_week_on() {
    let mut rng = StdRng::seed_from_u64(6);
    let mut level = Level::default();
    let size_ms = 10 * MINUTE_MS;
    let mut wrong = 0;
    for window in 0..144 * 7 * 8 {
        let factor = if window / 144 % 7 >= 5 { 0.4 } else { 1.0 };
        let usual = factor * by_day(window);
        let said = level.observe(&SUM, window * size_ms, size_ms, usual + 20.0 * normal(&mut rng));
        if window >= 144 * 7 * 4 {
            wrong += u32::from((said.expected - usual).abs() > 250.0);
            assert!(said.score < SUM.threshold, "window {window}: {said:?}");
        }
    }
    assert!(wrong < 60, "{wrong} windows of 4032 were expected wrongly");
}

#[test]
fn score_of_a_normal_series_is_the_probability() {
    let mut found = [0_u32; 2];
    for seed in 0..4 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut level = Level::default();
        for window in 0..250_000 {
            let said = level.observe(&SUM, window * SIZE_MS, SIZE_MS, 50.0 + normal(&mut rng));
            found[0] += u32::from(said.score >= 3.0);
            found[1] += u32::from(said.score >= 4.0);
        }
    }
    assert!((500..=1_200).contains(&found[0]), "1,000 of a million are asked for: {found:?}");
    assert!(found[1] <= 130, "100 of a million are asked for: {found:?}");
}

#[test]
fn bounds_are_where_the_score_reaches_the_threshold() {
    let mut rng = StdRng::seed_from_u64(7);
    let mut level = Level::default();
    observe_all(&mut level, &SUM, SIZE_MS, (0..5_000).map(|_| 100.0 + 5.0 * normal(&mut rng)));
    let score = |value: f64| level.clone().observe(&SUM, 5_000 * SIZE_MS, SIZE_MS, value);
    let LevelScore { lower, upper, .. } = score(100.0);
    assert!(score(upper + 0.1).unusual >= SUM.threshold && score(lower - 0.1).unusual >= SUM.threshold);
    assert!(lower < 85.0 && upper > 115.0, "{lower} {upper}");
    // What the other statistics add is little.
    assert!(score(100.0 + 0.8 * (upper - 100.0)).unusual < SUM.threshold);
    assert!(score(100.0 - 0.8 * (100.0 - lower)).unusual < SUM.threshold);
}

#[test]
fn memory_is_at_most_four_kilobytes() {
    let mut rng = StdRng::seed_from_u64(8);
    let mut level = Level::default();
    observe_all(&mut level, &SUM, SIZE_MS, (0..500).map(|_| normal(&mut rng)));
    assert!(level.bytes() <= 512, "without profile: {}", level.bytes());
    observe_all(&mut level, &SUM, 10 * MINUTE_MS, (0..3_000).map(|_| 10.0 + normal(&mut rng)));
    assert!(level.profile.is_some());
    println!(
        "bytes {} {} {}",
        size_of::<Level>(),
        level.bytes(),
        serde_json::to_string(&level).unwrap().len()
    );
    assert!(level.bytes() <= 4_096, "with profile: {}", level.bytes());
}

#[test]
fn value_that_is_not_finite_is_skipped() {
    let mut level = Level::default();
    observe_all(&mut level, &SUM, SIZE_MS, (0..300).map(|window| f64::from(window % 7)));
    let before = level.clone();
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e200] {
        assert_eq!(level.observe(&SUM, 300 * SIZE_MS, SIZE_MS, value).score, 0.0);
    }
    assert_eq!(level, before);
}

#[test]
fn state_read_back_says_the_same() {
    let mut rng = StdRng::seed_from_u64(9);
    let values: Vec<f64> = (0..6_000).map(|window| by_day(window) + 50.0 * normal(&mut rng)).collect();
    let mut level = Level::default();
    let mut start_ms = 0;
    for (window, value) in values.into_iter().enumerate() {
        if window % 500 == 499 {
            let text = serde_json::to_string(&level).unwrap();
            let read: Level = serde_json::from_str(&text).unwrap();
            assert_eq!(read, level);
            level = read;
        }
        level.observe(&SUM, start_ms, 10 * MINUTE_MS, value);
        start_ms += 10 * MINUTE_MS;
    }
    assert!(level.profile.is_some());
}

/// Runs of (silence, one value).
fn runs() -> impl Strategy<Value = Vec<(u32, f64)>> {
    prop::collection::vec((prop_oneof![0_u32..20, 900_u32..5_000], 1.0..100.0), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn silence_is_the_same_as_zeros_however_it_is_divided(runs in runs(), cut in 1_u32..2_000) {
        let mut at_once = Level::default();
        let mut divided = Level::default();
        let mut one_by_one = Level::default();
        let size_ms = 60 * MINUTE_MS;
        let mut start_ms = 0;
        for (windows, value) in runs {
            let mut told = 0.0;
            at_once.silence(&SUM, start_ms, size_ms, windows, |_, said| told += said.score);
            let first = windows.min(cut);
            divided.silence(&SUM, start_ms, size_ms, first, |_, _| {});
            let rest_ms = start_ms + u64::from(first) * size_ms;
            divided.silence(&SUM, rest_ms, size_ms, windows - first, |_, _| {});
            let mut observed = 0.0;
            for window in 0..u64::from(windows) {
                observed += one_by_one.observe(&SUM, start_ms + window * size_ms, size_ms, 0.0).score;
            }
            prop_assert_eq!(told, observed);
            start_ms += u64::from(windows) * size_ms;
            let said = at_once.observe(&SUM, start_ms, size_ms, value);
            prop_assert_eq!(&said, &divided.observe(&SUM, start_ms, size_ms, value));
            prop_assert_eq!(&said, &one_by_one.observe(&SUM, start_ms, size_ms, value));
            start_ms += size_ms;
        }
        prop_assert_eq!(&at_once, &divided);
        prop_assert_eq!(&at_once, &one_by_one);
    }

    #[test]
    fn score_is_finite_and_the_expected_value_between_the_bounds(
        values in prop::collection::vec(prop_oneof![Just(0.0), Just(1e150), -1e9..1e9, -1.0..1.0], 1..600),
    ) {
        let mut level = Level::default();
        for said in observe_all(&mut level, &SUM, SIZE_MS, values) {
            prop_assert!(said.score.is_finite() && said.score >= 0.0);
            prop_assert!(said.lower <= said.upper, "{said:?}");
        }
    }

    #[test]
    fn calibration_is_inverted(news in prop::collection::vec(0.0..8.0, 0..3_000), asked in 0.1..9.0) {
        let mut calibration = Calibration::default();
        for news in news {
            calibration.learn(news);
        }
        let back = calibration.probability(calibration.score(asked));
        prop_assert!((back - asked).abs() < 1e-9, "{asked} becomes {back}");
    }
}
