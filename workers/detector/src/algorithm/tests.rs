use super::*;
use herd_spec::plan::Threshold;
use herd_spec::wire::Severity;
use proptest::prelude::*;
use rstest::rstest;
use std::time::Duration;

fn rule(algorithm: Algorithm, direction: Direction) -> Rule {
    rule_on(AggregateFunction::Count, algorithm, direction)
}

fn rule_on(function: AggregateFunction, algorithm: Algorithm, direction: Direction) -> Rule {
    let plan = DetectorPlan {
        name: "d".parse().unwrap(),
        metric: "m".parse().unwrap(),
        algorithm,
        direction,
        min_count: 10,
        min_users: 0,
        cooldown: Duration::ZERO,
        severity: Severity::Warning,
        explain: vec![],
    };
    Rule::of(&plan, function)
}

fn zscore() -> Algorithm {
    Algorithm::Zscore(ZscoreSpec { sigmas: 4.0, history: 30, warmup: 6 })
}
fn mad() -> Algorithm {
    Algorithm::Mad(MadSpec { deviations: 5.0, history: 30, warmup: 6 })
}
fn ewma() -> Algorithm {
    Algorithm::Ewma(EwmaSpec { sigmas: 4.0, half_life: 10.0, warmup: 6 })
}
fn poisson() -> Algorithm {
    Algorithm::Poisson(PoissonSpec { probability: 1e-9, half_life: 30.0, warmup: 6 })
}
fn above(bound: f64) -> Algorithm {
    Algorithm::Threshold(Threshold::Above(bound))
}

fn after(rule: &Rule, values: &[f64]) -> History {
    let mut history = rule.fresh();
    values.iter().for_each(|value| rule.fold(&mut history, *value));
    history
}

/// 35 ± 6 views a window, as a shop has them.
const CALM: [f64; 12] = [35.0, 41.0, 29.0, 36.0, 33.0, 44.0, 27.0, 38.0, 31.0, 35.0, 40.0, 30.0];

#[rstest]
#[case(zscore())]
#[case(mad())]
#[case(ewma())]
#[case(poisson())]
fn a_crowd_crosses_and_an_ordinary_window_does_not(#[case] algorithm: Algorithm) {
    let rule = rule(algorithm, Direction::Up);
    let expectation = rule.expectation(&after(&rule, &CALM)).unwrap();
    assert!((expectation.expected - 35.0).abs() < 3.0, "{expectation:?}");
    assert_eq!(rule.crossing(&expectation, 412.0, 412), Some(Crossing::Up));
    assert_eq!(rule.crossing(&expectation, 50.0, 50), None, "{expectation:?}");
    assert_eq!(rule.crossing(&expectation, 0.0, 0), None, "drops are not asked for");
    assert!(rule.score(&expectation, 412.0) > 10.0);
}

#[rstest]
#[case(zscore())]
#[case(mad())]
#[case(ewma())]
#[case(poisson())]
fn nothing_is_judged_before_the_warm_up_is_over(#[case] algorithm: Algorithm) {
    let rule = rule(algorithm, Direction::Both);
    assert_eq!(rule.expectation(&after(&rule, &CALM[..5])), None);
    assert!(rule.expectation(&after(&rule, &CALM[..6])).is_some());
}

#[test]
fn a_past_crowd_raises_the_bound_of_zscore_and_not_of_mad() {
    let mut past = CALM.to_vec();
    past.push(900.0);
    let (zscore, mad) = (rule(zscore(), Direction::Up), rule(mad(), Direction::Up));
    let expectation = zscore.expectation(&after(&zscore, &past)).unwrap();
    assert_eq!(zscore.crossing(&expectation, 412.0, 412), None, "{expectation:?}");
    let expectation = mad.expectation(&after(&mad, &past)).unwrap();
    assert_eq!(mad.crossing(&expectation, 412.0, 412), Some(Crossing::Up), "{expectation:?}");
}

