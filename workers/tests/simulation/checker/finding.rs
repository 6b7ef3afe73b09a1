//! What is wrong with a run.

use std::fmt;

/// How much history a finding shows.
pub(super) const HISTORY: usize = 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A client was told that it is taken, and it is nowhere.
    LostWrite,
    /// Something counts or is stored more than once.
    Duplicate,
    /// Something accepted never showed in what should come of it.
    Unseen,
    /// Something nobody sent, or that does not follow from what was sent.
    Invented,
    /// The same thing was said to be this and to be that.
    Inconsistent,
    /// A position moved from where it did not stand.
    InconsistentOffset,
    /// A member stopped though nothing went wrong.
    Stopped,
}

#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) kind: Kind,
    what: String,
    history: Vec<String>,
}

impl Finding {
    pub(crate) fn new(kind: Kind, what: String, history: Vec<String>) -> Self {
        Self { kind, what, history }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.what)?;
        self.history.iter().take(HISTORY).try_for_each(|line| write!(f, "\n      {line}"))
    }
}
