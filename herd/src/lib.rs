//! The command line: run, check and drive a pipeline. Each command is a module; what they share is [`load`] (sending to a
//! collector) and [`shoppers`] (what generated people do). No pipeline logic lives here: `up` starts the same stages that run
//! in the worker image.

pub mod generate;
pub mod load;
pub mod output;
pub mod replay;
pub mod shoppers;
