//! Windows of definitions that this pipeline does not have: a metric was changed or removed, or a member of a newer version of
//! the pipeline already counts. Their events were counted, so they are closed like all others, with what they hold; nothing
//! is known of what would be usual, so no detector judges them.

use std::collections::BTreeMap;

use herd_spec::units::{EventTime, Offset};
use herd_spec::wire::{Fingerprint, Part, Shape, VERSION, Window};

use super::open_windows::{self, OpenWindows};
use super::output::{Output, ReadOutcome};
use crate::aggregate::Running;

/// More definitions than a pipeline can be given while a window is open: whatever comes beyond is no part of ours.
const MOST: usize = 1_000;

/// The open windows of definitions that are not the plan's, by the metric's name and definition.
#[derive(Debug, Default)]
pub(super) struct Retired(BTreeMap<(String, Fingerprint), Metric>);

#[derive(Debug)]
struct Metric {
    shape: Shape,
    windows: OpenWindows,
}

impl Retired {
    /// Takes a part of a window that is still open.
    pub(super) fn take(
        &mut self,
        offset: Offset,
        part: &Part<'_>,
        shape: Shape,
        value: Running,
    ) -> ReadOutcome {
        let name = (part.metric.clone().into_owned(), shape.definition);
        if self.0.len() >= MOST && !self.0.contains_key(&name) {
            return ReadOutcome::Unknown;
        }
        let metric = self.0.entry(name).or_insert_with(|| Metric { shape, windows: OpenWindows::new() });
        open_windows::take(&mut metric.windows, offset, part, value);
        ReadOutcome::Taken
    }

    /// Closes the windows that end at or before `closed`; how many, counting each key.
    pub(super) fn close<E>(
        &mut self,
        closed: EventTime,
        out: &mut impl FnMut(Output<'_>) -> Result<(), E>,
    ) -> Result<u64, E> {
        let mut count = 0;
        for ((name, definition), metric) in &mut self.0 {
            while let Some(entry) = metric.windows.first_entry() {
                if EventTime(entry.key().0.saturating_add_unsigned(metric.shape.size_ms)) > closed {
                    break;
                }
                let (start, open) = entry.remove_entry();
                for (key, values) in open.keys {
                    let total = values.total();
                    out(Output::Window(Window {
                        v: VERSION,
                        metric: name.as_str().into(),
                        definition: *definition,
                        key: key.as_str().into(),
                        start,
                        size_ms: metric.shape.size_ms,
                        count: total.count,
                        value: total.value(metric.shape.function),
                        is_final: true,
                        bands: Vec::new(),
                    }))?;
                    count += 1;
                }
            }
        }
        self.0.retain(|_, metric| !metric.windows.is_empty());
        Ok(count)
    }

    /// The offset of the first part of the oldest open window.
    pub(super) fn first(&self) -> Option<Offset> {
        self.0.values().flat_map(|metric| metric.windows.values()).map(|open| open.first).min()
    }

    /// Keys in open windows.
    pub(super) fn open_keys(&self) -> usize {
        self.0.values().flat_map(|metric| metric.windows.values()).map(|open| open.keys.len()).sum()
    }
}
