//! Generated shoppers for the pipeline that runs here, with a crowd on one product now and then: late enough for the
//! detectors to know what is usual.

use std::sync::Arc;
use std::time::Duration;

use herd_spec::plan::{DetectorPlan, Plan};
use herd_spec::units::EventTime;
use herd_stage::{Clock, Secrets, SystemClock};
use tokio_util::sync::CancellationToken;

use super::crowds::Crowds as CrowdBook;
use super::stages::Addresses;
use crate::generate::crowd_rate;
use crate::load::{self, Pace, Parcel, Report, Tally, Target, TargetError};
use crate::output;
use crate::shoppers::{Crowds, Faults, Profile, ProfileKind, Settings, Shape, Shoppers};

/// Items of the demonstration: few enough that each is known to the detectors soon.
const ITEMS: u64 = 200;
/// A crowd stays so long, but no longer than half the time to the next.
const LENGTH: Duration = Duration::from_secs(10);
/// A crowd comes at least so long before the end, so that its alert can still be seen.
const BEFORE_END: Duration = Duration::from_secs(7);

/// What is to be generated.
#[derive(Clone, Copy, Debug)]
pub struct Shopping {
    /// Events a second.
    pub rate: f64,
    /// The same seed gives the same shoppers.
    pub seed: u64,
    /// From one crowd to the next.
    pub crowd_every: Duration,
    /// How long the run will be, if that is known.
    pub length: Option<Duration>,
}

/// The generator.
#[derive(Debug)]
pub struct Demo {
    target: Arc<Target>,
    settings: Settings,
    crowds: CrowdBook,
}

impl Demo {
    /// Prepares shoppers for this plan.
    ///
    /// # Errors
    /// If the collector's address makes no client.
    pub fn new(
        plan: &Plan,
        secrets: &Secrets,
        addresses: &Addresses,
        shopping: &Shopping,
    ) -> Result<Self, TargetError> {
        let &Shopping { rate, seed, crowd_every, length } = shopping;
        // That it can be read was checked before anything started.
        let key = plan.collector.keys.first().and_then(|key| secrets.read(&key.secret).ok());
        let key = key.map(|secret| secret.reveal().to_owned());
        let target = Arc::new(Target::new(&addresses.collector_url(), key, 32)?);
        let crowds = Crowds {
            first: first_crowd(plan, length),
            every: crowd_every,
            length: LENGTH.min(crowd_every / 2),
            rate: crowd_rate(rate),
        };
        let settings = Settings {
            seed,
            start: EventTime(SystemClock.now().0),
            users: 2_000,
            items: ITEMS,
            skew: 1.0,
            profile: Profile { kind: ProfileKind::Flash, crowds, ..Profile::steady(rate) },
            shape: shape(plan),
            // A little of what real trackers do, so that every number of the summary means something.
            faults: Faults { duplicates: 0.01, invalid: 0.005, disorder: plan.events.max_lateness / 4 },
        };
        Ok(Self { target, settings, crowds: CrowdBook::new(settings) })
    }

    /// What is known of its crowds.
    #[must_use]
    pub fn crowds(&self) -> CrowdBook {
        self.crowds.clone()
    }

    /// Its load, in words.
    #[must_use]
    pub fn words(&self) -> String {
        let Profile { rate, crowds, .. } = self.settings.profile;
        format!(
            "{rate} events/s from generated shoppers; the first crowd comes after {} s",
            crowds.first.as_secs()
        )
    }

    /// Sends until `stop`; what it came to.
    pub async fn run(self, stop: CancellationToken) -> Option<Report> {
        let Self { target, mut settings, crowds } = self;
        settings.start = EventTime(SystemClock.now().0);
        let source = Shoppers::new(settings).map(move |planned| {
            if let Some(key) = crowds.sending(&planned) {
                output::note(&format!("crowd  on {key}"));
            }
            Ok(Parcel { at: planned.at, body: planned.body, kind: planned.kind })
        });
        let pace = Pace { connections: 32, batch: 1, timed: true, attempts: 20 };
        let bar = load::progress(None, true);
        match load::run(source, target, pace, Arc::new(Tally::default()), None, bar, stop).await {
            Ok(report) => Some(report),
            Err(error) => {
                output::note(&format!("the generated shoppers gave up: {error}"));
                None
            }
        }
    }
}

/// Events in a shape that the pipeline accepts.
fn shape(plan: &Plan) -> Shape {
    let accepted = &plan.events.types;
    [Shape::Shop, Shape::Anime, Shape::Video, Shape::Journeys]
        .into_iter()
        .find(|shape| shape.types().iter().all(|name| accepted.iter().any(|accepted| accepted == name)))
        .unwrap_or_default()
}

/// When the first crowd comes: once the quickest detector knows what is usual, and in time for the end.
fn first_crowd(plan: &Plan, length: Option<Duration>) -> Duration {
    let warm = plan.detectors.iter().filter_map(|detector| warm_after(plan, detector)).min();
    let warm = warm.unwrap_or(Duration::from_secs(5));
    match length {
        Some(length) if warm + BEFORE_END > length => length.saturating_sub(BEFORE_END),
        _ => warm,
    }
}

/// How long after the first event a detector has seen enough windows of a key that comes in each of them.
fn warm_after(plan: &Plan, detector: &DetectorPlan) -> Option<Duration> {
    let metric = plan.metric(&detector.metric)?;
    // One window for the first, that is not whole, and one for the phase; the lag of baselines comes on top.
    let windows = detector.algorithm.warmup().saturating_add(plan.baseline_lag(metric)).saturating_add(2);
    Some(metric.window.saturating_mul(windows) + Duration::from_secs(2))
}
