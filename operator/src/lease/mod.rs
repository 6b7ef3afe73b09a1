//! Only one operator writes: the one that holds a Lease. It renews it; when it cannot, it stops before another may take over.

mod judge;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use judge::{Record, Verdict, judge};

/// How long a holder that says nothing keeps the lease.
const DURATION: Duration = Duration::from_secs(10);
/// How often the holder says something, and others look.
const PERIOD: Duration = Duration::from_secs(2);
/// After this long without a renewal the holder stops: sooner than others may take over.
const GIVE_UP: Duration = Duration::from_secs(7);
/// How long the API server may take to answer.
const ANSWER: Duration = Duration::from_secs(3);

/// One who would lead.
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    me: String,
    /// The lease as it was seen last, and since when it is so by our own clock: clocks of machines differ.
    seen: Option<(String, Instant)>,
}

/// The lease, held.
pub struct Held {
    candidate: Candidate,
    lease: Lease,
    /// When the newest write of it was sent.
    renewed: Instant,
}

impl Candidate {
    /// A candidate called `me` for the lease `namespace/name`.
    #[must_use]
    pub fn new(client: &Client, namespace: &str, name: &str, me: &str) -> Self {
        let api = Api::namespaced(client.clone(), namespace);
        Self { api, name: name.into(), me: me.into(), seen: None }
    }

    /// Waits until the lease is ours; none if `stop` comes first. Calls `reached` whenever the API server has answered.
    pub async fn win(mut self, stop: &CancellationToken, reached: impl Fn(bool)) -> Option<Held> {
        loop {
            let sent = Instant::now();
            let attempt = self.attempt();
            let outcome = timeout(ANSWER, attempt).await;
            reached(matches!(outcome, Ok(Ok(_))));
            match outcome {
                Ok(Ok(Some(lease))) => {
                    info!(identity = self.me, lease = self.name, "leading");
                    return Some(Held { candidate: self, lease, renewed: sent });
                }
                Ok(Ok(None)) => {}
                Ok(Err(error)) => warn!(%error, lease = self.name, "the lease cannot be read or taken"),
                Err(_) => warn!(lease = self.name, "the API server does not answer"),
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
            return taken(self.api.create(&PostParams::default(), &lease).await);
        };
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let since = match &self.seen {
            Some((seen, since)) if *seen == version => *since,
            _ => Instant::now(),
        };
        self.seen = Some((version, since));
        let record = Record::of(&lease);
        match judge(&record, &self.me, since.elapsed()) {
            Verdict::Wait => {
                debug!(holder = record.holder, "another leads");
                Ok(None)
            }
            Verdict::Take => {
                let lease = self.claimed(lease);
                taken(self.api.replace(&self.name, &PostParams::default(), &lease).await)
            }
        }
    }

    /// The lease as ours. Its resourceVersion stays: whoever was quicker wins.
    fn claimed(&self, lease: Lease) -> Lease {
        let now = MicroTime(Timestamp::now());
        let before = lease.spec.unwrap_or_default();
        let was_mine = before.holder_identity.as_deref() == Some(&self.me);
        let spec = LeaseSpec {
            holder_identity: Some(self.me.clone()),
            lease_duration_seconds: Some(i32::try_from(DURATION.as_secs()).unwrap_or(i32::MAX)),
            acquire_time: before.acquire_time.filter(|_| was_mine).or(Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(before.lease_transitions.unwrap_or(-1) + i32::from(!was_mine)),
            ..LeaseSpec::default()
        };
        let metadata = ObjectMeta { name: Some(self.name.clone()), ..lease.metadata };
        Lease { metadata, spec: Some(spec) }
    }
}

/// Whether a write was ours: a conflict means that another was quicker.
fn taken(outcome: Result<Lease, kube::Error>) -> Result<Option<Lease>, kube::Error> {
    match outcome {
        Ok(lease) => Ok(Some(lease)),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
        Err(error) => Err(error),
    }
}

impl Held {
    /// Renews the lease until `stop`, or until it is lost. True: it is still ours.
    pub async fn keep(&mut self, stop: &CancellationToken) -> bool {
        loop {
            tokio::select! {
                () = stop.cancelled() => return true,
                () = sleep(PERIOD) => {}
            }
            let (api, name) = (self.candidate.api.clone(), self.candidate.name.clone());
            let name = &*name;
            let lease = self.candidate.claimed(self.lease.clone());
            // Others count from when it is written, which is after it was sent.
            let (sent, last) = (Instant::now(), self.renewed + GIVE_UP);
            let params = PostParams::default();
            let answer = timeout_at(last.min(sent + ANSWER), api.replace(name, &params, &lease));
            match answer.await {
                Ok(Ok(lease)) => {
                    self.lease = lease;
                    self.renewed = sent;
                }
                Ok(Err(kube::Error::Api(status))) if status.code == 409 => {
                    if !self.is_mine(last).await {
                        warn!(lease = name, "the lease is another's now");
                        return false;
                    }
                }
                Ok(Err(error)) => warn!(%error, "the lease cannot be renewed"),
                Err(_) => warn!("the lease cannot be renewed: the API server does not answer"),
            }
            if self.renewed.elapsed() >= GIVE_UP {
                warn!("the lease has not been renewed for {} s: stopping", GIVE_UP.as_secs());
                return false;
            }
        }
    }

    /// After a conflict: an answer to us may have been lost, or somebody has edited the lease.
    async fn is_mine(&mut self, last: Instant) -> bool {
        let Candidate { api, name, me, .. } = &self.candidate;
        match timeout_at(last, api.get_opt(name)).await {
            Ok(Ok(Some(lease))) => {
                let mine = Record::of(&lease).holder.as_deref() == Some(me);
                self.lease = lease;
                mine
            }
            Ok(Ok(None)) => false,
            // Whose it is shows at the next renewal; until then the time runs.
            Ok(Err(_)) | Err(_) => true,
        }
    }

    /// Gives the lease back, so that another need not wait.
    pub async fn release(self) {
        let Candidate { api, name, .. } = &self.candidate;
        let mut lease = self.candidate.claimed(self.lease.clone());
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
        }
        match timeout(ANSWER, api.replace(name, &PostParams::default(), &lease)).await {
            Ok(Ok(_)) => info!(lease = name, "lease given back"),
            _ => {
                warn!(lease = name, "the lease could not be given back: another takes over when it runs out")
            }
        }
    }
}
