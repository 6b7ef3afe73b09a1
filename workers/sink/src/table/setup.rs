//! What a table sink is about.

use std::time::Duration;

use herd_stage::Stage;
use herd_store::Table;
use tokio::runtime::Handle;

/// When a batch is full.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// With so many rows.
    pub rows: usize,
    /// So long after its first record came.
    pub max_wait: Duration,
}

/// What a table sink is about.
#[derive(Clone)]
pub struct TableSinkSetup {
    /// The sink's name.
    pub sink: String,
    /// The topic it reads.
    pub topic: String,
    /// Where refused records go.
    pub dead_letter: String,
    /// The table it fills.
    pub table: Table,
    /// Its group.
    pub group: String,
    /// Its name in the group.
    pub member: String,
    /// When a batch is full.
    pub limits: Limits,
    /// What its readiness is called.
    pub condition: &'static str,
    /// Its surroundings.
    pub stage: Stage,
    /// Where the store's futures run.
    pub runtime: Handle,
}
