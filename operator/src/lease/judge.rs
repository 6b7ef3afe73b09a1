//! Whether a lease may be taken. Pure.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;

/// What a lease says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Who holds it; none: nobody.
    pub(super) holder: Option<String>,
    /// How long it lasts from the last word of its holder.
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

/// What to do about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is ours to take.
    Take,
    /// It is another's.
    Wait,
}

/// Whether `me` may take a lease that has not changed for `unchanged`.
pub(super) fn judge(record: &Record, me: &str, unchanged: Duration) -> Verdict {
    match &record.holder {
        None => Verdict::Take,
        // A process of this name was here before: it is us, started again.
        Some(holder) if holder == me => Verdict::Take,
        Some(_) if unchanged >= record.duration => Verdict::Take,
        Some(_) => Verdict::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::nobody_holds_it(None, 0, Verdict::Take)]
    #[case::we_held_it_before_a_restart(Some("me"), 0, Verdict::Take)]
    #[case::its_holder_was_heard(Some("other"), 9, Verdict::Wait)]
    #[case::its_holder_is_silent(Some("other"), 10, Verdict::Take)]
    fn a_lease_is_taken_when_it_is_free(
        #[case] holder: Option<&str>,
        #[case] unchanged: u64,
        #[case] verdict: Verdict,
    ) {
        let record = Record { holder: holder.map(str::to_owned), duration: Duration::from_secs(10) };
        assert_eq!(judge(&record, "me", Duration::from_secs(unchanged)), verdict);
    }
}
