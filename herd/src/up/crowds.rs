//! The generated crowds of a demonstration, and how long it takes until somebody is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use herd_spec::plan::{Algorithm, Plan};
use herd_spec::units::{EventTime, WallTime};
use herd_spec::wire::Alert;
use serde::Serialize;

use crate::shoppers::{Planned, Settings, Shape, Shoppers};

/// Crowds whose events are remembered; older ones are over.
const REMEMBERED: usize = 8;

/// What was sent about the items of crowds, and what was heard of them. Cheap to clone; clones are the same.
#[derive(Clone, Debug)]
pub struct Crowds(Arc<Mutex<Book>>);

#[derive(Debug)]
struct Book {
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
    /// When its first event was meant to be sent.
    began: EventTime,
    /// Type and time of the valid events about its item since then. Each was meant to be sent at its time.
    events: Vec<(&'static str, EventTime)>,
    alerted: bool,
}

/// How long it takes from a crowd to its alert, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Delay {
    /// Half of them took at most this.
    pub p50: f64,
    /// 99 % of them took at most this.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

/// What is known of crowds and their alerts.
#[derive(Clone, Debug, Serialize)]
pub struct CrowdReport {
    /// Crowds that came.
    pub crowds: u64,
    /// Crowds that somebody was told of.
    pub alerted: u64,
    /// From the intended send of the crowd's first event to the alert at a WebSocket client. Includes the time that the crowd
    /// itself needs to become unusual.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_beginning_ms: Option<Delay>,
    /// From the intended send of the last event that the alert counts to the alert at a WebSocket client: what Herd needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_last_counted_event_ms: Option<Delay>,
    /// From the intended send of the event that took the count over the bound of a `threshold` detector to the alert at a
    /// WebSocket client. Other detectors do not tell where their bound was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_crossing_event_ms: Option<Delay>,
}

fn histogram() -> Histogram<u64> {
    #[allow(clippy::expect_used)]
    // these bounds are always allowed; what is longer than an hour counts as one
    Histogram::new_with_max(3_600_000, 3).expect("three digits")
}

impl Delay {
    fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64;
        (!histogram.is_empty()).then(|| Self { p50: at(0.5), p99: at(0.99), max: histogram.max() as f64 })
    }
}

impl Crowds {
    /// None yet, of shoppers with these settings.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(Mutex::new(Book {
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

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An event is about to be sent. Returns the item's key if it is the first of a crowd.
    pub fn sending(&self, planned: &Planned) -> Option<String> {
        let (deed, item) = planned.about?;
        let mut guard = self.book();
        let book = &mut *guard;
        let mut begins = None;
        if let Some(number) = planned.crowd
            && !book.crowds.contains_key(&number)
        {
            let key = Shoppers::crowd_key(&book.settings, number);
            begins = Some(key.clone());
            book.seen += 1;
            book.crowds
                .insert(number, Crowd { key, began: planned.time, events: Vec::new(), alerted: false });
            if book.crowds.len() > REMEMBERED {
                book.crowds.pop_first();
            }
        }
        let event_type = book.shape.event_type(deed);
        let key = book.shape.item(item);
        if let Some(crowd) = book.crowds.values_mut().next_back()
            && crowd.key == key
        {
            crowd.events.push((event_type, planned.time));
        }
        begins
    }

    /// An alert has arrived at `now`. Returns how long after the crowd's beginning, if it is the first of a crowd.
    pub fn alerted(&self, plan: &Plan, alert: &Alert, now: WallTime) -> Option<Duration> {
        let mut guard = self.book();
        let book = &mut *guard;
        let size = Duration::from_millis(alert.size_ms);
        let crowd =
            book.crowds.values_mut().rev().find(|crowd| {
                crowd.key == alert.key && !crowd.alerted && crowd.began < alert.start.plus(size)
            })?;
        crowd.alerted = true;
        book.alerted += 1;
        let delay = WallTime(crowd.began.0);
        book.from_beginning.saturating_record(ms(now.since(delay)));
        let types = plan.metric(&alert.metric).map(|metric| metric.types.as_slice()).unwrap_or_default();
        let mut counted: Vec<EventTime> = crowd
            .events
            .iter()
            .filter(|(event_type, _)| types.is_empty() || types.iter().any(|name| name == event_type))
            .map(|(_, time)| *time)
            .filter(|time| *time >= alert.start && *time < alert.start.plus(size))
            .collect();
        counted.sort_unstable();
        let place = usize::try_from(alert.count).unwrap_or(usize::MAX).min(counted.len());
        if let Some(last) = place.checked_sub(1).and_then(|place| counted.get(place)) {
            book.from_last_counted.saturating_record(ms(now.since(WallTime(last.0))));
        }
        if let Some(crossing) = bound(plan, alert).and_then(|bound| counted.get(bound)) {
            book.from_crossing.saturating_record(ms(now.since(WallTime(crossing.0))));
        }
        Some(now.since(delay))
    }

    /// What is known by now.
    #[must_use]
    pub fn report(&self) -> CrowdReport {
        let book = self.book();
        CrowdReport {
            crowds: book.seen,
            alerted: book.alerted,
            from_beginning_ms: Delay::of(&book.from_beginning),
            from_last_counted_event_ms: Delay::of(&book.from_last_counted),
            from_crossing_event_ms: Delay::of(&book.from_crossing),
        }
    }
}

/// How many events may come before the next one crosses, where the detector has such a number.
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
