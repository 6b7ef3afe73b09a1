use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand_distr::{Distribution as _, Gamma, Poisson};

use super::*;

/// A budget of half an alert a day, in windows of 10 s.
const THRESHOLD: f64 = 4.24;

fn poisson(rng: &mut StdRng, mean: f64) -> u64 {
    if mean <= 0.0 { 0 } else { Poisson::new(mean).unwrap().sample(rng) as u64 }
}

/// What is told of totals whose keys all move alike, by window.
fn told(totals: impl IntoIterator<Item = u64>) -> Vec<(u32, Change)> {
    let mut total = Total::default();
    let mut told = Vec::new();
    for (index, value) in (1..).zip(totals) {
        match total.observe(THRESHOLD, index, value, value) {
            Change::None | Change::Continued(_) => {}
            change => told.push((index, change)),
        }
    }
    told
}

fn steady(rng: &mut StdRng, mean: f64, windows: usize) -> Vec<u64> {
    (0..windows).map(|_| poisson(rng, mean)).collect()
}

#[test]
fn a_newsletter_is_one_alert_that_ends() {
    for seed in 0..20 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let mut totals = steady(rng, 60.0, 400);
        totals.extend(steady(rng, 240.0, 30));
        totals.extend(steady(rng, 60.0, 400));
        let told = told(totals);
        let [(begin, Change::Began(finding)), (_, Change::Ended(episode, Ending::Usual))] = told.as_slice()
        else {
            panic!("seed {seed}: {told:?}")
        };
        assert!(*begin == 401 && (430..=434).contains(&episode.last), "seed {seed}: {begin}, {episode:?}");
        assert!(finding.episode.is_up && (40.0..80.0).contains(&finding.expected));
        assert!((4_500.0..6_500.0).contains(&episode.excess), "seed {seed}: {}", episode.excess);
    }
}

#[test]
fn an_outage_is_one_alert_that_ends_when_traffic_is_back() {
    for seed in 0..20 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let mut totals = steady(rng, 60.0, 400);
        totals.extend([0; 60]);
        totals.extend(steady(rng, 60.0, 400));
        let told = told(totals);
        let [(begin, Change::Began(finding)), (_, Change::Ended(episode, Ending::Usual))] = told.as_slice()
        else {
            panic!("seed {seed}: {told:?}")
        };
        assert!(*begin == 401 && (460..=464).contains(&episode.last), "seed {seed}: {begin}, {episode:?}");
        assert!(!finding.episode.is_up && episode.peak == 0.0);
    }
}

#[test]
fn a_lasting_change_is_a_new_level() {
    let rng = &mut StdRng::seed_from_u64(1);
    let mut totals = steady(rng, 60.0, 400);
    totals.extend(steady(rng, 200.0, 600));
    let told = told(totals);
    let [(_, Change::Began(_)), (_, Change::Ended(_, Ending::NewLevel(level)))] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert!((170.0..230.0).contains(level), "{level}");
}

#[test]
fn traffic_without_a_change_of_all_keys_alerts_no_more_often_than_asked() {
    let windows = 3_000;
    let seeds = 20;
    let alerts = |make: &dyn Fn(&mut StdRng, usize) -> u64| -> usize {
        let of_seed = |seed| {
            let rng = &mut StdRng::seed_from_u64(seed);
            let totals: Vec<u64> = (0..windows).map(|t| make(rng, t)).collect();
            told(totals).iter().filter(|(_, change)| matches!(change, Change::Began(_))).count()
        };
        (0..seeds).map(of_seed).sum()
    };
    // 60,000 windows of which one in 17,400 may alert, and twice the deviation of that.
    let most = 7;
    let wave = |t: usize| 60.0 * (0.6 + 0.5 * (t as f64 * std::f64::consts::TAU / 600.0).sin()) * 1.6 + 2.0;
    assert!(alerts(&|rng, t| poisson(rng, wave(t))) <= 1, "days and nights");
    assert!(alerts(&|rng, _| poisson(rng, 0.3)) == 0, "hardly any event");
    assert!(alerts(&|rng, _| poisson(rng, 5.0)) <= most, "few events");
    let gamma = |shape: f64, mean: f64| Gamma::new(shape, mean / shape).unwrap();
    assert!(
        alerts(&|rng, _| {
            let rate = gamma(20.0, 60.0).sample(rng);
            poisson(rng, rate)
        }) <= most,
        "bursty"
    );
    assert!(
        alerts(&|rng, _| {
            let rate = gamma(4.0, 60.0).sample(rng);
            poisson(rng, rate)
        }) <= 3 * most,
        "very bursty"
    );
    assert!(
        alerts(&|rng, _| {
            let rate = gamma(20.0, 3_000.0).sample(rng);
            poisson(rng, rate)
        }) <= most,
        "much traffic"
    );
}