#[test]
fn a_rare_item_does_not_fire_below_the_minimum_count() {
    let rule = rule(poisson(), Direction::Up);
    let expectation =
        rule.expectation(&after(&rule, &[0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0])).unwrap();
    assert!(expectation.upper > 5.0 && expectation.upper < 20.0, "{expectation:?}");
    assert_eq!(rule.crossing(&expectation, 9.0, 9), None, "fewer than the minimum count");
}

#[test]
fn few_windows_make_a_wide_range() {
    let rule = rule(poisson(), Direction::Up);
    let early = rule.expectation(&after(&rule, &[20.0; 6])).unwrap();
    let settled = rule.expectation(&after(&rule, &[20.0; 200])).unwrap();
    assert!(early.upper > settled.upper, "{early:?} {settled:?}");
    assert!((settled.expected - 20.0).abs() < 0.1, "{settled:?}");
}

/// Exact tails of the Poisson distribution: P(X ≥ 60 | 20) = 3.4e-13, P(X ≥ 53 | 20) = 2.9e-9, by summation.
#[test]
fn poisson_bound_is_conservative_and_tight() {
    let expectation = Expectation { expected: 20.0, spread: 20.0_f64.sqrt(), lower: 0.0, upper: 0.0 };
    let exact = |k: u32| {
        let mut term = (-20.0_f64).exp();
        let mut below = 0.0;
        for i in 0..k {
            below += term;
            term *= 20.0 / f64::from(i + 1);
        }
        // Summing the tail itself, not 1 − head, keeps the digits.
        let mut tail = 0.0;
        for i in k..k + 200 {
            tail += term;
            term *= 20.0 / f64::from(i + 1);
        }
        assert!(below <= 1.0);
        -tail.log10()
    };
    for k in [40, 53, 60, 100] {
        let bound = super::poisson::score(&expectation, f64::from(k));
        assert!(bound <= exact(k) && bound > exact(k) - 1.5, "{k}: {bound} {}", exact(k));
    }
}

#[rstest]
#[case(Threshold::Above(100.0), 101.0, Some(Crossing::Up))]
#[case(Threshold::Above(100.0), 100.0, None)]
#[case(Threshold::Below(5.0), 4.0, Some(Crossing::Down))]
#[case(Threshold::Outside { below: 5.0, above: 100.0 }, 0.0, Some(Crossing::Down))]
fn threshold_is_crossed_outside_of_its_bounds(
    #[case] bounds: Threshold,
    #[case] value: f64,
    #[case] crossing: Option<Crossing>,
) {
    let rule = rule(Algorithm::Threshold(bounds), Direction::Up);
    let expectation = rule.expectation(&rule.fresh()).unwrap();
    assert_eq!(rule.crossing(&expectation, value, 1_000), crossing);
}

#[rstest]
#[case(zscore())]
#[case(mad())]
#[case(ewma())]
#[case(poisson())]
fn a_drop_is_seen_where_it_is_asked_for(#[case] algorithm: Algorithm) {
    let rule = rule(algorithm, Direction::Down);
    let expectation = rule.expectation(&after(&rule, &CALM.map(|value| value * 4.0))).unwrap();
    assert_eq!(rule.crossing(&expectation, 0.0, 0), Some(Crossing::Down), "{expectation:?}");
    assert_eq!(rule.crossing(&expectation, 900.0, 900), None);
}

