//! Why an alert was raised, from the events themselves: those of the alert are counted by a few of their fields and compared with
//! usual ones.
//!
//! Counting happens apart from fold and judge: an alert is rare, and the events can be read again. [`question`] says which
//! events belong to an alert, [`look`] counts them; neither knows of buses and clocks. [`Explain`] is the member of the group that reads
//! alerts and sends them again with their explanation.

mod episodes;
pub mod look;
pub mod question;
mod summary;
mod worker;

pub use episodes::Episodes;
pub use look::Look;
pub use question::Question;
pub use worker::Explain;
