//! The document against the schema of the types: every unknown or missing field, every value of the wrong type.

use std::sync::LazyLock;

use serde_json::Value as Json;
use serde_yaml::Value as Yaml;

use crate::pipeline::{Budget, Emit, HerdPipelineSpec, Span};
use crate::problem::{Problem, did_you_mean, listed};

static SCHEMA: LazyLock<Json> = LazyLock::new(|| schemars::schema_for!(HerdPipelineSpec).to_value());

/// All problems of shape.
pub(super) fn problems(document: &Yaml) -> Vec<Problem> {
    let mut found = Vec::new();
    let Yaml::Mapping(fields) = document else {
        return vec![Problem::new(
            "",
            "not a HerdPipeline: write `apiVersion`, `kind`, `metadata` and `spec`",
        )];
    };
    let known = ["apiVersion", "kind", "metadata", "spec", "status"];
    for name in fields.keys() {
        let name = name.as_str().unwrap_or_default();
        if !known.contains(&name) {
            let hint = did_you_mean(name, known);
            found.push(Problem::new(name, format!("unknown field{hint} (allowed here: {})", listed(known))));
        }
    }
    for (name, wanted) in [("apiVersion", "herd.dev/v1alpha1"), ("kind", "HerdPipeline")] {
        match fields.get(name).map(|value| value.as_str().unwrap_or_default()) {
            Some(written) if written == wanted => {}
            Some(written) => found.push(Problem::new(name, format!("is `{written}`, must be `{wanted}`"))),
            None => found.push(Problem::new(name, format!("missing: write `{name}: {wanted}`"))),
        }
    }
    match fields.get("metadata") {
        None => found.push(Problem::new("metadata.name", "missing: give the pipeline a name")),
        Some(Yaml::Mapping(metadata)) => match metadata.get("name") {
            Some(Yaml::String(_)) => {}
            Some(_) => found.push(Problem::new("metadata.name", "must be a string")),
            None => found.push(Problem::new("metadata.name", "missing: give the pipeline a name")),
        },
        Some(_) => found.push(Problem::new("metadata", "must be a map, e.g. `{name: shop}`")),
    }
    match fields.get("spec") {
        Some(spec) => {
            walk(spec, &SCHEMA, "spec", &mut found);
            finite(spec, "spec", &mut found);
        }
        None => found.push(Problem::new("spec", "missing: write `metrics`, `detectors` and `sinks`")),
    }
    found
}

/// YAML knows `.inf` and `.nan`, JSON does not: written as such, they would become null. Looks everywhere, for some fields take any
/// object.
fn finite(value: &Yaml, path: &str, found: &mut Vec<Problem>) {
    match value {
        Yaml::Number(number) if number.as_f64().is_some_and(|number| !number.is_finite()) => {
            found.push(Problem::new(path, format!("is {number}, must be a finite number")));
        }
        Yaml::Mapping(fields) => {
            for (name, value) in fields {
                finite(value, &format!("{path}.{}", name.as_str().unwrap_or("?")), found);
            }
        }
        Yaml::Sequence(items) => {
            for (at, value) in items.iter().enumerate() {
                finite(value, &format!("{path}[{at}]"), found);
            }
        }
        _ => {}
    }
}

fn walk(value: &Yaml, schema: &Json, path: &str, found: &mut Vec<Problem>) {
    let schema = resolve(schema);
    if let Some(values) = one_of(schema) {
        let written = value.as_str();
        if !written.is_some_and(|written| values.contains(&written)) {
            let shown = written.map_or_else(|| kind(value).to_owned(), |written| format!("`{written}`"));
            let hint = did_you_mean(written.unwrap_or_default(), values.iter().copied());
            let allowed = listed(values.iter().copied());
            found.push(Problem::new(path, format!("is {shown}, must be one of {allowed}{hint}")));
        }
        return;
    }
    let types = types(schema);
    let nullable = types.contains(&"null");
    let fits = |name: &&str| match *name {
        "object" => value.is_mapping(),
        "array" => value.is_sequence(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_bool(),
        _ => value.is_null(),
    };
    if !types.is_empty() && !types.iter().any(fits) {
        let wanted: Vec<&str> = types.iter().copied().filter(|name| *name != "null").collect();
        let article = if wanted[0].starts_with(['a', 'i', 'o']) { "an" } else { "a" };
        let wanted = wanted.join(" or ").replace("object", "map").replace("array", "list");
        let article = if wanted.starts_with(['m', 'l']) { "a" } else { article };
        found.push(Problem::new(
            path,
            format!("is {}, must be {article} {wanted}{}", kind(value), remedy(value, schema)),
        ));
        return;
    }
    if value.is_null() && nullable {
        return;
    }
    match value {
        Yaml::Mapping(fields) => map(fields, schema, path, found),
        Yaml::Sequence(items) => {
            if let Some(item) = schema.get("items") {
                for (at, value) in items.iter().enumerate() {
                    walk(value, item, &format!("{path}[{at}]"), found);
                }
            }
        }
        Yaml::String(written) => {
            // Durations, budgets and what emits are the texts that have a pattern.
            let parsed = match schema.get("pattern") {
                Some(_) if is_int_or_string(schema) => written.parse::<Budget>().map(drop),
                Some(pattern) if pattern == Emit::PATTERN => written.parse::<Emit>().map(drop),
                Some(_) => written.parse::<Span>().map(drop),
                None => Ok(()),
            };
            if let Err(message) = parsed {
                found.push(Problem::new(path, message));
            }
        }
        Yaml::Number(number) => {
            // What is not finite is told by `finite`.
            if let Some(number) = number.as_f64().filter(|number| number.is_finite()) {
                range(number, schema, path, found);
            }
        }
        _ => {}
    }
}

fn map(fields: &serde_yaml::Mapping, schema: &Json, path: &str, found: &mut Vec<Problem>) {
    // The schema of a struct without fields has no properties.
    let none = serde_json::Map::new();
    let is_empty = schema.get("additionalProperties") == Some(&Json::Bool(false));
    let properties = schema.get("properties").and_then(Json::as_object);
    let Some(properties) = properties.or_else(|| is_empty.then_some(&none)) else {
        if let Some(values) = schema.get("additionalProperties").filter(|values| values.is_object()) {
            for (name, value) in fields {
                walk(value, values, &format!("{path}.{}", name.as_str().unwrap_or("?")), found);
            }
        }
        return;
    };
    for (name, value) in fields {
        let Some(name) = name.as_str() else {
            found.push(Problem::new(path, "has a field whose name is not a string"));
            continue;
        };
        match properties.get(name) {
            Some(schema) => walk(value, schema, &format!("{path}.{name}"), found),
            None => {
                let known = || properties.keys().map(String::as_str);
                let hint = did_you_mean(name, known());
                let message = format!("unknown field{hint} (allowed here: {})", listed(known()));
                found.push(Problem::new(format!("{path}.{name}"), message));
            }
        }
    }
    for name in schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str)
    {
        if !fields.contains_key(name) {
            let what = properties.get(name).map(resolve).and_then(|schema| schema.get("description"));
            let what = what.and_then(Json::as_str).map_or_else(String::new, |text| {
                format!(" ({})", text.split(['.', '\n']).next().unwrap_or_default())
            });
            found.push(Problem::new(format!("{path}.{name}"), format!("missing{what}")));
        }
    }
}

