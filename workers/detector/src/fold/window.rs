//! An open window of a source, and the parts and totals made of it.

use herd_spec::plan::{MetricPlan, OTHER_KEY};
use herd_spec::units::{EventTime, Offset, Partition};
use herd_spec::wire::{Part, Shape, SourceTotal};

use super::growth::Growth;
use crate::aggregate::Running;
use crate::keyed::{self, Keyed};
use crate::metric::Metrics;

/// An open window of a source.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) start: EventTime,
    /// Offset of its first event.
    pub(super) first: Offset,
    /// Offset of its last event.
    pub(super) last: Offset,
    /// Events in it, over all keys.
    pub(super) count: u64,
    pub(super) keys: Keyed<Cell>,
    /// Of a metric that sends early parts.
    pub(super) growth: Growth,
}

/// What a window has of one key.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) value: Running,
    pub(super) version: Offset,
}

/// The window that starts at `start`, opened by the event at `offset` if it is new.
pub(super) fn window_at(windows: &mut Vec<Window>, start: EventTime, offset: Offset) -> &mut Window {
    // The newest windows are at the end and get most of the events.
    let place = windows.iter().rposition(|window| window.start <= start);
    let place = match place {
        Some(place) if windows[place].start == start => place,
        other => {
            let place = other.map_or(0, |before| before + 1);
            let window = Window {
                start,
                first: offset,
                last: offset,
                count: 0,
                keys: Keyed::default(),
                growth: Growth::default(),
            };
            windows.insert(place, window);
            place
        }
    };
    &mut windows[place]
}

/// Where parts and totals of a metric come from.
pub(super) struct Origin<'a> {
    metric: &'a MetricPlan,
    shape: Shape,
    source: Partition,
    since: Offset,
}

impl<'a> Origin<'a> {
    pub(super) fn of(metrics: &'a Metrics, index: usize, source: Partition, since: Offset) -> Self {
        Self { metric: &metrics.all[index], shape: metrics.shapes[index].1, source, since }
    }

    pub(super) fn part<'k>(&self, window: EventTime, key: &'k str, cell: &Cell) -> Part<'k>
    where
        'a: 'k,
    {
        Part {
            metric: self.metric.name.as_str().into(),
            shape: Some(self.shape),
            key: key.into(),
            start: window,
            source: self.source,
            since: self.since,
            version: cell.version,
            value: cell.value.to_wire(),
        }
    }

    pub(super) fn total(&self, window: &Window) -> SourceTotal {
        SourceTotal {
            metric: self.metric.name.to_string(),
            definition: self.shape.definition,
            start: window.start,
            since: self.since,
            version: window.last,
            count: window.count,
        }
    }
}

impl Window {
    pub(super) fn cell(&mut self, key: &str, max_keys: usize) -> &mut Cell {
        // Past the limit, new keys share one; the limit counts that one too.
        let key = if self.keys.len() >= max_keys && !self.keys.contains_key(key) { OTHER_KEY } else { key };
        keyed::at(&mut self.keys, key, || Cell { value: Running::default(), version: Offset(0) })
    }
}
