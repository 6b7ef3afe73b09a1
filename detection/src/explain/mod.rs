//! What the events of an alert have in common that usual events do not.
//!
//! Two mixes of events, each a sample with the values of a few fields, are compared: those of the alert, and usual ones of the same
//! key or of the same metric.

mod causes;
mod mix;
mod users;

pub use causes::{Cause, causes};
pub use mix::Mix;
pub use users::{Few, Users};

/// Of a share `q` above the usual share `p`, in nats; 0 for one that is not above it.
fn relative_entropy(q: f64, p: f64) -> f64 {
    if q <= p {
        return 0.0;
    }
    let rest = if q < 1.0 { (1.0 - q) * ((1.0 - q) / (1.0 - p)).ln() } else { 0.0 };
    q * (q / p).ln() + rest
}

#[cfg(test)]
mod tests;
