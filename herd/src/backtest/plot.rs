//! The windows of a key as SVG: values, the range that a detector expected, and the alerts.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use herd_spec::plan::Plan;
use herd_spec::units::EventTime;
use herd_spec::wire::{Alert, AlertState, Window};

use super::BacktestCommandError;

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 50.0;
/// Columns that windows are combined to if there are more of them than can be told apart.
const COLUMNS: usize = 1000;
/// Windows that are kept at most. A longer history is drawn from its newest windows.
const MAX_WINDOWS: usize = 2_000_000;

/// A closed window.
#[derive(Clone, Copy, Debug)]
struct Point {
    start: EventTime,
    value: f64,
    /// Lower bound, expected value and upper bound of the detector drawn; none while it learns.
    range: Option<(f64, f64, f64)>,
}

/// The windows of one key.
#[derive(Debug)]
pub(super) struct Plot {
    key: String,
    metric: String,
    window: Duration,
    /// The detector whose range is drawn: the first one of the metric.
    detector: Option<String>,
    points: Vec<Point>,
}

/// What is drawn in one column.
#[derive(Clone, Copy, Debug)]
struct Column {
    most: f64,
    range: Option<(f64, f64, f64)>,
}

impl Plot {
    /// An empty plot of `key` in the metric of that name, or in the first metric with a detector.
    pub(super) fn new(key: &str, metric: Option<&str>, plan: &Plan) -> Result<Self, BacktestCommandError> {
        let watched = || plan.detectors.first().and_then(|detector| plan.metric(&detector.metric));
        let found = match metric {
            Some(name) => plan.metric(name),
            None => watched().or(plan.metrics.first()),
        };
        let Some(found) = found else {
            let known: Vec<String> = plan.metrics.iter().map(|metric| format!("`{}`", metric.name)).collect();
            let name = metric.unwrap_or_default().to_owned();
            return Err(BacktestCommandError::Metric { name, known: known.join(", ") });
        };
        Ok(Self {
            key: key.to_owned(),
            metric: found.name.to_string(),
            window: found.window,
            detector: plan
                .detectors
                .iter()
                .find(|detector| detector.metric == found.name)
                .map(|detector| detector.name.to_string()),
            points: Vec::new(),
        })
    }

    /// Takes in a closed window, if it is of the key.
    pub(super) fn take(&mut self, window: &Window<'_>) {
        if window.key != self.key || window.metric != self.metric {
            return;
        }
        if self.points.len() >= MAX_WINDOWS {
            self.points.drain(..MAX_WINDOWS / 2);
        }
        let band = window.bands.iter().find(|band| Some(&band.detector) == self.detector.as_ref());
        let range = band.map(|band| (band.lower, band.expected, band.upper));
        self.points.push(Point { start: window.start, value: window.value, range });
    }

    /// Writes the plot with the alerts of the key, from the first to the last of all events: where the key has none, it is 0.
    pub(super) fn write(
        &self,
        path: &Path,
        alerts: &[Alert],
        events: Option<(EventTime, EventTime)>,
    ) -> Result<(), BacktestCommandError> {
        if self.points.is_empty() {
            let mut known: Vec<String> = alerts.iter().map(|alert| format!("`{}`", alert.key)).collect();
            known.sort_unstable();
            known.dedup();
            known.truncate(10);
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let (key, metric) = (self.key.clone(), self.metric.clone());
            return Err(BacktestCommandError::Key { key, metric, known });
        }
        std::fs::write(path, self.svg(alerts, events))
            .map_err(|source| BacktestCommandError::Write { path: path.to_owned(), source })
    }

    /// The windows combined to columns of equal length: the largest value of each and the range beside it.
    fn columns(&self, first: EventTime, span: Duration) -> Vec<Option<Column>> {
        let windows = (span.as_secs_f64() / self.window.as_secs_f64()).ceil() as usize;
        let mut columns = vec![None; windows.clamp(1, COLUMNS)];
        let count = columns.len();
        for point in &self.points {
            let share = point.start.since(first).as_secs_f64() / span.as_secs_f64();
            let column = &mut columns[((share * count as f64) as usize).min(count - 1)];
            let known: &mut Column = column.get_or_insert(Column { most: f64::MIN, range: None });
            if point.value > known.most {
                *known = Column { most: point.value, range: point.range };
            }
        }
        columns
    }

