//! What a partition returns: values and verdicts, baselines to write, and the outcome of reading a record.

use std::borrow::Cow;

use herd_spec::wire::{Alert, Window};

use super::watch::Index;

/// What a partition hands out.
#[allow(clippy::large_enum_variant)] // handed over by value once, never kept; alerts are rare
#[derive(Debug)]
pub enum Output<'a> {
    /// A window's value.
    Window(Window<'a>),
    /// A verdict.
    Alert(Alert),
}

/// A key's memory, on its way to or from the `baselines` topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Saved<'a> {
    /// As it is.
    Kept(Cow<'a, [u8]>),
    /// Forgotten, when the newest closed window was this one.
    Forgotten(Index),
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// It was taken in.
    Taken,
    /// Its window was closed already.
    Late,
    /// It belongs to no metric of this pipeline, or is damaged.
    Unknown,
}
