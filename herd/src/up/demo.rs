//! Generated shoppers for a pipeline under `herd up`, with periodic crowds on single products. The first crowd comes after the
//! warmup of the detectors.

use std::sync::Arc;
use std::time::Duration;

use herd_spec::plan::{DetectorPlan, Plan};
use herd_spec::units::EventTime;
use herd_stage::{Clock, Secrets, SystemClock};
use tokio_util::sync::CancellationToken;

use super::crowds::Crowds as CrowdTracker;
use super::stages::Addresses;
use crate::generate::crowd_rate;
use crate::load::{self, Counters, Pace, Report, ScheduledEvent, Target, TargetError};
use crate::output;
use crate::shoppers::{Crowds, Faults, Profile, ProfileKind, Settings, Shape, Shoppers};

/// Number of items: few enough for a short warmup of each.
const ITEMS: u64 = 200;
/// Maximum length of a crowd; never longer than half the time to the next.
const LENGTH: Duration = Duration::from_secs(10);
/// Minimum time between the first crowd and the end of the run, so that its alert is still received.
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
    crowds: CrowdTracker,
}

impl Demo {
    /// Prepares shoppers for this plan.
    ///
    /// # Errors
    /// If the URL of the collector is invalid.
    pub fn new(
        plan: &Plan,
        secrets: &Secrets,
        addresses: &Addresses,
        shopping: &Shopping,
    ) -> Result<Self, TargetError> {
        let &Shopping { rate, seed, crowd_every, length } = shopping;
        // All Secrets were checked before the start.
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
            // Some of the faults of real clients, so that all counters of the summary are used.
            faults: Faults { duplicates: 0.01, invalid: 0.005, disorder: plan.events.max_lateness / 4 },
        };
        Ok(Self { target, settings, crowds: CrowdTracker::new(settings) })
    }

    /// Its crowds.
    #[must_use]
    pub fn crowds(&self) -> CrowdTracker {
        self.crowds.clone()
    }

    /// A description of its load.
    #[must_use]
    pub fn description(&self) -> String {
        let Profile { rate, crowds, .. } = self.settings.profile;
        format!("{rate} events/s from generated shoppers; first crowd after {} s", crowds.first.as_secs())
    }

    /// Sends events until `stop` is cancelled, and returns the report.
    pub async fn run(self, stop: CancellationToken) -> Option<Report> {
        let Self { target, mut settings, crowds } = self;
        settings.start = EventTime(SystemClock.now().0);
        let source = Shoppers::new(settings).map(move |planned| {
            if let Some(key) = crowds.sending(&planned) {
                output::note(&format!("crowd on {key}"));
            }
            Ok(ScheduledEvent { at: planned.at, body: planned.body, kind: planned.kind })
        });
        let pace = Pace { connections: 32, batch: 1, timed: true, attempts: 20 };
        let bar = load::progress(None, true);
        match load::run(source, target, pace, Arc::new(Counters::default()), None, bar, stop).await {
            Ok(report) => Some(report),
            Err(error) => {
                output::note(&format!("the load generator stopped: {error}"));
                None
            }
        }
    }
}

/// A format whose event types the pipeline accepts.
fn shape(plan: &Plan) -> Shape {
    let accepted = &plan.events.types;
    [Shape::Shop, Shape::Anime, Shape::Video, Shape::Journeys]
        .into_iter()
        .find(|shape| shape.types().iter().all(|name| accepted.iter().any(|accepted| accepted == name)))
        .unwrap_or_default()
}

/// Start of the first crowd: after the shortest warmup of the detectors, and early enough before the end.
fn first_crowd(plan: &Plan, length: Option<Duration>) -> Duration {
    let warm = plan.detectors.iter().filter_map(|detector| warm_after(plan, detector)).min();
    let warm = warm.unwrap_or(Duration::from_secs(5));
    match length {
        Some(length) if warm + BEFORE_END > length => length.saturating_sub(BEFORE_END),
        _ => warm,
    }
}

/// Time from the first event until the warmup of a detector is complete, for a key with events in every window.
fn warm_after(plan: &Plan, detector: &DetectorPlan) -> Option<Duration> {
    let metric = plan.metric(&detector.metric)?;
    // Plus the lag of baselines, one window for the first, incomplete one, and one for the phase.
    let windows = detector.algorithm.warmup().saturating_add(plan.baseline_lag(metric)).saturating_add(2);
    Some(metric.window.saturating_mul(windows) + Duration::from_secs(2))
}