fn range(number: f64, schema: &Json, path: &str, found: &mut Vec<Problem>) {
    let bound = |name: &str| schema.get(name).and_then(Json::as_f64);
    match (bound("minimum"), bound("maximum")) {
        (Some(least), _) if number < least => {
            found.push(Problem::new(path, format!("is {number}, must be at least {least}")));
        }
        (_, Some(most)) if number > most => {
            found.push(Problem::new(path, format!("is {number}, must be at most {most}")));
        }
        _ => {}
    }
}

/// Follows references, and `Option`s written as a choice between something and null.
fn resolve(schema: &Json) -> &Json {
    let target =
        schema.get("$ref").and_then(Json::as_str).and_then(|path| SCHEMA.pointer(path.strip_prefix('#')?));
    if let Some(target) = target {
        return resolve(target);
    }
    let choices = schema.get("anyOf").and_then(Json::as_array);
    let other_than_null = |choice: &&Json| choice.get("type").and_then(Json::as_str) != Some("null");
    match choices.and_then(|choices| choices.iter().find(other_than_null)) {
        Some(choice) => resolve(choice),
        None => schema,
    }
}

/// The values of an enumeration: `enum`, or a `oneOf` of constants, as documented variants come out.
fn one_of(schema: &Json) -> Option<Vec<&str>> {
    if let Some(values) = schema.get("enum").and_then(Json::as_array) {
        return Some(values.iter().filter_map(Json::as_str).collect());
    }
    let choices = schema.get("oneOf").and_then(Json::as_array)?;
    choices
        .iter()
        .map(|choice| match choice.get("const").and_then(Json::as_str) {
            Some(value) => Some(vec![value]),
            None => one_of(choice),
        })
        .collect::<Option<Vec<_>>>()
        .map(|lists| lists.concat())
}

/// Whether the schema is that of a [`Budget`].
fn is_int_or_string(schema: &Json) -> bool {
    schema.get("x-kubernetes-int-or-string") == Some(&Json::Bool(true))
}

fn types(schema: &Json) -> Vec<&str> {
    if is_int_or_string(schema) {
        return vec!["integer", "string"];
    }
    match schema.get("type") {
        Some(Json::String(name)) => vec![name],
        Some(Json::Array(names)) => names.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    }
}

fn kind(value: &Yaml) -> &'static str {
    match value {
        Yaml::Null => "empty",
        Yaml::Bool(_) => "a boolean",
        Yaml::Number(_) => "a number",
        Yaml::String(_) => "a string",
        Yaml::Sequence(_) => "a list",
        Yaml::Mapping(_) => "a map",
        Yaml::Tagged(_) => "a tagged value",
    }
}

/// What to write instead, where that is plain.
fn remedy(value: &Yaml, schema: &Json) -> String {
    match value {
        Yaml::Number(number) if is_int_or_string(schema) => format!(": write `{number} per day`"),
        Yaml::Number(number) if schema.get("pattern").is_some() => {
            format!(": write a unit, e.g. `{number}s`")
        }
        Yaml::Number(number) if types(schema).contains(&"string") => format!(": write \"{number}\""),
        Yaml::String(text) if types(schema).contains(&"array") => format!(": write `[{text}]`"),
        _ => String::new(),
    }
}
