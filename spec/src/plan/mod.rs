//! Everything that will run, resolved: names, defaults, numbers. [`Plan::parse`] makes it from a spec or says everything that
//! must be changed, so that executing a plan cannot fail for a reason the spec could have told. The operator writes it into a
//! ConfigMap for the worker images; `herd up` executes the same one in a single process.
//!
//! Each part is parsed where its type stands: a parser takes what was written and its path, and returns what is meant.

mod collector;
mod definition;
mod detector;
mod events;
mod kafka;
mod metric;
mod name;
mod quiet;
mod sink;
mod stage;
mod topics;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use collector::{AddressRange, CollectorPlan, WriteKeyPlan};
pub(crate) use detector::DetectorSettings;
pub use detector::{AlertLimit, Algorithm, DetectorPlan, EXPLAINED, Threshold};
pub use events::{EventsPlan, MappingPlan};
pub use kafka::KafkaPlan;
pub use metric::{ALL_KEY, AggregatePlan, Condition, KEY_ESCAPE, KEY_SEPARATOR, MetricPlan, OTHER_KEY, Test};
pub use name::{DetectorName, MetricName, NameError, PipelineName, SinkName, WriteKeyName};
pub use quiet::{Mute, Quiet, QuietHours, QuietPlan};
pub use sink::*; // a new kind is exported by itself
pub use stage::{ScalingPlan, StageId, StagePlan};
pub use topics::{Groups, Subscription, TopicPlan, Topics, sink_group};

use crate::pipeline::{ApiSpec, HerdPipeline, HerdPipelineSpec, SecretRef, SinkSpec};
use crate::problem::{Invalid, Problems, SpecPath, did_you_mean, listed};
use crate::units::millis;
use crate::wire::FieldPath;

/// A pipeline, ready to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The pipeline's name.
    pub pipeline: PipelineName,
    /// The Kafka to use; none: the embedded bus.
    pub kafka: Option<KafkaPlan>,
    /// Its topics.
    pub topics: Topics,
    /// Its consumer groups.
    pub groups: Groups,
    /// How JSON becomes events.
    pub events: EventsPlan,
    /// The collector stage.
    pub collector: CollectorPlan,
    /// What is counted.
    pub metrics: Vec<MetricPlan>,
    /// What is watched.
    pub detectors: Vec<DetectorPlan>,
    /// The detector stage's size.
    pub detection: StagePlan,
    /// Where things go.
    pub sinks: Vec<SinkPlan>,
    /// The api stage.
    pub api: ApiPlan,
    /// Whether detectors and sinks stand still.
    pub paused: bool,
}

/// The api stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiPlan {
    /// The token that readers must show.
    pub token: Option<SecretRef>,
    /// The sink whose store answers questions about the past; none: there is no store.
    pub store: Option<SinkName>,
    /// Whether crowds may be simulated.
    pub simulate: bool,
    /// Its size.
    pub stage: StagePlan,
}

impl Plan {
    /// The plan of a pipeline: defaults filled in, names resolved.
    ///
    /// # Errors
    /// Everything that must be changed in the spec.
    pub fn parse(pipeline: &HerdPipeline) -> Result<Self, Problems> {
        SpecPath::collect(|root| {
            let metadata = root.child("metadata").child("name");
            let name = match &pipeline.metadata.name {
                Some(name) => PipelineName::parse(name, &metadata),
                None => Err(metadata.invalid("missing: give the pipeline a name")),
            };
            let written = pipeline.metadata.name.as_deref().unwrap_or_default();
            spec(&pipeline.spec, name, written, pipeline.topic_prefix(), &root.child("spec"))
        })
    }

    /// The metric of that name.
    #[must_use]
    pub fn metric(&self, name: &str) -> Option<&MetricPlan> {
        self.metrics.iter().find(|metric| metric.name == *name)
    }

    /// The sink of that name.
    #[must_use]
    pub fn sink(&self, name: &SinkName) -> Option<&SinkPlan> {
        self.sinks.iter().find(|sink| sink.name == *name)
    }

