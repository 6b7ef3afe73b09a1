//! The operator: runs HerdPipelines on Kubernetes.
//!
//! ```text
//!  HerdPipeline, its objects, its Secrets          Kafka
//!        │ watch                                     │ polled every 5 s, topics checked every ten minutes
//!        ▼                                           ▼
//!  reconcile:  plan → Prepared (Secrets, topics, desired objects) → Applied (server-side apply) → Observed → status
//! ```
//!
//! - [`mod@plan`], [`mod@stage`], [`desired`], [`topics::decide()`], [`pod_failures`], [`reason`], [`status`], [`events`]: pure
//!   decisions and builders.
//! - [`dereference`], [`topics`], [`apply`], [`observe`], [`deletion`]: requests to the API server and Kafka.
//! - [`object_cache`]: what the watches reported of objects, so that a pipeline that has not changed is not read again.
//! - [`scaling`]: polls Kafka and pods every few seconds, and decides numbers of replicas.
//! - [`mod@reconcile`] is the order of the steps; [`watch`] triggers it, [`lease`] elects the leader, [`mod@run`] is the program.
//! - [`identity`]: parsed once from a HerdPipeline, and used by everything after that.

pub mod applied;
pub mod apply;
pub mod backoff;
pub mod context;
pub mod deletion;
pub mod dereference;
pub mod desired;
pub mod error;
pub mod event_publisher;
pub mod events;
pub mod field_conflicts;
pub mod groups;
pub mod http;
pub mod identity;
pub mod kind;
pub mod lease;
pub mod metrics;
pub mod object_cache;
pub mod observe;
pub mod pipeline_metrics;
pub mod plan;
pub mod pod_failures;
pub mod prepared;
pub mod reason;
pub mod reconcile;
pub mod run;
pub mod scaling;
pub mod settings;
pub mod stage;
pub mod status;
pub mod tls;
pub mod topic_ownership;
pub mod topics;
pub mod watch;