proptest! {
    #[test]
    fn range_contains_the_expectation_and_scores_are_monotonic(
        values in prop::collection::vec(0.0..10_000.0_f64, 6..80), low in 0.0..20_000.0_f64, more in 0.0..20_000.0_f64,
    ) {
        for algorithm in [zscore(), mad(), ewma(), poisson()] {
            let rule = rule(algorithm, Direction::Both);
            let expectation = rule.expectation(&after(&rule, &values)).unwrap();
            prop_assert!(expectation.lower <= expectation.expected && expectation.expected <= expectation.upper, "{:?}", expectation);
            prop_assert!(expectation.spread > 0.0 && expectation.spread.is_finite());
            prop_assert!(rule.score(&expectation, low) <= rule.score(&expectation, low + more) + 1e-9);
        }
    }

    #[test]
    fn history_round_trips(values in prop::collection::vec(0.0..1e6_f64, 0..80)) {
        for algorithm in [zscore(), mad(), ewma(), poisson()] {
            let rule = rule(algorithm, Direction::Up);
            let history = after(&rule, &values);
            let read: History = serde_json::from_str(&serde_json::to_string(&history).unwrap()).unwrap();
            prop_assert_eq!(read, history);
        }
    }

    #[test]
    fn a_silence_folded_at_once_is_a_silence_folded_window_by_window(
        values in prop::collection::vec(0.0..1e6_f64, 0..80), windows in 0_u32..3_000,
    ) {
        for algorithm in [zscore(), mad(), ewma(), poisson()] {
            let rule = rule(algorithm, Direction::Both);
            let (mut once, mut each) = (after(&rule, &values), after(&rule, &values));
            rule.fold_silence(&mut once, windows);
            (0..windows).for_each(|_| rule.fold(&mut each, 0.0));
            prop_assert_eq!(rule.expectation(&once), rule.expectation(&each));
            // And so is what comes after it.
            [7.0, 0.0, 3.0].iter().for_each(|value| {
                rule.fold(&mut once, *value);
                rule.fold(&mut each, *value);
            });
            prop_assert_eq!(rule.expectation(&once), rule.expectation(&each));
        }
    }

    #[test]
    fn a_silence_taken_for_usual_never_crosses(
        values in prop::collection::vec(-50.0..200.0_f64, 0..80), function in 0..2_usize,
    ) {
        let function = [AggregateFunction::Count, AggregateFunction::Sum][function];
        let values: Vec<f64> = match function {
            AggregateFunction::Count => values.iter().map(|value| value.abs().round()).collect(),
            _ => values,
        };
        for algorithm in [zscore(), mad(), ewma(), poisson(), Algorithm::Threshold(Threshold::Below(5.0)), above(5.0)] {
            for direction in [Direction::Both, Direction::Up] {
                let rule = rule_on(function, algorithm.clone(), direction);
                let mut history = after(&rule, &values);
                if !rule.takes_silence_for_usual(&history) {
                    continue;
                }
                for _ in 0..300 {
                    let crossing = rule.expectation(&history).and_then(|expectation| rule.crossing(&expectation, 0.0, 0));
                    prop_assert_eq!(crossing, None, "{:?} {:?}", rule, history);
                    rule.fold(&mut history, 0.0);
                }
            }
        }
    }
}

#[test]
fn learning_depends_on_the_algorithm_and_not_on_bounds() {
    let learning = |algorithm| rule(algorithm, Direction::Up).learning();
    let ewma_of = |sigmas, half_life, warmup| Algorithm::Ewma(EwmaSpec { sigmas, half_life, warmup });
    assert_eq!(learning(ewma_of(4.0, 10.0, 6)), learning(ewma_of(2.0, 10.0, 9)));
    assert_ne!(learning(ewma_of(4.0, 10.0, 6)), learning(ewma_of(4.0, 20.0, 6)));
    assert_ne!(learning(zscore()), learning(mad()));
}

#[rstest]
#[case(zscore())]
#[case(mad())]
#[case(ewma())]
#[case(poisson())]
#[case(above(1e-300))]
fn a_value_where_it_was_always_the_same_has_a_score_that_json_can_write(#[case] algorithm: Algorithm) {
    for function in [AggregateFunction::Count, AggregateFunction::Sum, AggregateFunction::Mean] {
        let rule = rule_on(function, algorithm.clone(), Direction::Up);
        let expectation = rule.expectation(&after(&rule, &[0.0; 12])).unwrap();
        for value in [0.0, 83.5, 9e12] {
            let score = rule.score(&expectation, value);
            assert!(score.is_finite(), "{function:?}: {score} for {value}, {expectation:?}");
        }
        assert_eq!(rule.crossing(&expectation, 83.5, 20), Some(Crossing::Up), "{expectation:?}");
    }
}