    fn svg(&self, alerts: &[Alert], events: Option<(EventTime, EventTime)>) -> String {
        let bounds = events.map(|(first, last)| [first, last].map(|time| time.window_start(self.window)));
        let times = || self.points.iter().map(|point| point.start).chain(bounds.into_iter().flatten());
        let first = times().min().unwrap_or_default();
        let last = times().max().unwrap_or_default().plus(self.window);
        let span = last.since(first);
        let columns = self.columns(first, span);
        let ours = |alert: &&Alert| {
            alert.key == self.key && alert.metric == self.metric && alert.state != AlertState::Withdrawn
        };
        let alerts: Vec<&Alert> = alerts.iter().filter(ours).collect();
        let highest = columns.iter().flatten().map(|column| column.most).fold(1e-9, f64::max);
        // A range far above all values would hide them.
        let upper = columns.iter().flatten().filter_map(|column| column.range.map(|range| range.2));
        let top = upper.fold(highest, f64::max).min(highest * 2.0);
        let x = |time: EventTime| LEFT + WIDTH * time.since(first).as_secs_f64() / span.as_secs_f64();
        let y = |value: f64| TOP + HEIGHT * (1.0 - value.clamp(0.0, top) / top);
        let step = WIDTH / columns.len() as f64;
        let (full, bottom) = (LEFT + WIDTH + 20.0, TOP + HEIGHT);
        let (key, metric) = (escaped(&self.key), &self.metric);
        let detector = self.detector.as_deref().unwrap_or("no detector");
        let shown = if alerts.len() == 1 { "1 alert".to_owned() } else { format!("{} alerts", alerts.len()) };
        let mut page = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {full} {:.0}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
             <text x=\"{LEFT}\" y=\"18\" font-size=\"14\" font-weight=\"bold\">{key}: {metric} in {}</text>\n\
             <text x=\"{LEFT}\" y=\"36\" fill=\"#555\">band: range expected by {detector}; shaded: {shown}</text>\n",
            bottom + 40.0,
            length(self.window)
        );
        // Writing into a String does not fail, here and below.
        for alert in &alerts {
            let until = alert.resolved.unwrap_or(alert.start).max(alert.start.plus(self.window));
            let (from, width) = (x(alert.start), (x(until) - x(alert.start)).max(2.0));
            let _ = writeln!(
                page,
                "<rect x=\"{from:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{HEIGHT}\" fill=\"#d62728\" fill-opacity=\"0.18\"><title>{}</title></rect>",
                escaped(&alert.summary)
            );
        }
        for (place, column) in columns.iter().enumerate() {
            let Some((low, expected, high)) = column.and_then(|column| column.range) else { continue };
            let from = LEFT + step * place as f64;
            let _ = writeln!(
                page,
                "<path d=\"M{from:.1} {:.1}h{step:.2}V{:.1}h-{step:.2}z\" fill=\"#1f77b4\" fill-opacity=\"0.2\"/>\
                 <path d=\"M{from:.1} {:.1}h{step:.2}\" stroke=\"#1f77b4\"/>",
                y(high),
                y(low),
                y(expected)
            );
        }
        let mut line = String::new();
        for (place, column) in columns.iter().enumerate() {
            let value = y(column.map_or(0.0, |column| column.most));
            let from = LEFT + step * place as f64;
            let begin = if line.is_empty() { 'M' } else { 'L' };
            let _ = write!(line, "{begin}{from:.1} {value:.1}h{step:.2}");
        }
        let _ = writeln!(page, "<path d=\"{line}\" fill=\"none\" stroke=\"#222\" stroke-width=\"1.2\"/>");
        let _ = writeln!(
            page,
            "<path d=\"M{LEFT} {TOP}V{bottom}H{:.0}\" fill=\"none\" stroke=\"#999\"/>\n\
             <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\" fill=\"#555\">{}</text>\n\
             <text x=\"{:.0}\" y=\"{bottom}\" text-anchor=\"end\" fill=\"#555\">0</text>",
            LEFT + WIDTH,
            LEFT - 6.0,
            TOP + 10.0,
            short(top),
            LEFT - 6.0,
        );
        for tick in 0..=4 {
            let at = first.plus(span.mul_f64(f64::from(tick) / 4.0));
            let anchor = ["start", "middle", "middle", "middle", "end"][tick as usize];
            let _ = writeln!(
                page,
                "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"{anchor}\" fill=\"#555\">{}</text>",
                x(at),
                bottom + 18.0,
                at.rfc3339().get(..16).unwrap_or_default().replace('T', " ")
            );
        }
        page.push_str("</svg>\n");
        page
    }
}

/// The length of a window: `30 s`, `10 min`.
fn length(window: Duration) -> String {
    let seconds = window.as_secs();
    if seconds >= 60 && seconds.is_multiple_of(60) {
        format!("{} min", seconds / 60)
    } else {
        format!("{seconds} s")
    }
}

/// A number without needless digits.
fn short(value: f64) -> String {
    if value >= 10.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// A text inside of XML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combines_windows_to_columns_and_keeps_the_largest_value() {
        let window = Duration::from_secs(10);
        let point =
            |n: i64| Point { start: EventTime(n * 10_000), value: n as f64, range: Some((0.0, 1.0, 2.0)) };
        let plot = Plot {
            key: "a<b".into(),
            metric: "views".into(),
            window,
            detector: Some("d".into()),
            points: (0..5000).map(point).collect(),
        };
        let columns = plot.columns(EventTime(0), window * 5000);
        assert_eq!(columns.len(), COLUMNS);
        assert!(
            columns
                .iter()
                .enumerate()
                .all(|(n, column)| column.is_some_and(|c| c.most == (n * 5 + 4) as f64))
        );
        let svg = plot.svg(&[], None);
        assert!(svg.contains("a&lt;b: views in 10 s") && svg.ends_with("</svg>\n"));
        // The time of the other events is drawn as well.
        let svg = plot.svg(&[], Some((EventTime(0), EventTime(86_400_000))));
        assert!(
            svg.contains(">1970-01-01 00:00</text>") && svg.contains(">1970-01-02 00:00</text>"),
            "{svg}"
        );
    }
}
