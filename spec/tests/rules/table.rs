//! The table of rules, `rules.yaml`: read here, and by the operator's tests on a real API server.

use serde::Deserialize;
use serde_json::{Map, Value};

/// The table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    pub(crate) refused: Vec<Refused>,
    pub(crate) accepted: Vec<Accepted>,
}

/// A spec that is refused. `rules.yaml` explains the fields.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Refused {
    pub(crate) set: Map<String, Value>,
    pub(crate) path: Option<String>,
    pub(crate) parser: Option<String>,
    pub(crate) server: Option<String>,
    pub(crate) accepts: Option<String>,
    pub(crate) only: Option<String>,
}

/// A spec that is accepted, at the edge of a rule.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Accepted {
    pub(crate) set: Map<String, Value>,
}

impl Table {
    pub(crate) fn read() -> Self {
        let table: Self = serde_yaml::from_str(include_str!("rules.yaml")).unwrap();
        for case in &table.refused {
            let set = &case.set;
            assert_eq!(case.path.is_some(), case.parser.is_some(), "{set:?}: `path` goes with `parser`");
            assert_ne!(case.parser.is_some(), case.only.is_some(), "{set:?}: `parser`, or `only`");
            assert_ne!(case.server.is_some(), case.accepts.is_some(), "{set:?}: `server`, or `accepts`");
        }
        table
    }
}

/// The example with these changes.
pub(crate) fn changed(set: &Map<String, Value>) -> Value {
    let example = include_str!("../../../examples/kubernetes/shop.yaml");
    let mut pipeline: Value = serde_yaml::from_str(example).unwrap();
    for (pointer, value) in set {
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        match pipeline.pointer_mut(parent).unwrap_or_else(|| panic!("there is no {parent}")) {
            Value::Array(items) => match field.parse::<usize>().unwrap() {
                at if at == items.len() => items.push(value.clone()),
                at => items[at] = value.clone(),
            },
            Value::Object(fields) if value.is_null() => drop(fields.remove(field)),
            Value::Object(fields) => drop(fields.insert(field.into(), value.clone())),
            other => panic!("{parent} is {other}"),
        }
    }
    pipeline
}