#[test]
fn silence_of_a_metric_that_is_forgotten_costs_nothing() {
    let mut total = Total::default();
    for index in 1..=100 {
        total.observe(THRESHOLD, index, 50, 50);
    }
    let mut told = Vec::new();
    total.silence(|_| THRESHOLD, 1_000_000_000, |at, change| told.push((at, change)));
    assert!(matches!(told.first(), Some((101, Change::Began(_)))), "{:?}", told.first());
    assert!(matches!(told.last(), Some((_, Change::Ended(_, Ending::NewLevel(0.0))))), "{:?}", told.last());
    assert_eq!(total, Total { newest: 1_000_000_000, ..Total::default() });
}

#[test]
fn a_crowd_on_one_key_is_no_news_of_all() {
    for seed in 0..20 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let mut total = Total::default();
        for index in 1..=600 {
            let others = poisson(rng, 60.0);
            let crowd = if (300..310).contains(&index) { poisson(rng, 120.0) } else { 0 };
            let change = total.observe(THRESHOLD, index, others + crowd, others);
            assert_eq!(change, Change::None, "seed {seed}, window {index}");
        }
    }
}

#[test]
fn an_outage_of_a_metric_of_two_keys_is_an_alert_and_a_crowd_on_one_of_them_is_none() {
    let rng = &mut StdRng::seed_from_u64(1);
    let mut total = Total::default();
    let mut told = Vec::new();
    for index in 1..=600 {
        let views = match index {
            200..210 => 300,
            400..410 => 0,
            _ => poisson(rng, 60.0),
        };
        if let Change::Began(finding) = total.observe(THRESHOLD, index, views, winsorized([views])) {
            told.push((index, finding.episode.is_up));
        }
    }
    assert_eq!(told, [(400, false)]);
}

#[test]
fn the_two_largest_count_no_more_than_the_third() {
    assert_eq!(winsorized([]), 0);
    assert_eq!(winsorized([7]), 0);
    assert_eq!(winsorized([7, 5]), 0);
    assert_eq!(winsorized([1, 100, 2, 3, 50]), 12);
    assert_eq!(winsorized([4, 4, 4, 4]), 16);
}

proptest! {
    #[test]
    fn it_does_not_matter_how_a_silence_is_divided(seed: u64, parts in proptest::collection::vec(1_u32..6_000, 1..6)) {
        let rng = &mut StdRng::seed_from_u64(seed);
        let mut one = Total::default();
        for index in 1..=60 {
            one.observe(THRESHOLD, index, poisson(rng, 40.0), 30);
        }
        let mut other = one.clone();
        let end = 60 + parts.iter().sum::<u32>();
        let (mut all, mut divided) = (Vec::new(), Vec::new());
        one.silence(|_| THRESHOLD, end, |at, change| all.push((at, change)));
        let mut at = 60;
        for part in parts {
            at += part;
            other.silence(|_| THRESHOLD, at, |at, change| divided.push((at, change)));
        }
        prop_assert_eq!(all, divided);
        prop_assert_eq!(one, other);
    }

    #[test]
    fn a_state_that_was_saved_goes_on_as_if_it_had_not_been(totals in proptest::collection::vec(0_u64..1_000, 1..200), at in 0_usize..200) {
        let (mut one, mut other) = (Total::default(), Total::default());
        for (place, total) in totals.into_iter().enumerate() {
            let index = place as u32 + 1;
            prop_assert_eq!(one.observe(THRESHOLD, index, total, total), other.observe(THRESHOLD, index, total, total));
            if place == at {
                other = serde_json::from_str(&serde_json::to_string(&other).unwrap()).unwrap();
            }
        }
        prop_assert_eq!(one, other);
    }
}
