//! The custom resource definition: the schema that the types give, sharpened by what a schema alone cannot say.
//!
//! Every rule of [`crate::plan::Plan::parse`] that CEL can say is a row of `tables`, so that the API server refuses with the words that say
//! what to write instead. Lists and texts are bounded there too, for the API server weighs a rule by the largest document the schema
//! lets through.

mod tables;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool, ValidationRule,
};
use kube::CustomResourceExt;
use serde_json::Value;

use crate::pipeline::HerdPipeline;
use tables::{MAPS, REFUSED_SINKS, SINK_FIELDS, bounds, rules};

/// The definition of `herdpipelines.herd.dev`, ready to apply.
#[must_use]
pub fn crd() -> CustomResourceDefinition {
    let mut crd = HerdPipeline::crd();
    for version in &mut crd.spec.versions {
        let Some(root) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) else {
            continue;
        };
        root.description = root.properties.as_ref().and_then(|all| all.get("spec")?.description.clone());
        sharpen(root);
        describe_defaults(root);
    }
    crd
}

/// Appends its default to the description of each field, because `kubectl explain` does not print defaults.
fn describe_defaults(schema: &mut JSONSchemaProps) {
    if let (Some(description), Some(default)) = (&mut schema.description, &schema.default) {
        match &default.0 {
            Value::Null | Value::Object(_) => {}
            Value::String(text) => description.push_str(&format!(" Default: `{text}`.")),
            value => description.push_str(&format!(" Default: `{value}`.")),
        }
    }
    for field in schema.properties.iter_mut().flat_map(|fields| fields.values_mut()) {
        describe_defaults(field);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        describe_defaults(items);
    }
}

/// The definition as YAML that YAML 1.1 and 1.2 parsers read alike.
///
/// # Errors
/// If it cannot be written, which would be a defect.
pub fn yaml() -> Result<String, serde_yaml::Error> {
    Ok(serde_yaml::to_string(&crd())?.lines().map(|line| quoted(line) + "\n").collect())
}

/// Quotes values that YAML 1.1, which Kubernetes' tools parse, reads as booleans: a bare `Off` is false there.
fn quoted(line: &str) -> String {
    let (before, value) = line.rsplit_once(' ').unwrap_or(("", line));
    match value.to_ascii_lowercase().as_str() {
        "on" | "off" | "yes" | "no" | "y" | "n" if before.ends_with(['-', ':']) => {
            format!("{before} \"{value}\"")
        }
        _ => line.to_owned(),
    }
}

fn sharpen(root: &mut JSONSchemaProps) {
    for (path, rule, message) in rules() {
        if let Some(schema) = at(root, &path) {
            add_rule(schema, rule.into(), message.into());
        }
    }
    if let Some(sink) = at(root, "spec.sinks[]") {
        let fields = sink.properties.iter().flat_map(|fields| fields.keys());
        let kinds: Vec<&str> =
            fields.map(String::as_str).filter(|field| !SINK_FIELDS.contains(field)).collect();
        let is_set: Vec<String> = kinds.iter().map(|kind| format!("has(self.{kind})")).collect();
        let rule = format!("[{}].filter(set, set).size() == 1", is_set.join(", "));
        let offered = kinds.iter().filter(|kind| !REFUSED_SINKS.contains(kind));
        let offered: Vec<String> = offered.map(|kind| format!("`{kind}`")).collect();
        add_rule(sink, rule, format!("must have exactly one of {}", offered.join(", ")));
    }
    for (path, most) in bounds() {
        let Some(schema) = at(root, &path) else { continue };
        let most = Some(most);
        match schema.type_.as_deref() {
            Some("array") => schema.max_items = most,
            Some("object") => schema.max_properties = most,
            _ => schema.max_length = most,
        }
    }
    for (path, key) in MAPS {
        if let Some(schema) = at(root, path) {
            schema.x_kubernetes_list_type = Some("map".into());
            schema.x_kubernetes_list_map_keys = Some(vec![(*key).into()]);
        }
    }
}

fn add_rule(schema: &mut JSONSchemaProps, rule: String, message: String) {
    let rule = ValidationRule { rule, message: Some(message), ..ValidationRule::default() };
    schema.x_kubernetes_validations.get_or_insert_default().push(rule);
}

/// The schema at a path like `spec.metrics[].window`; `{}` is a map's values, the empty path the root.
fn at<'s>(root: &'s mut JSONSchemaProps, path: &str) -> Option<&'s mut JSONSchemaProps> {
    let mut schema = root;
    for step in path.split('.').filter(|step| !step.is_empty()) {
        let name = step.trim_end_matches("[]").trim_end_matches("{}");
        schema = schema.properties.as_mut()?.get_mut(name)?;
        if step.ends_with("[]") {
            schema = match schema.items.as_mut()? {
                JSONSchemaPropsOrArray::Schema(items) => items,
                JSONSchemaPropsOrArray::Schemas(_) => return None,
            };
        } else if step.ends_with("{}") {
            schema = match schema.additional_properties.as_mut()? {
                JSONSchemaPropsOrBool::Schema(values) => values,
                JSONSchemaPropsOrBool::Bool(_) => return None,
            };
        }
    }
    Some(schema)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_of_the_tables_is_in_the_schema() {
        let mut crd = HerdPipeline::crd();
        let root = crd.spec.versions[0].schema.as_mut().unwrap().open_api_v3_schema.as_mut().unwrap();
        let lists = bounds().map(|row| row.0).chain(MAPS.iter().map(|row| row.0.to_owned()));
        let paths = rules().map(|row| row.0).chain(lists);
        let lost: Vec<_> = paths.filter(|path| at(root, path).is_none()).collect();
        assert!(lost.is_empty(), "not in the schema: {lost:?}");
    }

    #[test]
    fn quotes_values_that_yaml_1_1_reads_as_booleans() {
        assert_eq!(quoted("    - Off"), "    - \"Off\"");
        assert_eq!(quoted("  mode: Off"), "  mode: \"Off\"");
        assert_eq!(quoted("  description: switches it Off"), "  description: switches it Off");
        assert!(yaml().unwrap().contains("- \"Off\"\n"));
    }

    #[test]
    fn every_message_fits_in_one_line() {
        for (path, _, message) in rules() {
            assert!(!message.is_empty() && !message.contains('\n'), "{path}: {message}");
        }
    }
}
