//! Which alerts follow from the closed windows, worked out anew by code that shares nothing with the detectors but the plan.
//! Slow: each window is held against the list of all windows before it. The simulation and the real faults are both checked
//! by it.
//!
//! | file | what it is |
//! |---|---|
//! | `alerts` | detectors that look at one key alone, by the definitions in docs/detectors.md |
//! | `crowd` | detectors of the algorithm `crowd`, which look at all keys of a partition and the traffic of the whole metric |
//! | `total` | the same detectors, where the traffic of the whole metric is what they alert about |
//! | `model` | what `crowd` takes for usual; `tail` how rare a value is by that |
//! | `compare` | where alerts differ from those that follow |

mod alerts;
mod compare;
mod crowd;
mod model;
mod tail;
mod total;

pub(crate) use alerts::Metric;
pub(crate) use compare::{Difference, Found};
pub(crate) use crowd::Traffic;
