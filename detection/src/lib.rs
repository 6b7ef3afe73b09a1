//! How unusual a window is for its key, and what is usual for it: pure functions of the windows that closed, in order.
//!
//! [`crowd`] scores counts, [`level`] values (sums and means), [`total`] the traffic of all keys together; [`explain`] says what the events behind a score have in common.

pub mod crowd;
pub mod explain;
pub mod level;
pub mod total;
