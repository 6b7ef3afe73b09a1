//! A pipeline with another value in one field of its detectors.

use herd_spec::pipeline::HerdPipeline;
use herd_spec::plan::Plan;
use herd_spec::problem::Problem;
use serde_json::{Map, Value};

/// Limits of detectors that are `crowd` or `level`, as they are without an `algorithm`. Only one of them may be set.
const LIMITS: [&str; 2] = ["budget", "probability"];
/// Fields under `alerts` that every detector has; the detector's own of the same name is their old place.
const OF_ALL: [&str; 3] = ["minCount", "direction", "cooldown"];

/// Why a field cannot be varied.
#[derive(Debug, thiserror::Error)]
pub enum VaryError {
    /// No detector has the field.
    #[error("no detector of `{pipeline}` has the field `{field}`; their fields are {known}")]
    NoField {
        /// The pipeline.
        pipeline: String,
        /// The field.
        field: String,
        /// The fields that at least one detector has.
        known: String,
    },
    /// The pipeline with this value is invalid.
    #[error("`{field}={value}`: {}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid {
        /// The field.
        field: String,
        /// The value.
        value: String,
        /// The problems.
        problems: Vec<Problem>,
    },
    /// The value does not have the type of the field.
    #[error("`{value}` is not a value of `{field}`: {source}")]
    Value {
        /// The field.
        field: String,
        /// The value.
        value: String,
        /// The cause.
        source: serde_json::Error,
    },
}

/// The plan of `pipeline` with `value` in the field `field` of all detectors that have it. The field may be the detector's own
/// (`minCount`), or one of its algorithm or of its `alerts` (`sigmas`, `probability`, `budget`). A number as `budget` is per day.
///
/// # Errors
/// If no detector has the field, or the result is invalid.
pub fn vary(pipeline: &HerdPipeline, field: &str, value: &str) -> Result<Plan, VaryError> {
    let wrong = |source| VaryError::Value { field: field.to_owned(), value: value.to_owned(), source };
    let mut changed = pipeline.clone();
    let mut known = Vec::new();
    let mut found = false;
    for detector in &mut changed.spec.detectors {
        let mut written = serde_json::to_value(&*detector).map_err(wrong)?;
        let Some(fields) = written.as_object_mut() else { continue };
        let has_bound = fields.get("algorithm").and_then(Value::as_object).is_some_and(|algorithm| {
            algorithm.iter().any(|(name, of)| !of.is_null() && name != "crowd" && name != "level")
        });
        let is_limit = LIMITS.contains(&field) && !has_bound;
        if is_limit || OF_ALL.contains(&field) {
            if !is_limit {
                fields.remove(field);
            }
            let alerts = fields.entry("alerts").or_insert_with(|| Value::Object(Map::new()));
            if let Some(alerts) = alerts.as_object_mut() {
                if is_limit {
                    LIMITS.iter().for_each(|limit| _ = alerts.remove(*limit));
                }
                alerts.insert(field.to_owned(), parsed(field, value));
                found = true;
            }
        } else {
            found |= set(fields, field, value);
        }
        names(fields, &mut known);
        *detector = serde_json::from_value(written).map_err(wrong)?;
    }
    if !found {
        known.extend(OF_ALL.map(str::to_owned));
        known.sort_unstable();
        known.dedup();
        return Err(VaryError::NoField {
            pipeline: pipeline.metadata.name.clone().unwrap_or_default(),
            field: field.to_owned(),
            known: known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
        });
    }
    Plan::parse(&changed).map_err(|problems| VaryError::Invalid {
        field: field.to_owned(),
        value: value.to_owned(),
        problems,
    })
}

/// A value as it would be written in YAML: a number, or a text.
fn parsed(field: &str, value: &str) -> Value {
    match (field, value.parse::<f64>()) {
        ("budget", Ok(_)) => Value::String(format!("{value} per day")),
        (_, Ok(_)) => serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned())),
        (_, Err(_)) => Value::String(value.to_owned()),
    }
}

/// Sets a field of an object or of the objects in it; whether there is one.
fn set(fields: &mut Map<String, Value>, field: &str, value: &str) -> bool {
    let mut found = false;
    for (name, known) in fields.iter_mut() {
        if name == field && !known.is_object() {
            *known = parsed(field, value);
            found = true;
        } else if let Some(inner) = known.as_object_mut() {
            found |= set(inner, field, value);
        }
    }
    found
}

/// Names of the fields of an object and of the objects in it that hold a value.
fn names(fields: &Map<String, Value>, known: &mut Vec<String>) {
    for (name, value) in fields {
        match value {
            Value::Object(inner) => names(inner, known),
            Value::Null => {}
            _ => known.push(name.clone()),
        }
    }
    known.retain(|name| name != "name" && name != "metric");
}

#[cfg(test)]
mod tests {
    use super::*;
    use herd_spec::plan::Algorithm;
    use rstest::rstest;

    fn pipeline() -> HerdPipeline {
        herd_spec::document::parse(
            "apiVersion: herd.dev/v1alpha1\nkind: HerdPipeline\nmetadata: {name: shop}\nspec:\n  metrics: [{name: views, window: 10s}]\n  \
             detectors:\n  - {name: rare, metric: views, algorithm: {poisson: {}}}\n  - {name: high, metric: views, algorithm: {zscore: {}}}\n",
        )
        .unwrap()
    }

    #[test]
    fn sets_the_field_of_the_detectors_that_have_it() {
        let plan = vary(&pipeline(), "probability", "1e-6").unwrap();
        assert!(matches!(&plan.detectors[0].algorithm, Algorithm::Poisson(spec) if spec.probability == 1e-6));
        assert_eq!(plan.detectors[1], Plan::parse(&pipeline()).unwrap().detectors[1]);
        let plan = vary(&pipeline(), "minCount", "3").unwrap();
        assert!(plan.detectors.iter().all(|detector| detector.min_count == 3));
    }

    #[rstest]
    #[case("sigma", "3", "no detector of `shop` has the field `sigma`; their fields are")]
    #[case("probability", "2", "must be more than 0 and at most 0.1")]
    #[case("probability", "rare", "`rare` is not a value of `probability`")]
    fn explains_why_a_field_cannot_be_set(#[case] field: &str, #[case] value: &str, #[case] expected: &str) {
        let error = vary(&pipeline(), field, value).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
