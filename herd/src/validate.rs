//! `herd validate`: all problems of all files, with their lines and columns.

use std::path::PathBuf;

use clap::Args;
use miette::Report;
use serde::Serialize;

use crate::output::{self, CommandResult};
use crate::pipeline::{self, FileError};

/// Validates pipelines without running them. Exits with 1 if a file is invalid.
#[derive(Args, Debug)]
pub struct Validate {
    /// Pipeline files (YAML); `-` is standard input
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Prints the results as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Serialize)]
struct FileResult {
    file: String,
    valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pipeline: Option<String>,
    problems: Vec<ProblemResult>,
}

#[derive(Serialize)]
struct ProblemResult {
    path: String,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
}

/// Some files are invalid. Their problems have been printed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("{invalid} of {files} files {} invalid", if *invalid == 1 { "is" } else { "are" })]
pub struct SomeInvalid {
    invalid: usize,
    files: usize,
}

impl Validate {
    /// Runs it.
    ///
    /// # Errors
    /// If a file cannot be read or has problems.
    pub fn run(self) -> CommandResult {
        let mut results = Vec::new();
        let mut only_error = None;
        for file in &self.files {
            let name = file.display().to_string();
            let (result, error) = match pipeline::load(file) {
                Ok(plan) => (result(name, Some(plan.pipeline.to_string()), Vec::new()), None),
                Err(error) => (result(name, None, problems(&error)), Some(error)),
            };
            if !self.json {
                match error {
                    None => output::line(&format!("{} is valid", result.file))?,
                    Some(error) if self.files.len() == 1 => only_error = Some(error),
                    Some(error) => output::note(&format!("{:?}", Report::new(error))),
                }
            }
            results.push(result);
        }
        if self.json {
            output::json(&results)?;
        }
        if let Some(error) = only_error {
            return Err(error.into());
        }
        let invalid = results.iter().filter(|result| !result.valid).count();
        if invalid > 0 {
            return Err(SomeInvalid { invalid, files: results.len() }.into());
        }
        Ok(())
    }
}

fn result(file: String, pipeline: Option<String>, problems: Vec<ProblemResult>) -> FileResult {
    FileResult { file, valid: pipeline.is_some(), pipeline, problems }
}

fn problems(error: &FileError) -> Vec<ProblemResult> {
    match error {
        FileError::Read { .. } => {
            vec![ProblemResult { path: String::new(), message: error.to_string(), line: None, column: None }]
        }
        FileError::Invalid { problems, .. } => problems
            .iter()
            .map(|located| ProblemResult {
                path: located.problem.path.clone(),
                message: located.problem.message.clone(),
                line: located.position.map(|(line, _)| line),
                column: located.position.map(|(_, column)| column),
            })
            .collect(),
    }
}
