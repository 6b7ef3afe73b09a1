//! Live data: recent windows of active keys, alerts, trending lists, and the subscribers of changes.
//!
//! One lock protects data and rooms: a record is applied and published under it, and a client receives its snapshot and joins its
//! room under it. So there is no gap and no duplicate between a snapshot and the changes after it.

use std::sync::Arc;
use std::time::Duration;

use herd_spec::pipeline::AggregateFunction;
use herd_spec::plan::Plan;
use herd_spec::units::{WallTime, millis};
use herd_spec::wire::{Alert, AlertId, AlertState, Fingerprint, Window, WireError};
use herd_store::AlertFilter;
use serde_json::json;

use crate::alerts::{LiveAlerts, overlay};
use crate::hub::{Hub, Outbox, Room, frame, json};
use crate::shapes::{AlertShape, AlertsShape, Point, StatsShape, TrendingShape, WindowChange, WindowsShape};
use crate::trending::Trending;
use crate::windows::{RecentWindows, merge};

/// Maximum number of keys with recent windows, over all metrics (up to 20 KB each).
const CHART_KEYS: usize = 2_000;
/// Maximum number of individually ranked keys per metric (up to 2 KB each).
const RANKED_KEYS: usize = 5_000;
/// Maximum number of alerts.
const ALERTS: usize = 2_000;
/// Maximum number of keys in a snapshot of `metric:METRIC`.
const METRIC_SNAPSHOT: usize = 500;
/// Default number of items of a trending list.
pub(crate) const TRENDING_ITEMS: usize = 20;
/// Default number of windows of a key.
pub(crate) const CHART_WINDOWS: u32 = 120;
/// Default number of alerts of a page.
pub(crate) const PAGE_ALERTS: u32 = 100;

/// Live data and rooms.
#[derive(Debug)]
pub(crate) struct Live {
    plan: Arc<Plan>,
    metrics: Vec<LiveMetric>,
    alerts: LiveAlerts,
    stats: StatsShape,
    closed: u64,
    hub: Hub,
}

#[derive(Debug)]
struct LiveMetric {
    definition: Fingerprint,
    windows: RecentWindows,
    trending: Trending,
}

/// Data of the store for the snapshot of a room.
#[derive(Clone, Debug, Default)]
pub(crate) struct Past {
    /// Closed windows of the key of the room.
    pub(crate) windows: Vec<Point>,
    /// The newest page of alerts.
    pub(crate) alerts: AlertsShape,
}

impl Live {
    /// Without data.
    #[must_use]
    pub(crate) fn new(plan: Arc<Plan>) -> Self {
        let ahead = plan.events.max_clock_skew.max(plan.events.max_lateness);
        let capacity = CHART_KEYS / plan.metrics.len().max(1);
        let metrics: Vec<LiveMetric> = plan
            .metrics
            .iter()
            .map(|metric| LiveMetric {
                definition: metric.definition(),
                windows: RecentWindows::new(capacity),
                trending: Trending::new(
                    metric.window,
                    metric.aggregate.function() == AggregateFunction::Mean,
                    ahead,
                    RANKED_KEYS,
                ),
            })
            .collect();
        Self {
            alerts: LiveAlerts::new(ALERTS),
            stats: StatsShape::default(),
            closed: 0,
            hub: Hub::new(metrics.len()),
            metrics,
            plan,
        }
    }

    /// Index of a metric in the plan.
    #[must_use]
    pub(crate) fn metric(&self, name: &str) -> Option<usize> {
        self.plan.metrics.iter().position(|metric| metric.name == name)
    }

    fn size_ms(&self, metric: usize) -> i64 {
        self.plan.metrics.get(metric).map_or(0, |metric| millis(metric.window))
    }

    /// Applies a record of `windows` and publishes it. Metrics and window sizes that are not in the plan are skipped.
    ///
    /// # Errors
    /// If it is not a window.
    pub(crate) fn take_window(&mut self, record: &[u8]) -> Result<(), WireError> {
        let window = Window::parse(record)?;
        let Some(metric) = self.metric(&window.metric) else { return Ok(()) };
        // Values of another definition are not comparable.
        let known = [self.metrics[metric].definition, Fingerprint::default()];
        if !known.contains(&window.definition) {
            return Ok(());
        }
        let size_ms = self.size_ms(metric);
        if i64::try_from(window.size_ms) != Ok(size_ms) {
            return Ok(());
        }
        let live = &mut self.metrics[metric];
        live.trending.observe(&window.key, window.start, window.count, window.value, window.is_final);
        let key = window.key.clone().into_owned();
        let point = Point::of(window);
        if !live.windows.take(&key, &point) {
            return Ok(());
        }
        self.closed += u64::from(point.is_final);
        let name = self.plan.metrics[metric].name.as_str();
        self.hub.send("window", &[Room::All, Room::Metric(metric)], Some((metric, &key)), || {
            json(&WindowChange { metric: name, key: &key, size_ms, point: &point })
        });
        Ok(())
    }

    /// Applies a record of `alerts` with the timestamp `sent` and publishes it.
    ///
    /// # Errors
    /// If it is not an alert.
    pub(crate) fn take_alert(&mut self, record: &[u8], sent: WallTime) -> Result<(), WireError> {
        let alert = AlertShape::of(Alert::parse(record)?, sent);
        if let Some(news) = self.alerts.take(alert) {
            self.hub.send("alert", &[Room::All, Room::Alerts], None, || json(news));
        }
        Ok(())
    }

