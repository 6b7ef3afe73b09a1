//! Alerts about a whole metric.

use herd_spec::wire::{Alert, AlertState};

use super::{HERD, Judge, stand, watched};

/// Totals alert after thirty-odd windows; a newsletter brings four times as many views of everything, a failing tracker none.
fn newsletter_and_outage(judge: &mut Judge, windows: std::ops::Range<i64>) {
    for window in windows {
        let times = match window {
            60..75 => 4,
            120..140 => 0,
            _ => 1,
        };
        for item in 0..20 {
            let count = times * u64::try_from((window * 7 + item * 13) % 4).unwrap();
            if count > 0 {
                judge.count(&format!("item-{item}"), window * 10_000, count);
            }
        }
        judge.close((window + 1) * 10_000);
    }
}

#[test]
fn a_newsletter_and_an_outage_are_one_alert_each_about_the_whole_metric() {
    let mut judge = Judge::new(watched("10s", HERD));
    newsletter_and_outage(&mut judge, 0..200);
    let raised: Vec<Alert> =
        stand(&judge).into_iter().filter(|alert| alert.state != AlertState::Withdrawn).collect();
    let found: Vec<_> = raised
        .iter()
        .map(|alert| (alert.key.as_str(), alert.start.0 / 10_000, alert.resolved.map(|end| end.0 / 10_000)))
        .collect();
    assert_eq!(found, [("(all)", 60, Some(75)), ("(all)", 120, Some(140))], "{raised:#?}");
    let told: Vec<&str> = judge.alerts.iter().map(|alert| alert.summary.as_str()).collect();
    assert_eq!(
        [told[0], raised[0].summary.as_str()],
        [
            "everything is up 4×: 120 views in 10 s, 30 usual, since 00:10:00 UTC",
            "everything is back to usual after 2 min 30 s: peak 120 views in 10 s, 1,350 more than usual",
        ]
    );
    let outage = judge.alerts.iter().position(|alert| alert.start.0 == 1_200_000).unwrap();
    assert_eq!(
        [told[outage], told[outage + 7], raised[1].summary.as_str()],
        [
            "no views for 10 s: usually 30 in 10 s, since 00:20:00 UTC",
            "no views for 1 min 20 s: usually 30 in 10 s, 240 less than usual in 1 min 20 s, since 00:20:00 UTC",
            "everything is back to usual after 3 min 20 s: lowest only 0 views in 10 s, 600 less than usual",
        ]
    );
}

#[test]
fn a_successor_goes_on_with_the_alert_about_the_whole_metric() {
    let mut whole = Judge::new(watched("10s", HERD));
    newsletter_and_outage(&mut whole, 0..200);
    for at in [20, 59, 60, 61, 70, 75, 77, 119, 120, 125, 139, 141, 150] {
        let mut judge = Judge::new(watched("10s", HERD));
        newsletter_and_outage(&mut judge, 0..at);
        let alerts = std::mem::take(&mut judge.alerts);
        let mut successor = judge.successor(watched("10s", HERD));
        successor.alerts = alerts;
        newsletter_and_outage(&mut successor, at..200);
        assert_eq!(stand(&successor), stand(&whole), "taken over after window {at}");
    }
}
