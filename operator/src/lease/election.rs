//! Decides whether a candidate may acquire a lease. Pure.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;

/// The content of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// The identity of its holder; none if it was released.
    pub(super) holder: Option<String>,
    /// How long it is valid after its last renewal.
    pub(super) duration: Duration,
}

impl Record {
    pub(super) fn of(lease: &Lease) -> Self {
        let spec = lease.spec.clone().unwrap_or_default();
        let seconds =
            spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0);
        Self {
            holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
            duration: Duration::from_secs(seconds),
        }
    }
}

/// Whether a candidate may acquire a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Election {
    /// It may acquire the lease.
    Acquire,
    /// Another holds the lease.
    Wait,
}

/// Whether the candidate `me` may acquire a lease that has not changed for `unchanged`.
pub(super) fn elect(record: &Record, me: &str, unchanged: Duration) -> Election {
    match &record.holder {
        None => Election::Acquire,
        // This process before a restart.
        Some(holder) if holder == me => Election::Acquire,
        Some(_) if unchanged >= record.duration => Election::Acquire,
        Some(_) => Election::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::released(None, 0, Election::Acquire)]
    #[case::own_before_a_restart(Some("me"), 0, Election::Acquire)]
    #[case::valid(Some("other"), 9, Election::Wait)]
    #[case::expired(Some("other"), 10, Election::Acquire)]
    fn lease_is_acquired_when_released_own_or_expired(
        #[case] holder: Option<&str>,
        #[case] unchanged: u64,
        #[case] expected: Election,
    ) {
        let record = Record { holder: holder.map(str::to_owned), duration: Duration::from_secs(10) };
        assert_eq!(elect(&record, "me", Duration::from_secs(unchanged)), expected);
    }
}
