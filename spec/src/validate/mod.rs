//! From what was written to what is meant, or to errors that say what is wrong, where, and what to write instead.
//!
//! Two passes, each reporting everything it finds: `shape` walks the document along the schema that the types give
//! (unknown fields, missing ones, wrong types), `rules` checks what a schema cannot say. The second runs only on what has
//! passed the first.

mod rules;
mod shape;

use std::fmt;

use crate::pipeline::HerdPipeline;

/// Something in a spec that must be changed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// Where: `spec.metrics[1].window`; empty for the document as a whole.
    pub path: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl Problem {
    fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

/// Reads one `HerdPipeline` document and checks it whole.
///
/// # Errors
/// Everything that must be changed, in the order of the document for each pass.
pub fn parse(yaml: &str) -> Result<HerdPipeline, Vec<Problem>> {
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
    let pipeline: HerdPipeline = serde_path_to_error::deserialize(document).map_err(|error| {
        let path = error.path().to_string();
        one(Problem::new(if path == "." { String::new() } else { path }, error.inner().to_string()))
    })?;
    check(&pipeline)?;
    Ok(pipeline)
}

/// Checks what a schema cannot say.
///
/// # Errors
/// Everything that must be changed.
pub fn check(pipeline: &HerdPipeline) -> Result<(), Vec<Problem>> {
    let problems = rules::problems(pipeline);
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// The candidate that `written` was probably meant to be.
fn nearest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace(['_', '-'], "");
    let wanted = plain(written);
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&wanted, &plain(candidate)), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// ``; did you mean `x`?`` or nothing.
fn did_you_mean<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(written, candidates).map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests;
