//! Properties of the rule under any policy and load.

use proptest::prelude::*;

use super::*;

fn any_scaling() -> impl Strategy<Value = ScalingSpec> {
    (0_u32..4, 1_u32..20, 0.1_f64..1.0, any::<(bool, bool, bool)>(), 0_u64..400).prop_map(
        |(min, more, utilisation, (align, pause_up, pause_down), stabilisation)| ScalingSpec {
            min,
            max: min + more,
            utilisation,
            align,
            pause_up,
            pause_down,
            stabilisation: Span::secs(stabilisation),
            ..ScalingSpec::default()
        },
    )
}

/// A period: polls, load, capacity of a replica, fault.
fn any_period() -> impl Strategy<Value = (u8, f64, f64, u8)> {
    (1_u8..40, 0.0_f64..20_000.0, 1.0_f64..2000.0, 0_u8..10)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn number_stays_within_bounds_and_falls_only_with_data(
        scaling in any_scaling(),
        replicas in 0_u32..30,
        periods in proptest::collection::vec(any_period(), 1..8),
    ) {
        let mut fixture = Fixture::new(replicas, scaling.clone());
        let most = scaling.max.min(PARTITIONS as u32);
        let mut before = replicas;
        for (polls, input, each, fault) in periods {
            for _ in 0..polls {
                fixture.stable = fault != 1;
                let decision = if fault == 0 {
                    fixture.now = fixture.now.plus(POLL);
                    fixture.history.fail(fixture.now, "the broker does not answer");
                    fixture.decide()
                } else {
                    fixture.poll(if fault == 2 { 0.0 } else { input }, each)
                };
                let count = decision.replicas.0;
                prop_assert!(count <= most, "{count} of at most {most}");
                prop_assert!(count >= scaling.min.min(most), "{count} of at least {}", scaling.min);
                let in_bounds = before <= most && before >= scaling.min.min(most);
                if in_bounds && (fault == 0 || fault == 1) && before > 0 {
                    prop_assert!(count == before, "changed while not stable: {}", decision.reason);
                }
                if in_bounds && count < before {
                    prop_assert!(!scaling.pause_down || matches!(decision.reason, Reason::GoBack { .. }), "{}", decision.reason);
                }
                if in_bounds && count > before {
                    prop_assert!(!scaling.pause_up, "{}", decision.reason);
                }
                prop_assert!(!decision.reason.to_string().is_empty());
                before = count;
            }
        }
    }

    #[test]
    fn same_arguments_give_the_same_decision(input in 0.0_f64..5000.0, each in 1.0_f64..2000.0) {
        let mut fixture = Fixture::new(3, ScalingSpec::default());
        fixture.polls(100, input, each);
        let again = |fixture: &Fixture| decide(&fixture.policy, &fixture.history, fixture.pods, &fixture.memory, fixture.now);
        prop_assert_eq!(again(&fixture), again(&fixture));
    }

    #[test]
    fn number_settles_under_a_steady_load(input in 1.0_f64..8000.0, each in 700.0_f64..2000.0) {
        let mut fixture = Fixture::new(2, ScalingSpec::default());
        fixture.polls(2400, input, each);
        let changes = fixture.polls(3600, input, each);
        let counts: Vec<u32> = changes.iter().map(|decision| decision.replicas.0).collect();
        prop_assert!(counts.windows(2).all(|pair| pair[0] == pair[1]), "{counts:?}");
        if input < 11.0 * each {
            prop_assert!(changes.last().unwrap().signals.as_ref().unwrap().no_backlog());
        }
    }
}
