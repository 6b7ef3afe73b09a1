//! The collector over real sockets, on the embedded bus: what it answers, and what is in the topics afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod accepting;
mod access;
mod shutdown;
#[path = "../support/mod.rs"]
mod support;
