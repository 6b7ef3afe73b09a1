//! The reference of the spec, generated from the schema of [`crate::pipeline`]: one table of fields per object.

use std::collections::VecDeque;
use std::fmt::Write;

use serde_json::Value;

use crate::pipeline::HerdPipelineSpec;

/// The reference of `HerdPipeline` as Markdown.
#[must_use]
pub fn markdown() -> String {
    let root = schemars::schema_for!(HerdPipelineSpec).to_value();
    let mut page = String::from(
        "# HerdPipeline\n\n\
         All fields of the spec. Generated from the types in `spec/src/pipeline`: edit them there, then run `make reference`.\n\n\
         ```yaml\napiVersion: herd.dev/v1alpha1\nkind: HerdPipeline\nmetadata:\n  name: shop\nspec: {}\n```\n",
    );
    let mut open = VecDeque::from([("spec".to_owned(), &root)]);
    while let Some((path, schema)) = open.pop_front() {
        object(&mut page, &root, &path, schema, &mut open);
    }
    page
}

fn object<'s>(
    page: &mut String,
    root: &'s Value,
    path: &str,
    schema: &'s Value,
    open: &mut VecDeque<(String, &'s Value)>,
) {
    let Some(fields) = schema["properties"].as_object() else { return };
    let head = format!(
        "\n## `{path}`\n\n{}\n\n| field | type | default | meaning |\n|---|---|---|---|\n",
        text(&schema["description"])
    );
    page.push_str(&head);
    let required =
        |name: &str| schema["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
    for (name, field) in fields {
        let meant = resolve(root, field);
        let default = match &field["default"] {
            _ if required(name) => "required".to_owned(),
            Value::Null => "–".to_owned(),
            Value::Object(_) => "see below".to_owned(),
            value => format!("`{value}`"),
        };
        let meaning = match &field["description"] {
            Value::Null => text(&meant["description"]),
            own => text(own),
        };
        // Writing to a `String` cannot fail.
        let _ = writeln!(page, "| `{name}` | {} | {default} | {meaning} |", kind(root, field));
        let item = resolve(root, &meant["items"]);
        if meant["properties"].is_object() {
            open.push_back((format!("{path}.{name}"), meant));
        } else if item["properties"].is_object() {
            open.push_back((format!("{path}.{name}[]"), item));
        }
    }
}

/// References followed, `null` alternatives set aside.
fn resolve<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    if let Some(name) = schema["$ref"].as_str().and_then(|at| at.strip_prefix("#/$defs/")) {
        return resolve(root, &root["$defs"][name]);
    }
    let one = schema["anyOf"].as_array().and_then(|either| either.iter().find(|one| one["type"] != "null"));
    one.map_or(schema, |one| resolve(root, one))
}

fn kind(root: &Value, field: &Value) -> String {
    let schema = resolve(root, field);
    if let Some(values) = enum_values(schema) {
        return values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ");
    }
    let name = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null"),
        kind => kind.as_str(),
    };
    let range = match (&schema["minimum"], &schema["maximum"]) {
        (Value::Null, Value::Null) => String::new(),
        (least, Value::Null) => format!(", at least {least}"),
        (Value::Null, most) => format!(", at most {most}"),
        (least, most) => format!(", {least} to {most}"),
    };
    match name {
        _ if schema["x-kubernetes-int-or-string"] == true => "string or integer".into(),
        Some("string") if schema.get("pattern").is_some() => "duration".into(),
        Some("string") => "string".into(),
        Some("integer") => format!("integer{range}"),
        Some("array") => format!("list of {}", kind(root, &schema["items"])),
        Some("object") if schema["additionalProperties"].is_object() => "map of strings".into(),
        Some(other) => format!("{other}{range}"),
        None => "any".into(),
    }
}

fn enum_values(schema: &Value) -> Option<Vec<&str>> {
    if let Some(only) = schema["const"].as_str() {
        return Some(vec![only]);
    }
    if let Some(values) = schema["enum"].as_array() {
        return Some(values.iter().filter_map(Value::as_str).collect());
    }
    schema["oneOf"]
        .as_array()?
        .iter()
        .map(enum_values)
        .collect::<Option<Vec<_>>>()
        .map(|values| values.concat())
}

/// A description in one line that does not end a table's cell.
fn text(description: &Value) -> String {
    description
        .as_str()
        .unwrap_or_default()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|")
}
