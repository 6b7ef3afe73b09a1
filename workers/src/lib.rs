//! What it takes to run stages in a process: the way to Kafka, the store that the api reads, the operational endpoints, the
//! signals. Used by the worker binary (one stage a process) and by `herd up` (all of them in one).

pub mod kafka;
pub mod ops;
pub mod secrets;
pub mod signal;
pub mod store;
pub mod worker;
