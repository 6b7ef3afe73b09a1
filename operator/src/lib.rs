//! The operator: keeps on Kubernetes what each HerdPipeline asks for.
//!
//! ```text
//!  HerdPipeline, its objects, its Secrets          Kafka
//!        │ watch                                     │ asked every ten minutes
//!        ▼                                           ▼
//!  reconcile:  plan → dereference → topics → desired → apply → observe → status
//!              pure   Secrets       Kafka    pure    pure      SSA     Deployments, pods
//! ```
//!
//! - [`mod@plan`], [`mod@stage`], [`desired`], [`topics::decide()`], [`complaint`], [`reason`], [`status`], [`events`]: pure; what
//!   is meant.
//! - [`dereference`], [`topics`], [`apply`], [`observe`], [`deletion`]: the world.
//! - [`objects`]: what the watches tell of all this, so that a pipeline that is as it is to be is not read again.
//! - [`scaling`]: how many replicas; looks at Kafka every few seconds and decides.
//! - [`mod@reconcile`] is the order of it all; [`watch`] says when, [`lease`] who, [`mod@run`] is the program.

pub mod apply;
pub mod backoff;
pub mod claims;
pub mod complaint;
pub mod contest;
pub mod context;
pub mod deletion;
pub mod dereference;
pub mod desired;
pub mod error;
pub mod events;
pub mod groups;
pub mod http;
pub mod kind;
pub mod lease;
pub mod metrics;
pub mod objects;
pub mod observe;
pub mod plan;
pub mod reason;
pub mod reconcile;
pub mod run;
pub mod scaling;
pub mod settings;
pub mod stage;
pub mod status;
pub mod tell;
pub mod tls;
pub mod topics;
pub mod watch;
