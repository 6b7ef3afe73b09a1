//! From a YAML document to a [`HerdPipeline`], or to errors that say what is wrong, where, and what to write instead.
//!
//! The document is walked along the schema that the types give: unknown fields, missing ones, wrong types are all reported.
//! What a schema cannot say is found where the plan is made: [`crate::plan::Plan::parse`].

mod shape;

use crate::pipeline::HerdPipeline;
use crate::problem::{Problem, Problems};

/// Reads one `HerdPipeline` document.
///
/// # Errors
/// Everything in which it differs from the schema, in the order of the document.
pub fn parse(yaml: &str) -> Result<HerdPipeline, Problems> {
    let one = |problem| vec![problem];
    // Some editors begin a file with a byte order mark, which is no part of it.
    let yaml = yaml.strip_prefix('\u{feff}').unwrap_or(yaml);
    let mut document: serde_yaml::Value = serde_yaml::from_str(yaml).map_err(|error| {
        let more = "more than one document";
        let message = match error.to_string() {
            text if text.contains(more) => {
                "the file holds more than one YAML document: write one HerdPipeline a file".to_owned()
            }
            text => format!("not valid YAML: {text}"),
        };
        one(Problem::new("", message))
    })?;
    // `<<: *defaults`, as kubectl reads it too.
    document.apply_merge().map_err(|error| {
        one(Problem::new("", format!("a merge key `<<` must name a map, or a list of maps: {error}")))
    })?;
    let problems = shape::problems(&document);
    if !problems.is_empty() {
        return Err(problems);
    }
    serde_path_to_error::deserialize(document).map_err(|error| {
        let path = error.path().to_string();
        one(Problem::new(if path == "." { String::new() } else { path }, error.inner().to_string()))
    })
}
