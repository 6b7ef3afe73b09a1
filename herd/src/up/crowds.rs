//! The generated crowds of a demonstration, and the delay of their alerts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use herd_spec::plan::{Algorithm, Plan};
use herd_spec::units::{EventTime, WallTime};
use herd_spec::wire::Alert;
use serde::Serialize;

use crate::shoppers::{GeneratedEvent, Settings, Shape, Shoppers};

/// Maximum number of crowds whose events are kept.
const MAX_CROWDS: usize = 8;

/// Events sent for the items of crowds, and the alerts received for them. Clones share their state.
#[derive(Clone, Debug)]
pub struct Crowds(Arc<Mutex<CrowdState>>);

#[derive(Debug)]
struct CrowdState {
    shape: Shape,
    settings: Settings,
    crowds: BTreeMap<u64, Crowd>,
    seen: u64,
    alerted: u64,
    from_beginning: Histogram<u64>,
    from_last_counted: Histogram<u64>,
    from_crossing: Histogram<u64>,
}

#[derive(Debug)]
struct Crowd {
    key: String,
    /// Scheduled time of its first event.
    began: EventTime,
    /// Type and scheduled time of the valid events of its item since then.
    events: Vec<(&'static str, EventTime)>,
    alerted: bool,
}

/// Delay from a crowd to its alert, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Delay {
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Maximum.
    pub max: f64,
}

/// Crowds and the delays of their alerts.
#[derive(Clone, Debug, Serialize)]
pub struct CrowdReport {
    /// Number of crowds.
    pub crowds: u64,
    /// Number of crowds with an alert.
    pub alerted: u64,
    /// From the scheduled time of the first event of the crowd to the alert at a WebSocket client. Includes the time until the
    /// values of the item become anomalous.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_beginning_ms: Option<Delay>,
    /// From the scheduled time of the last event counted in the alert to the alert at a WebSocket client: the latency of Herd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_last_counted_event_ms: Option<Delay>,
    /// From the scheduled time of the event that crossed the bound of a `threshold` detector to the alert at a WebSocket
    /// client. Other detectors do not report their bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_crossing_event_ms: Option<Delay>,
}

fn histogram() -> Histogram<u64> {
    #[allow(clippy::expect_used)]
    // these bounds are always valid; longer delays count as one hour
    Histogram::new_with_max(3_600_000, 3).expect("three digits")
}

impl Delay {
    fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64;
        (!histogram.is_empty()).then(|| Self { p50: at(0.5), p99: at(0.99), max: histogram.max() as f64 })
    }
}

impl Crowds {
    /// No crowds yet, of shoppers with these settings.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(Mutex::new(CrowdState {
            shape: settings.shape,
            settings,
            crowds: BTreeMap::new(),
            seen: 0,
            alerted: 0,
            from_beginning: histogram(),
            from_last_counted: histogram(),
            from_crossing: histogram(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, CrowdState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records an event that is about to be sent. Returns the key of the item if it is the first event of a crowd.
    pub fn sending(&self, planned: &GeneratedEvent) -> Option<String> {
        let (action, item) = planned.about?;
        let mut guard = self.state();
        let state = &mut *guard;
        let mut begins = None;
        if let Some(number) = planned.crowd
            && !state.crowds.contains_key(&number)
        {
            let key = Shoppers::crowd_key(&state.settings, number);
            begins = Some(key.clone());
            state.seen += 1;
            state
                .crowds
                .insert(number, Crowd { key, began: planned.time, events: Vec::new(), alerted: false });
            if state.crowds.len() > MAX_CROWDS {
                state.crowds.pop_first();
            }
        }
        let event_type = state.shape.event_type(action);
        let key = state.shape.item(item);
        if let Some(crowd) = state.crowds.values_mut().next_back()
            && crowd.key == key
        {
            crowd.events.push((event_type, planned.time));
        }
        begins
    }

    /// Records an alert received at `now`. Returns the delay from the start of the crowd, if it is the first alert of a crowd.
    pub fn alerted(&self, plan: &Plan, alert: &Alert, now: WallTime) -> Option<Duration> {
        let mut guard = self.state();
        let state = &mut *guard;
        let size = Duration::from_millis(alert.size_ms);
        let from = alert.start.plus(size).minus(Duration::from_millis(alert.span_ms.max(alert.size_ms)));
        let crowd =
            state.crowds.values_mut().rev().find(|crowd| {
                crowd.key == alert.key && !crowd.alerted && crowd.began < alert.start.plus(size)
            })?;
        crowd.alerted = true;
        state.alerted += 1;
        let delay = WallTime(crowd.began.0);
        state.from_beginning.saturating_record(ms(now.since(delay)));
        let types = plan.metric(&alert.metric).map(|metric| metric.types.as_slice()).unwrap_or_default();
        let mut counted: Vec<EventTime> = crowd
            .events
            .iter()
            .filter(|(event_type, _)| types.is_empty() || types.iter().any(|name| name == event_type))
            .map(|(_, time)| *time)
            .filter(|time| *time >= from && *time < alert.start.plus(size))
            .collect();
        counted.sort_unstable();
        let place = usize::try_from(alert.count).unwrap_or(usize::MAX).min(counted.len());
        if let Some(last) = place.checked_sub(1).and_then(|place| counted.get(place)) {
            state.from_last_counted.saturating_record(ms(now.since(WallTime(last.0))));
        }
        if let Some(crossing) = bound(plan, alert).and_then(|bound| counted.get(bound)) {
            state.from_crossing.saturating_record(ms(now.since(WallTime(crossing.0))));
        }
        Some(now.since(delay))
    }

    /// The report so far.
    #[must_use]
    pub fn report(&self) -> CrowdReport {
        let state = self.state();
        CrowdReport {
            crowds: state.seen,
            alerted: state.alerted,
            from_beginning_ms: Delay::of(&state.from_beginning),
            from_last_counted_event_ms: Delay::of(&state.from_last_counted),
            from_crossing_event_ms: Delay::of(&state.from_crossing),
        }
    }
}

/// The number of events that do not yet cross the bound, for `threshold` detectors.
fn bound(plan: &Plan, alert: &Alert) -> Option<usize> {
    let detector = plan.detectors.iter().find(|detector| detector.name == alert.detector)?;
    let Algorithm::Threshold(bounds) = &detector.algorithm else { return None };
    let above = bounds.above()?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a count
    (0.0..1e9).contains(&above).then_some(above as usize)
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
