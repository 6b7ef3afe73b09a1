//! Types and pure functions shared by `herd up` and the operator: no clock, no network, no randomness.
//!
//! - [`change`]: what differs between two versions of a pipeline, and what that means while it runs.
//! - [`pipeline`]: the `HerdPipeline` a person writes (the CRD's types).
//! - [`mod@crd`]: its custom resource definition, with the rules that the API server holds it to.
//! - [`document`]: from YAML to those types, or to problems that say what to change.
//! - [`plan`]: everything that will run, resolved: the operator and `herd up` execute the same plan.
//! - [`problem`]: what must be changed in a spec, and where.
//! - [`quantity`]: quantities of Kubernetes, as numbers.
//! - [`mod@reference`]: the pages that are made from those types.
//! - [`scale`]: how many replicas a stage should have, and why.
//! - [`wire`]: the records that travel between stages.
//! - [`health`]: the health report of a stage.
//! - [`openmetrics`]: parsing of OpenMetrics text.
//! - [`units`]: offsets, partitions, times; no bare integer crosses a border between rooms.

pub mod change;
pub mod crd;
pub mod document;
pub mod health;
pub mod openmetrics;
pub mod pipeline;
pub mod plan;
pub mod problem;
pub mod quantity;
pub mod reference;
pub mod scale;
pub mod units;

pub mod wire;