    /// The store that answers questions about the past; none: there is none.
    #[must_use]
    pub fn store(&self) -> Option<&StorePlan> {
        self.sink(self.api.store.as_ref()?)?.store()
    }

    /// The consumer group from whose lag a stage is scaled, and the topics it reads; none: the stage serves requests.
    ///
    /// A detector is scaled from what waits for fold. What waits for judge is made by fold: a watermark for each partition every
    /// emit interval, also when no event comes, so by that a stage would never be idle.
    #[must_use]
    pub fn subscription(&self, stage: &StageId) -> Option<Subscription<'_>> {
        match stage {
            StageId::Collector | StageId::Api => None,
            StageId::Detector => {
                Some(Subscription { group: &self.groups.fold, topics: vec![&self.topics.events] })
            }
            StageId::Sink(name) => self.sink(name).map(|sink| sink.subscription(&self.topics)),
        }
    }

    /// The Secrets that a stage reads.
    #[must_use]
    pub fn stage_secrets(&self, stage: &StageId) -> Vec<&SecretRef> {
        let mut secrets: Vec<&SecretRef> = self.kafka.iter().flat_map(KafkaPlan::secrets).collect();
        match stage {
            StageId::Collector => secrets.extend(self.collector.keys.iter().map(|key| &key.secret)),
            StageId::Detector => {}
            StageId::Sink(name) => secrets.extend(self.sink(name).into_iter().flat_map(SinkPlan::secrets)),
            StageId::Api => {
                secrets.extend(self.store().and_then(StorePlan::secret));
                // A crowd is simulated by way of the collector, which asks for a key.
                let key = self.collector.keys.first().filter(|_| self.api.simulate);
                secrets.extend(key.map(|key| &key.secret));
                secrets.extend(&self.api.token);
            }
        }
        secrets
    }

    /// The Secrets of all stages, in the order of the spec.
    #[must_use]
    pub fn secrets(&self) -> Vec<&SecretRef> {
        let kafka = self.kafka.iter().flat_map(KafkaPlan::secrets);
        let keys = self.collector.keys.iter().map(|key| &key.secret);
        let sinks = self.sinks.iter().flat_map(SinkPlan::secrets);
        kafka.chain(keys).chain(sinks).chain(&self.api.token).collect()
    }

    /// How often fold emits: the shortest emit interval of any metric, one second if there is none.
    #[must_use]
    pub fn emit_interval(&self) -> Duration {
        self.metrics.iter().map(|metric| metric.emit).min().unwrap_or(Duration::from_secs(1))
    }

    /// The lag of baselines, in windows of `metric`: window `w` is scored against the baseline after `w − L`.
    ///
    /// `L = 1 + ⌈(maxLateness + 2·emit) / size⌉`: by the time a window has its first events, the one `L` before it is
    /// closed (its sources have passed it by `maxLateness`, and have had two emit intervals to say so), whatever the
    /// phase. Hence an open window can be scored from its first moment, with the same result as when it closes.
    #[must_use]
    pub fn baseline_lag(&self, metric: &MetricPlan) -> u32 {
        let wait = millis(self.events.max_lateness) + 2 * millis(self.emit_interval());
        let size = millis(metric.window).max(1);
        u32::try_from(wait.unsigned_abs().div_ceil(size.unsigned_abs()))
            .unwrap_or(u32::MAX - 1)
            .saturating_add(1)
    }
}

