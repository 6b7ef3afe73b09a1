//! The stages of a pipeline, and their sizes.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::SinkName;
use crate::pipeline::{FloorSpec, IngressSpec, ResourcesSpec, ScalingSpec, StageSpec};
use crate::problem::{Invalid, SpecPath};
use crate::quantity;
use crate::scale::schedule::{Floor, MAX_FLOORS, ScheduleError};

const DAY: Duration = Duration::from_secs(86_400);

/// A stage of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StageId {
    /// Takes events in over HTTP.
    Collector,
    /// Counts them and watches the counts: fold and judge.
    Detector,
    /// Writes to the store or receiver of this name.
    Sink(SinkName),
    /// Serves REST, WebSocket and the dashboard.
    Api,
}

impl StageId {
    /// Whether it answers requests: such a stage has a Service.
    #[must_use]
    pub fn serves(&self) -> bool {
        matches!(self, Self::Collector | Self::Api)
    }

    /// Whether a paused pipeline stops it.
    #[must_use]
    pub fn pauses(&self) -> bool {
        matches!(self, Self::Detector | Self::Sink(_))
    }
}

/// The component's name: `collector`, `detector`, `sink-<name>`, `api`.
impl fmt::Display for StageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Collector => f.write_str("collector"),
            Self::Detector => f.write_str("detector"),
            Self::Sink(name) => write!(f, "sink-{name}"),
            Self::Api => f.write_str("api"),
        }
    }
}

/// Size of a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StagePlan {
    /// How many run where nothing scales them.
    pub replicas: u32,
    /// How it scales, if it does.
    pub scaling: Option<ScalingPlan>,
    /// What a pod gets.
    pub resources: ResourcesSpec,
}

impl StagePlan {
    pub(super) fn parse(spec: &StageSpec, at: &SpecPath<'_>) -> Result<Self, Invalid> {
        let resources = at.optional("resources", spec.resources.as_ref(), resources);
        let scaling = at.optional("scaling", spec.scaling.as_ref(), ScalingPlan::parse);
        Ok(Self {
            replicas: spec.replicas.unwrap_or(1),
            scaling: scaling?,
            resources: resources?.unwrap_or_default(),
        })
    }
}

/// How a stage scales. Written as the spec that it was parsed from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "ScalingSpec", into = "ScalingSpec")]
pub struct ScalingPlan {
    spec: ScalingSpec,
    floors: Vec<Floor>,
}

impl ScalingPlan {
    /// Its bounds and times, as written.
    #[must_use]
    pub fn spec(&self) -> &ScalingSpec {
        &self.spec
    }

    /// Its scheduled minimums.
    #[must_use]
    pub fn floors(&self) -> &[Floor] {
        &self.floors
    }

    fn parse(spec: &ScalingSpec, at: &SpecPath<'_>) -> Result<Self, Invalid> {
        let order = at.require(
            spec.min <= spec.max,
            format!("`min` ({}) must not be more than `max` ({})", spec.min, spec.max),
        );
        let catch_up = at.child("catchUp").between(spec.catch_up, Duration::from_secs(5), DAY);
        let stabilisation = at.child("stabilisation").between(spec.stabilisation, Duration::ZERO, DAY);
        let floors = at.child("floors");
        let few = floors.require(
            spec.floors.len() <= MAX_FLOORS,
            format!("has {} entries, at most {MAX_FLOORS} are allowed", spec.floors.len()),
        );
        let floors = floors.each(&spec.floors, |written, at| floor(written, spec.max, at));
        order.and(catch_up).and(stabilisation).and(few)?;
        Ok(Self { spec: spec.clone(), floors: floors? })
    }
}

impl TryFrom<ScalingSpec> for ScalingPlan {
    type Error = ScheduleError;

    fn try_from(spec: ScalingSpec) -> Result<Self, ScheduleError> {
        let floors = spec.floors.iter().map(Floor::of).collect::<Result<_, _>>()?;
        Ok(Self { spec, floors })
    }
}

impl From<ScalingPlan> for ScalingSpec {
    fn from(plan: ScalingPlan) -> Self {
        plan.spec
    }
}

fn floor(spec: &FloorSpec, max: u32, at: &SpecPath<'_>) -> Result<Floor, Invalid> {
    let order =
        at.require(spec.min <= max, format!("`min` ({}) must not be more than `max` ({max})", spec.min));
    let lasts = at.child("for").between(spec.lasts, Duration::from_secs(60), DAY);
    let floor = Floor::of(spec).map_err(|error| {
        let field = match error {
            ScheduleError::Zone(_) => "timeZone",
            ScheduleError::Fields(_) | ScheduleError::Field { .. } => "schedule",
        };
        at.child(field).invalid(error.to_string())
    });
    order.and(lasts)?;
    floor
}

fn resources(spec: &ResourcesSpec, at: &SpecPath<'_>) -> Result<ResourcesSpec, Invalid> {
    let mut legal = Ok(());
    for (list, quantities) in [("requests", &spec.requests), ("limits", &spec.limits)] {
        for (name, written) in quantities {
            let at = at.child(list).child(name);
            if !is_resource(name) {
                legal = Err(at.invalid(format!("`{name}` is no resource: write `cpu`, `memory`, `ephemeral-storage`, or e.g. `example.com/gpu`")));
            } else if quantity::read(written).is_none_or(|quantity| quantity < 0.0) {
                legal = Err(at.invalid(format!(
                    "`{written}` is not a quantity: write e.g. `cpu: 250m`, `memory: 512Mi`"
                )));
            }
        }
    }
    for (name, request) in &spec.requests {
        let Some(limit) = spec.limits.get(name) else { continue };
        if let (Some(asked), Some(most)) = (quantity::read(request), quantity::read(limit))
            && asked > most
        {
            legal = Err(at.child("requests").child(name).invalid(format!(
                "`{request}` is more than its limit `{limit}`: lower it, or raise the limit"
            )));
        }
    }
    legal?;
    Ok(spec.clone())
}

fn is_resource(name: &str) -> bool {
    let qualified = |(domain, name): (&str, &str)| {
        let in_domain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-');
        let in_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        !domain.is_empty() && domain.chars().all(in_domain) && !name.is_empty() && name.chars().all(in_name)
    };
    matches!(name, "cpu" | "memory" | "ephemeral-storage")
        || name.starts_with("hugepages-")
        || name.split_once('/').is_some_and(qualified)
}

/// An Ingress that can be made. The plan does not hold it: only the operator, which has the spec, makes one.
pub(super) fn is_ingress(ingress: &IngressSpec, at: &SpecPath<'_>) -> Result<(), Invalid> {
    let host = ingress.host.strip_prefix("*.").unwrap_or(&ingress.host);
    let label = |label: &str| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !label.is_empty() && label.chars().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    let host = at.child("host").require(
        host.split('.').all(label),
        format!("`{host}` is not a host: write lower-case letters, digits, `-` and dots, e.g. `events.shop.example`"),
    );
    let path = at.child("path").require(
        ingress.path.starts_with('/'),
        format!("`{}` is not a path: begin it with `/`", ingress.path),
    );
    host.and(path)
}
