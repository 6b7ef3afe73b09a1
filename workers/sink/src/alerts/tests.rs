//! An alert to send.

use herd_spec::units::EventTime;
use herd_spec::wire::{Alert, AlertId, AlertState, Explanation, Severity};

pub(crate) fn alert(key: &str, state: AlertState) -> Alert {
    let start = EventTime(1_700_000_000_000);
    Alert {
        v: 1,
        id: AlertId::of("shop", "rush", key, start),
        pipeline: "shop".into(),
        detector: "rush".into(),
        metric: "views".into(),
        rule: herd_spec::wire::Fingerprint::default(),
        key: key.into(),
        severity: Severity::Warning,
        state,
        start,
        size_ms: 10_000,
        span_ms: 10_000,
        count: 412,
        value: 412.0,
        expected: 35.0,
        spread: 6.0,
        score: 62.83,
        summary: format!("{key}: 412 views in 10 s, expected about 35 ± 6, 63 times the usual spread"),
        resolved: (state == AlertState::Resolved).then_some(EventTime(1_700_000_020_000)),
        episode: None,
        explanation: None,
    }
}

/// Of the events up to so many seconds after the beginning of the window.
pub(crate) fn explanation(seconds: i64) -> Explanation {
    Explanation {
        until: EventTime(1_700_000_000_000 + 1000 * seconds),
        events: 412,
        sampled: false,
        users: 380,
        causes: vec![],
        summary: "92 % of the excess from country BR, 81 % via referrer t.co; 380 people".into(),
    }
}
