//! How JSON becomes events.

use std::time::Duration;

use jsonschema::paths::LocationSegment;
use serde::{Deserialize, Serialize};

use crate::pipeline::{EventsSpec, MappingSpec};
use crate::problem::{Invalid, SpecPath};
use crate::wire::FieldPath;

/// How JSON becomes events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventsPlan {
    /// Dotted paths in the JSON that was sent, first present counts; each split at its dots.
    pub mapping: MappingPlan,
    /// Accepted types; empty: all.
    pub types: Vec<String>,
    /// The JSON Schema events must satisfy as they came; it compiles.
    pub schema: Option<serde_json::Value>,
    /// The field that decides the partition.
    pub key: FieldPath,
    /// See [`crate::pipeline::EventsSpec::max_lateness`].
    pub max_lateness: Duration,
    /// See [`crate::pipeline::EventsSpec::max_clock_skew`].
    pub max_clock_skew: Duration,
    /// See [`crate::pipeline::EventsSpec::max_age`]; none: without a bound.
    #[serde(default)]
    pub max_age: Option<Duration>,
}

/// Where the parts of an event are in the JSON that was sent: alternatives, each a path of object keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MappingPlan {
    /// The event's identity.
    pub id: Vec<Vec<String>>,
    /// What was done.
    #[serde(rename = "type")]
    pub event_type: Vec<Vec<String>>,
    /// Who did it.
    pub user: Vec<Vec<String>>,
    /// To what.
    pub item: Vec<Vec<String>>,
    /// When.
    pub time: Vec<Vec<String>>,
}

impl EventsPlan {
    pub(super) fn parse(spec: &EventsSpec, at: &SpecPath<'_>) -> Result<Self, Invalid> {
        let mapping = MappingPlan::parse(&spec.mapping, &at.child("mapping"));
        let types = at.child("types").each(&spec.types, |name, at| {
            at.require(!name.is_empty(), "is empty: write the name of a type, or remove it")?;
            Ok(name.clone())
        });
        let key = at.child("key").event_field(&spec.key);
        let up_to = |name: &str, written, seconds| {
            at.child(name).between(written, Duration::ZERO, Duration::from_secs(seconds))
        };
        let max_lateness = up_to("maxLateness", spec.max_lateness, 600);
        let max_clock_skew = up_to("maxClockSkew", spec.max_clock_skew, 3600);
        let max_age = max_age(spec, &at.child("maxAge"));
        let schema = at.optional("schema", spec.schema.as_ref(), schema);
        Ok(Self {
            mapping: mapping?,
            types: types?,
            schema: schema?,
            key: key?,
            max_lateness: max_lateness?,
            max_clock_skew: max_clock_skew?,
            max_age: max_age?,
        })
    }
}

impl MappingPlan {
    fn parse(spec: &MappingSpec, at: &SpecPath<'_>) -> Result<Self, Invalid> {
        let paths = |name: &str, paths: &[String]| at.child(name).each(paths, json_path);
        let some = at.child("type").require(
            !spec.event_type.is_empty(),
            "is empty: an event needs a type, so name the field that holds it",
        );
        let id = paths("id", &spec.id);
        let event_type = paths("type", &spec.event_type);
        let user = paths("user", &spec.user);
        let item = paths("item", &spec.item);
        let time = paths("time", &spec.time);
        some?;
        Ok(Self { id: id?, event_type: event_type?, user: user?, item: item?, time: time? })
    }
}

fn json_path(written: &String, at: &SpecPath<'_>) -> Result<Vec<String>, Invalid> {
    let names: Vec<String> = written.split('.').map(str::to_owned).collect();
    at.require(
        !names.iter().any(String::is_empty),
        format!("`{written}` is not a path: write names joined by single dots, e.g. `context.user.id`"),
    )?;
    Ok(names)
}

fn max_age(spec: &EventsSpec, at: &SpecPath<'_>) -> Result<Option<Duration>, Invalid> {
    if spec.max_age.0.is_zero() {
        return Ok(None);
    }
    // Less than any lateness would refuse what is merely late.
    let (least, most) = (Duration::from_secs(600), Duration::from_secs(36_500 * 86_400));
    at.between(spec.max_age, least, most).map(Some)
}

fn schema(schema: &serde_json::Value, at: &SpecPath<'_>) -> Result<serde_json::Value, Invalid> {
    let Err(error) = jsonschema::validator_for(schema) else { return Ok(schema.clone()) };
    let mut at = at.clone();
    for segment in error.instance_path() {
        at = match segment {
            LocationSegment::Property(name) => at.child(&name),
            LocationSegment::Index(index) => at.index(index),
        };
    }
    Err(at.invalid(format!("is not a JSON Schema: {error}")))
}
