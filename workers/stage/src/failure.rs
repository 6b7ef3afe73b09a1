//! What stops a stage, and whether starting it again helps.

use std::fmt::Display;

use herd_spec::health::Trouble;

/// Whether what failed may work when it is done again. A property of the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// A moment later: whatever is away comes back by itself.
    Soon,
    /// Once a person has repaired something that can be repaired while the process runs: a table, a permission, a Secret.
    AfterRepair,
    /// Never: it follows from the plan, which stays as it is while the process runs.
    Never,
}

/// An error that stops a stage.
pub trait StageError: Display {
    /// Whether to start it again.
    fn retry(&self) -> Retry;

    /// What kind of trouble it is, for the stage's report of its health.
    fn trouble(&self) -> Trouble;
}
