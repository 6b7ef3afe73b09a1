//! The sink stage from topic to store and endpoint, on a bus in memory.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bus;
mod database;
mod disk;
mod quiet;
mod scene;
mod webhook;
