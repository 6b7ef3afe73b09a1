//! Leader election: only the operator that holds the Lease writes. It renews the Lease; if it cannot, it stops before another may acquire
//! it. By hand, because the operator must stop before its lease expires and release it only after reconciles in progress.

mod election;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use election::{Election, Record, elect};

/// How long the lease is valid after a renewal.
const DURATION: Duration = Duration::from_secs(10);
/// Interval of renewals, and of attempts to acquire.
const PERIOD: Duration = Duration::from_secs(2);
/// Time without a renewal after which the holder stops: shorter than the lease is valid.
const RENEW_DEADLINE: Duration = Duration::from_secs(7);
/// Timeout of a request to the API server.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// An operator that wants to lead.
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    me: String,
    /// The resource version of the lease, and since when it is unchanged, by the local clock: clocks of machines differ.
    last_change: Option<(String, Instant)>,
}

/// The lease, held by this process.
pub struct HeldLease {
    candidate: Candidate,
    lease: Lease,
    /// When the last successful renewal was sent.
    renewed: Instant,
}

impl Candidate {
    /// A candidate with the identity `me` for the lease `namespace/name`.
    #[must_use]
    pub fn new(client: &Client, namespace: &str, name: &str, me: &str) -> Self {
        let api = Api::namespaced(client.clone(), namespace);
        Self { api, name: name.into(), me: me.into(), last_change: None }
    }

    /// Acquires the lease, waiting as long as it takes; none after `stop`. Calls `reached` after each request: whether the API server
    /// answered.
    pub async fn acquire(mut self, stop: &CancellationToken, reached: impl Fn(bool)) -> Option<HeldLease> {
        loop {
            let sent = Instant::now();
            let attempt = self.attempt();
            let result = timeout(REQUEST_TIMEOUT, attempt).await;
            reached(matches!(result, Ok(Ok(_))));
            match result {
                Ok(Ok(Some(lease))) => {
                    info!(identity = self.me, lease = self.name, "leading");
                    return Some(HeldLease { candidate: self, lease, renewed: sent });
                }
                Ok(Ok(None)) => {}
                Ok(Err(error)) => warn!(%error, lease = self.name, "acquiring the lease failed, retrying"),
                Err(_) => warn!(
                    lease = self.name,
                    "acquiring the lease failed, retrying: the API server does not answer"
                ),
            }
            tokio::select! {
                () = stop.cancelled() => return None,
                () = sleep(PERIOD) => {}
            }
        }
    }

    async fn attempt(&mut self) -> Result<Option<Lease>, kube::Error> {
        let Some(lease) = self.api.get_opt(&self.name).await? else {
            let lease = self.claimed(Lease::default());
            return acquired(self.api.create(&PostParams::default(), &lease).await);
        };
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let since = match &self.last_change {
            Some((last, since)) if *last == version => *since,
            _ => Instant::now(),
        };
        self.last_change = Some((version, since));
        let record = Record::of(&lease);
        match elect(&record, &self.me, since.elapsed()) {
            Election::Wait => {
                debug!(holder = record.holder, "another operator leads");
                Ok(None)
            }
            Election::Acquire => {
                let lease = self.claimed(lease);
                acquired(self.api.replace(&self.name, &PostParams::default(), &lease).await)
            }
        }
    }

    /// The lease with this process as holder. Its resourceVersion is kept, so that of two candidates one gets a conflict.
    fn claimed(&self, lease: Lease) -> Lease {
        let now = MicroTime(Timestamp::now());
        let before = lease.spec.unwrap_or_default();
        let was_own = before.holder_identity.as_deref() == Some(&self.me);
        let spec = LeaseSpec {
            holder_identity: Some(self.me.clone()),
            lease_duration_seconds: Some(i32::try_from(DURATION.as_secs()).unwrap_or(i32::MAX)),
            acquire_time: before.acquire_time.filter(|_| was_own).or(Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(before.lease_transitions.unwrap_or(-1) + i32::from(!was_own)),
            ..LeaseSpec::default()
        };
        let metadata = ObjectMeta { name: Some(self.name.clone()), ..lease.metadata };
        Lease { metadata, spec: Some(spec) }
    }
}

/// The lease, if the write succeeded; none after a conflict: another candidate was faster.
fn acquired(result: Result<Lease, kube::Error>) -> Result<Option<Lease>, kube::Error> {
    match result {
        Ok(lease) => Ok(Some(lease)),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
        Err(error) => Err(error),
    }
}

impl HeldLease {
    /// Renews the lease until `stop`, or until it is lost. True: it is still held.
    pub async fn keep(&mut self, stop: &CancellationToken) -> bool {
        loop {
            tokio::select! {
                () = stop.cancelled() => return true,
                () = sleep(PERIOD) => {}
            }
            let (api, name) = (self.candidate.api.clone(), self.candidate.name.clone());
            let name = &*name;
            let lease = self.candidate.claimed(self.lease.clone());
            // Measured from sending: other candidates measure from the write, which is later.
            let (sent, last) = (Instant::now(), self.renewed + RENEW_DEADLINE);
            let params = PostParams::default();
            let answer = timeout_at(last.min(sent + REQUEST_TIMEOUT), api.replace(name, &params, &lease));
            match answer.await {
                Ok(Ok(lease)) => {
                    self.lease = lease;
                    self.renewed = sent;
                }
                Ok(Err(kube::Error::Api(status))) if status.code == 409 => {
                    if !self.is_held(last).await {
                        warn!(lease = name, "lease lost: another operator holds it");
                        return false;
                    }
                }
                Ok(Err(error)) => warn!(%error, "renewing the lease failed, retrying"),
                Err(_) => warn!("renewing the lease failed, retrying: the API server does not answer"),
            }
            if self.renewed.elapsed() >= RENEW_DEADLINE {
                warn!("lease not renewed for {} s, stopping", RENEW_DEADLINE.as_secs());
                return false;
            }
        }
    }

    /// After a conflict: the answer to a renewal may have been lost, or a person edited the lease.
    async fn is_held(&mut self, last: Instant) -> bool {
        let Candidate { api, name, me, .. } = &self.candidate;
        match timeout_at(last, api.get_opt(name)).await {
            Ok(Ok(Some(lease))) => {
                let own = Record::of(&lease).holder.as_deref() == Some(me);
                self.lease = lease;
                own
            }
            Ok(Ok(None)) => false,
            // Unknown: the next renewal shows it, within the deadline.
            Ok(Err(_)) | Err(_) => true,
        }
    }

    /// Releases the lease, so that another operator need not wait until it expires.
    pub async fn release(self) {
        let Candidate { api, name, .. } = &self.candidate;
        let mut lease = self.candidate.claimed(self.lease.clone());
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
        }
        match timeout(REQUEST_TIMEOUT, api.replace(name, &PostParams::default(), &lease)).await {
            Ok(Ok(_)) => info!(lease = name, "lease released"),
            _ => {
                warn!(
                    lease = name,
                    "releasing the lease failed: another operator acquires it when it expires"
                )
            }
        }
    }
}