    /// The state of an alert, withdrawn ones included; none if it is not among the live ones.
    #[must_use]
    pub(crate) fn alert_state(&self, id: &AlertId) -> Option<AlertState> {
        self.alerts.get(&id.0).map(|alert| alert.state)
    }

    /// Applies feedback on an alert and publishes it. Other replicas have it with the next page of the store.
    pub(crate) fn take_feedback(&mut self, id: &AlertId, useful: bool) {
        if let Some(news) = self.alerts.take_feedback(&id.0, useful) {
            self.hub.send("alert", &[Room::All, Room::Alerts], None, || json(news));
        }
    }

    /// Number of closed windows since the start.
    #[must_use]
    pub(crate) fn closed(&self) -> u64 {
        self.closed
    }

    /// The last measurement, with the current number of open alerts.
    #[must_use]
    pub(crate) fn stats(&self) -> StatsShape {
        StatsShape { alerts_firing: self.alerts.firing(), ..self.stats.clone() }
    }

    /// Stores a measurement and publishes it.
    pub(crate) fn take_stats(&mut self, stats: StatsShape) {
        self.stats = stats;
        self.hub.send("stats", &[Room::All, Room::Stats], None, || json(&self.stats()));
    }

    /// Publishes the trending lists to their subscribers.
    pub(crate) fn publish_trending(&self) {
        for metric in 0..self.metrics.len() {
            let rooms = [Room::All, Room::Trending(metric)];
            self.hub.send("trending", &rooms, None, || json(&self.trending(metric, TRENDING_ITEMS)));
        }
    }

    /// The trending list of a metric.
    #[must_use]
    pub(crate) fn trending(&self, metric: usize, limit: usize) -> TrendingShape {
        let name = self.plan.metrics[metric].name.as_str();
        TrendingShape::of(name, self.size_ms(metric), self.metrics[metric].trending.top(limit))
    }

    /// The windows of a key that start in `[from, to)`: stored ones merged with live ones.
    #[must_use]
    pub(crate) fn windows(
        &self,
        metric: usize,
        key: &str,
        range: (Option<i64>, Option<i64>),
        limit: u32,
        stored: Vec<Point>,
    ) -> WindowsShape {
        let (from, to) = range;
        let inside = |start: i64| from.is_none_or(|from| start >= from) && to.is_none_or(|to| start < to);
        let live =
            self.metrics[metric].windows.of(key).filter(|point| inside(point.start)).cloned().collect();
        WindowsShape {
            missing: None,
            metric: self.plan.metrics[metric].name.to_string(),
            key: key.to_owned(),
            size_ms: self.size_ms(metric),
            windows: merge(stored, live, usize::try_from(limit).unwrap_or(usize::MAX)),
        }
    }

    /// A page of alerts of the store, merged with live ones.
    #[must_use]
    pub(crate) fn alerts(&self, filter: &AlertFilter, stored: AlertsShape) -> AlertsShape {
        let more = stored.next_cursor.is_some();
        let first = filter.cursor.is_none();
        AlertsShape {
            missing: None,
            alerts: overlay(stored.alerts, more, first, &self.alerts, filter),
            next_cursor: stored.next_cursor,
        }
    }

    /// All live alerts that match a filter, newest first.
    #[must_use]
    pub(crate) fn live_alerts(&self, filter: &AlertFilter) -> Vec<AlertShape> {
        self.alerts.matching(filter).into_iter().cloned().collect()
    }

    /// Sends the snapshot of a room to a client and subscribes it.
    pub(crate) fn subscribe(&mut self, room: &Room, name: &str, outbox: &Outbox, past: Past) {
        let snapshot = self.snapshot(room, past);
        outbox.send(frame("snapshot", name, &snapshot));
        self.hub.join(room, name, outbox);
    }

    /// Unsubscribes a client from a room.
    pub(crate) fn unsubscribe(&mut self, room: &Room, outbox: &Outbox) {
        self.hub.leave(room, outbox);
    }

    fn snapshot(&self, room: &Room, past: Past) -> String {
        let newest = AlertFilter { limit: PAGE_ALERTS, ..AlertFilter::default() };
        let alerts = || self.alerts(&newest, past.alerts.clone());
        match room {
            Room::All => {
                let trending: Vec<TrendingShape> =
                    (0..self.metrics.len()).map(|metric| self.trending(metric, TRENDING_ITEMS)).collect();
                json(&json!({ "stats": self.stats(), "alerts": alerts(), "trending": trending }))
            }
            Room::Alerts => json(&alerts()),
            Room::Stats => json(&self.stats()),
            Room::Trending(metric) => json(&self.trending(*metric, TRENDING_ITEMS)),
            Room::Metric(metric) => {
                let name = self.plan.metrics[*metric].name.as_str();
                let size_ms = self.size_ms(*metric);
                let newest = self.metrics[*metric].windows.newest(METRIC_SNAPSHOT);
                let windows: Vec<WindowChange<'_>> = newest
                    .into_iter()
                    .map(|(key, point)| WindowChange { metric: name, key: key.as_str(), size_ms, point })
                    .collect();
                json(&json!({ "metric": name, "size_ms": size_ms, "windows": windows }))
            }
            Room::Item(metric, key) => {
                json(&self.windows(*metric, key, (None, None), CHART_WINDOWS, past.windows))
            }
        }
    }
}

/// Interval at which trending lists and statistics are published.
pub(crate) const TICK: Duration = Duration::from_secs(1);
