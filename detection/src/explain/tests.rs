use super::*;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};

const COUNTRIES: [&str; 8] = ["DE", "DE", "DE", "FR", "FR", "US", "IT", "BR"];
const DEVICES: [&str; 4] = ["mobile", "mobile", "desktop", "tablet"];

/// An event: its country, if it has a certain one, and its device.
fn event(rng: &mut StdRng, mix: &mut Mix, country: Option<&str>) {
    let country = country.unwrap_or(COUNTRIES[rng.random_range(0..COUNTRIES.len())]);
    let device = DEVICES[rng.random_range(0..DEVICES.len())];
    mix.add(rng.random(), None, &[country, device]);
}

fn mixes(
    seed: u64,
    usual: usize,
    excess: usize,
    country: impl Fn(usize) -> Option<&'static str>,
) -> Vec<Cause> {
    let rng = &mut StdRng::seed_from_u64(seed);
    let (mut before, mut now) = (Mix::new(2), Mix::new(2));
    (0..usual).for_each(|_| event(rng, &mut before, None));
    (0..10).for_each(|_| event(rng, &mut now, None));
    (0..excess).for_each(|at| event(rng, &mut now, country(at)));
    causes(&now, &before, 10.0)
}

fn values(causes: &[Cause]) -> Vec<Vec<(usize, &str)>> {
    causes
        .iter()
        .map(|cause| cause.values.iter().map(|(field, value)| (*field, value.as_str())).collect())
        .collect()
}

#[test]
fn one_country_is_the_cause_of_its_crowd() {
    for seed in 0..50 {
        for excess in [15, 80, 2_000] {
            let found = mixes(seed, 500, excess, |_| Some("BR"));
            assert_eq!(values(&found), [[(0, "BR")]], "{found:?}");
            assert!(found[0].share > 0.8, "{found:?}");
        }
    }
}

#[test]
fn two_countries_are_two_causes() {
    for seed in 0..50 {
        let found = mixes(seed, 500, 200, |at| Some(if at % 5 < 3 { "BR" } else { "US" }));
        assert_eq!(values(&found), [[(0, "BR")], [(0, "US")]], "{found:?}");
    }
}

#[test]
fn what_is_usual_is_no_cause() {
    let named =
        |excess: usize| (0..200).filter(|seed| !mixes(*seed, 500, excess, |_| None).is_empty()).count();
    // One in a hundred may be.
    let named = [8, 100, 5_000].map(named);
    assert!(named.iter().all(|named| *named <= 2), "{named:?} of 200");
}

#[test]
fn few_events_name_nothing_that_chance_explains() {
    let named = (0..200).filter(|seed| !mixes(*seed, 20, 5, |_| None).is_empty()).count();
    assert!(named <= 4, "{named} of 200");
}

/// Germans use any device; Brazilians the desktop, but for a few.
fn pair_event(rng: &mut StdRng, mix: &mut Mix) {
    let (country, devices) = if rng.random_bool(0.6) {
        ("DE", ["mobile", "desktop"])
    } else {
        ("BR", if rng.random_bool(0.02) { ["mobile"; 2] } else { ["desktop"; 2] })
    };
    mix.add(rng.random(), None, &[country, devices[rng.random_range(0..2)]]);
}

#[test]
fn two_values_that_were_rare_together_are_one_cause() {
    for seed in 0..50 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let (mut usual, mut now) = (Mix::new(2), Mix::new(2));
        (0..1_000).for_each(|_| pair_event(rng, &mut usual));
        (0..20).for_each(|_| pair_event(rng, &mut now));
        (0..60).for_each(|_| now.add(rng.random(), None, &["BR", "mobile"]));
        let found = causes(&now, &usual, 20.0);
        assert_eq!(values(&found), [[(0, "BR"), (1, "mobile")]], "{found:?}");
        assert!(found[0].share > 0.9 && found[0].usual < 0.03, "{found:?}");
    }
}

#[test]
fn two_values_that_are_as_often_together_as_each_lets_expect_are_two_causes() {
    for seed in 0..50 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let (mut usual, mut now) = (Mix::new(2), Mix::new(2));
        (0..1_000).for_each(|_| event(rng, &mut usual, None));
        (0..100).for_each(|_| now.add(rng.random(), None, &["BR", "tablet"]));
        assert_eq!(values(&causes(&now, &usual, 0.0)), [[(0, "BR")], [(1, "tablet")]]);
    }
}