/// The spec of the pipeline `written`, whose topics begin with `prefix`. All parts are parsed before any error is returned.
fn spec(
    spec: &HerdPipelineSpec,
    name: Result<PipelineName, Invalid>,
    written: &str,
    prefix: &str,
    at: &SpecPath<'_>,
) -> Result<Plan, Invalid> {
    let kafka = at.optional("kafka", spec.kafka.as_ref(), KafkaPlan::parse);
    let topics = Topics::parse(spec.kafka.as_ref(), prefix, &at.child("kafka"));
    let events = EventsPlan::parse(&spec.events, &at.child("events"));
    let collector = CollectorPlan::parse(&spec.collector, &at.child("collector"));

    let list = at.child("metrics");
    let unique_metrics = name::unique(spec.metrics.iter().map(|metric| metric.name.as_str()), &list);
    let metric = |(index, metric)| MetricPlan::parse(metric, &list.index(index));
    let metrics: Vec<_> = spec.metrics.iter().enumerate().map(metric).collect();
    let known = detector::Metrics { written: &spec.metrics, parsed: &metrics };

    let list = at.child("detectors");
    let unique_detectors = name::unique(spec.detectors.iter().map(|detector| detector.name.as_str()), &list);
    let detectors = list.each(&spec.detectors, |detector, at| DetectorPlan::parse(detector, known, at));
    let detection = StagePlan::parse(&spec.detection, &at.child("detection"));

    let quiet = QuietPlan::of_detectors(&spec.detectors, &list);

    let list = at.child("sinks");
    let unique_sinks = name::unique(spec.sinks.iter().map(|sink| sink.name.as_str()), &list);
    let quiet_times = quiet.as_ref().cloned().unwrap_or_default();
    let sinks = list.each(&spec.sinks, |sink, at| SinkPlan::parse(sink, written, prefix, &quiet_times, at));
    let api = ApiPlan::parse(&spec.api, &spec.sinks, &at.child("api"));

    let detectors: Result<Vec<DetectorPlan>, Invalid> = detectors;
    let mut metrics = metrics.into_iter().collect::<Result<Vec<_>, _>>();
    if let (Ok(metrics), Ok(detectors)) = (&mut metrics, &detectors) {
        let counts_users = |name: &MetricName| {
            detectors.iter().any(|detector| detector.metric == *name && detector.min_users > 0)
        };
        for metric in metrics {
            let has_them = metric.aggregate == AggregatePlan::Unique(FieldPath::UserId);
            metric.users = !has_them && counts_users(&metric.name);
        }
    }

    unique_metrics.and(unique_detectors).and(unique_sinks).and(quiet.map(drop))?;
    Ok(Plan {
        pipeline: name?,
        kafka: kafka?,
        topics: topics?,
        groups: Groups::of(prefix),
        events: events?,
        collector: collector?,
        metrics: metrics?,
        detectors: detectors?,
        detection: detection?,
        sinks: sinks?,
        api: api?,
        paused: spec.paused,
    })
}

impl ApiPlan {
    fn parse(spec: &ApiSpec, sinks: &[SinkSpec], at: &SpecPath<'_>) -> Result<Self, Invalid> {
        let stage = StagePlan::parse(&spec.stage, &at.child("stage"));
        let unscaled = at.child("stage").child("scaling").require(
            spec.stage.scaling.is_none(),
            "the api has no consumer lag to scale by: remove `scaling` and set `replicas`",
        );
        let ingress = at.optional("ingress", spec.ingress.as_ref(), stage::is_ingress);
        let store = Self::store(spec, sinks, &at.child("store"));
        unscaled.and(ingress)?;
        Ok(Self { token: spec.token.clone(), store: store?, simulate: spec.simulate, stage: stage? })
    }

    /// The store that was named, or else the first there is.
    fn store(spec: &ApiSpec, sinks: &[SinkSpec], at: &SpecPath<'_>) -> Result<Option<SinkName>, Invalid> {
        let stores = || {
            let stores = sinks.iter().filter(|sink| sink.postgres.is_some() || sink.sqlite.is_some());
            stores.map(|sink| sink.name.as_str())
        };
        match &spec.store {
            Some(name) if stores().any(|store| store == name) => SinkName::parse(name, at).map(Some),
            Some(name) => {
                let (hint, known) = (did_you_mean(name, stores()), listed(stores()));
                Err(at.invalid(format!(
                    "`{name}` is not the name of a postgres or sqlite sink{hint} (there is {known})"
                )))
            }
            // A name that is none was reported with its sink.
            None => Ok(stores().next().and_then(|name| name.parse().ok())),
        }
    }
}

#[cfg(test)]
mod tests;
