use super::super::{Direction, KeyState};
use super::*;

/// A population after thirty windows with two keys.
fn learnt(settings: &Settings) -> Population {
    let mut population = Population::new(100);
    let mut keys = [KeyState::new(&population, 100), KeyState::new(&population, 100)];
    for index in 100..130 {
        let mut closing = population.begin(index, 12, settings);
        for (key, count) in keys.iter_mut().zip([3_u32, 9]) {
            key.take(&mut closing, &population, settings, f64::from(count), u64::from(count));
        }
        population.close(&closing, settings);
        for key in &mut keys {
            key.score(&mut population, settings, index);
        }
    }
    population
}

#[test]
fn silence_is_the_same_whether_its_windows_are_closed_one_by_one_or_at_once() {
    let limit = Limit::Budget(5.0);
    let settings = Settings { size_ms: 10_000, lag: 3, limit, direction: Direction::Up };
    let (mut each, mut once) = (learnt(&settings), learnt(&settings));
    for index in 130..700 {
        let closing = each.begin(index, 0, &settings);
        each.close(&closing, &settings);
    }
    once.advance(699, &settings);
    assert!(each == once);
    // It aged: of what was known before the silence little is left.
    assert!(once.known(699).usual() < 0.3 * learnt(&settings).known(129).usual());
}
