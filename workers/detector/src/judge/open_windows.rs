//! An open window: what the sources have counted into it so far, by key.

use std::collections::BTreeMap;

use herd_spec::units::{EventTime, Offset, Partition};
use herd_spec::wire::Part;

use crate::aggregate::Running;
use crate::algorithm::Expectation;
use crate::keyed::{self, Keyed};

/// The open windows of a metric, by their start.
pub(super) type OpenWindows = BTreeMap<EventTime, Open>;

/// An open window.
#[derive(Debug)]
pub(super) struct Open {
    /// Offset of its first part.
    pub(super) first: Offset,
    pub(super) keys: Keyed<SourceValues>,
}

/// What the sources say of one key in one window.
#[derive(Debug, Default)]
pub(super) struct SourceValues {
    sources: Vec<SourceValue>,
    /// Whether it changed since its running value was last sent.
    pub(super) changed: bool,
    /// Whether it changed since detectors of the algorithm `crowd` last looked at it.
    pub(super) pending: bool,
    /// What each detector expects, once that is known; it does not change while the window is open.
    pub(super) expectations: Option<Box<[Option<Expectation>]>>,
}

#[derive(Debug)]
struct SourceValue {
    source: Partition,
    /// Values of one source with different `since` are of different events.
    since: Offset,
    version: Offset,
    value: Running,
}

impl SourceValues {
    /// Takes a part's value in; false if a newer one is there.
    fn take(&mut self, part: &Part<'_>, value: Running) -> bool {
        let same = |known: &&mut SourceValue| (known.source, known.since) == (part.source, part.since);
        match self.sources.iter_mut().find(same) {
            Some(known) if known.version > part.version => return false,
            Some(known) => (known.version, known.value) = (part.version, value),
            None => {
                self.sources.reserve_exact(1);
                let Part { source, since, version, .. } = *part;
                self.sources.push(SourceValue { source, since, version, value });
            }
        }
        self.changed = true;
        true
    }

    /// The values of all sources, added up.
    pub(super) fn total(&self) -> Running {
        let mut total = Running::default();
        self.sources.iter().for_each(|source| total.merge(&source.value));
        total
    }
}

/// Takes the part at `offset` in, and returns the values of its key; none if a newer part of its source is there.
pub(super) fn take<'w>(
    windows: &'w mut OpenWindows,
    offset: Offset,
    part: &Part<'_>,
    value: Running,
) -> Option<&'w mut SourceValues> {
    let open = windows.entry(part.start).or_insert_with(|| Open { first: offset, keys: Keyed::default() });
    let values = keyed::at(&mut open.keys, &part.key, SourceValues::default);
    values.take(part, value).then_some(values)
}