#[test]
fn a_value_among_very_many_is_named_in_whatever_order_events_come() {
    let rng = &mut StdRng::seed_from_u64(1);
    let mut events: Vec<(u64, String)> =
        (0..20_000).map(|at| (rng.random(), format!("page-{}", at % 5_000))).collect();
    let crowd: Vec<(u64, &str)> =
        (0..3_000).map(|at| (rng.random(), ["page-1500", "page-7", ""][at % 3])).collect();
    let mut all = Vec::new();
    for _ in 0..3 {
        events.shuffle(rng);
        let (mut usual, mut now) = (Mix::new(1), Mix::new(1));
        events.iter().for_each(|(hash, page)| usual.add(*hash, None, &[page]));
        crowd.iter().for_each(|(hash, page)| now.add(*hash, None, &[page]));
        let found = causes(&now, &usual, 0.0);
        assert_eq!(found.len(), 2);
        all.push(found);
    }
    assert_eq!(all[0], all[1]);
    assert_eq!(all[0], all[2]);
}

#[test]
fn a_value_of_a_few_users_is_no_cause() {
    let rng = &mut StdRng::seed_from_u64(1);
    let mut usual = Mix::new(2);
    (0..500).for_each(|_| event(rng, &mut usual, None));
    let of_users = |users: u64| {
        let mut now = Mix::new(2);
        (0..100).for_each(|at| now.add(at, Some(at % users), &["IT", "mobile"]));
        causes(&now, &usual, 0.0).len()
    };
    assert_eq!(of_users(2), 0);
    assert_ne!(of_users(50), 0);
}

#[test]
fn without_usual_events_or_an_excess_nothing_is_named() {
    let mut one = Mix::new(1);
    one.add(1, None, &["a"]);
    assert_eq!(causes(&one, &Mix::new(1), 0.0), []);
    assert_eq!(causes(&one, &one, 1.0), []);
    assert_eq!(causes(&Mix::new(0), &Mix::new(0), 0.0), []);
    let mut none = Mix::new(0);
    none.add(1, None, &[]);
    assert_eq!(causes(&none, &none, 0.0), []);
}

/// Users with these numbers of events.
fn users(rng: &mut StdRng, counts: impl IntoIterator<Item = u64>) -> Users {
    let mut users = Users::default();
    for count in counts {
        let user = rng.random();
        (0..count).for_each(|_| users.add(user));
    }
    users
}

#[test]
fn users_who_make_far_more_events_than_usual_are_named() {
    let rng = &mut StdRng::seed_from_u64(1);
    let usual = users(rng, (0..300).map(|at| 1 + u64::from(at % 4 == 0)));
    for bots in [1, 3, 12] {
        let crowd = (0..30).map(|_| 1).chain((0..bots).map(|_| 60));
        let crowd = users(rng, crowd);
        let few = crowd.few(&usual, 5.0).unwrap();
        assert_eq!(few.users, bots);
        let all = (bots * 60 + 30) as f64;
        assert!((few.share - (bots * 60) as f64 / all).abs() < 1e-9, "{few:?}");
    }
}

#[test]
fn what_users_usually_make_is_not_named() {
    for seed in 0..100 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let geometric = |rng: &mut StdRng| 1 + ((1.0 - rng.random::<f64>()).ln() / 0.9_f64.ln()) as u64;
        let pareto = |rng: &mut StdRng| ((1.0 - rng.random::<f64>()).powf(-1.0 / 1.3) as u64).min(1_000);
        for draw in [geometric, pareto] {
            let usual: Vec<u64> = (0..200).map(|_| draw(rng)).collect();
            let usual = users(rng, usual);
            for count in [3, 100] {
                let crowd: Vec<u64> = (0..count).map(|_| draw(rng)).collect();
                assert_eq!(users(rng, crowd.clone()).few(&usual, 0.0), None, "{crowd:?}");
            }
        }
    }
}

#[test]
fn without_usual_users_ten_events_of_one_are_not_called_automated() {
    let rng = &mut StdRng::seed_from_u64(1);
    assert_eq!(users(rng, [10, 10, 10]).few(&Users::default(), 0.0), None);
    assert_eq!(Users::default().few(&Users::default(), 0.0), None);
}

#[test]
fn the_sample_of_users_does_not_depend_on_the_order_and_counts_all_their_events() {
    let rng = &mut StdRng::seed_from_u64(1);
    let mut events: Vec<u64> = (0..6_000).flat_map(|_| [rng.random::<u64>(); 2]).collect();
    let mut samples = Vec::new();
    for _ in 0..2 {
        events.shuffle(rng);
        let mut users = Users::sample();
        events.iter().for_each(|user| users.add(*user));
        assert!(users.counts.values().all(|count| *count == 2));
        samples.push(users);
    }
    assert_eq!(samples[0].count(), 4_096);
    assert!(samples[0].counts.keys().eq(samples[1].counts.keys()));
}
