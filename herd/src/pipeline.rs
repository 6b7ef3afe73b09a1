//! Reading a pipeline file: parsed, validated and planned, or all problems with their lines and columns.

use std::path::{Path, PathBuf};

use herd_spec::document;
use herd_spec::pipeline::HerdPipeline;
use herd_spec::plan::Plan;
use herd_spec::problem::Problem;
use miette::{Diagnostic, LabeledSpan, NamedSource, Severity, SourceSpan};

use crate::locate::locate;

/// A file that is not a valid pipeline.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum FileError {
    /// The file is not readable.
    #[error("cannot read {}: {source}", path.display())]
    #[diagnostic(help(
        "write the path of a pipeline in YAML, e.g. examples/shop.yaml, or `-` for standard input"
    ))]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The spec is invalid.
    #[error("{name} has {} problem{}", problems.len(), if problems.len() == 1 { "" } else { "s" })]
    Invalid {
        /// The file.
        name: String,
        /// The problems.
        #[related]
        problems: Vec<Located>,
    },
}

/// A problem with its position in the file.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", .problem.message)]
pub struct Located {
    /// The problem and its path in the spec.
    pub problem: Problem,
    /// Line and column, from 1, if known.
    pub position: Option<(usize, usize)>,
    span: Option<SourceSpan>,
    source_text: NamedSource<String>,
}

impl Diagnostic for Located {
    fn severity(&self) -> Option<Severity> {
        Some(Severity::Error)
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        self.span.is_some().then_some(&self.source_text as &dyn miette::SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.span?;
        let label = LabeledSpan::new_primary_with_span(Some(self.problem.path.clone()), span);
        Some(Box::new(std::iter::once(label)))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        if self.span.is_none() && !self.problem.path.is_empty() {
            return Some(Box::new(format!("path: `{}`", self.problem.path)));
        }
        None
    }
}

impl Located {
    fn of(problem: Problem, name: &str, text: &str) -> Self {
        let range = locate(text, &problem.path).or_else(|| yaml_error_line(text, &problem.message));
        let position = range.as_ref().map(|range| {
            let before = &text[..range.start];
            let line = before.matches('\n').count() + 1;
            (line, range.start - before.rfind('\n').map_or(0, |end| end + 1) + 1)
        });
        let source_text = NamedSource::new(name, text.to_owned()).with_language("YAML");
        Self { problem, position, span: range.map(Into::into), source_text }
    }
}

/// The line that a YAML syntax error refers to: `… at line 3 column 5`.
fn yaml_error_line(text: &str, message: &str) -> Option<std::ops::Range<usize>> {
    let (_, rest) = message.rsplit_once("at line ")?;
    let line: usize = rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
    let start: usize = text.split_inclusive('\n').take(line.checked_sub(1)?).map(str::len).sum();
    let length = text.get(start..)?.lines().next()?.trim_end().len();
    Some(start..start + length)
}

/// Reads a file, or standard input for `-`. A byte order mark at the beginning is skipped.
///
/// # Errors
/// [`FileError::Read`].
pub fn text(path: &Path) -> Result<String, FileError> {
    let read = if path == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(path)
    };
    let mut text = read.map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    if text.starts_with('\u{feff}') {
        text.remove(0);
    }
    Ok(text)
}

/// Validates and plans a text, or returns all its problems.
///
/// # Errors
/// [`FileError::Invalid`].
pub fn check(name: &str, text: &str) -> Result<Plan, FileError> {
    let planned = document::parse(text).and_then(|pipeline| Plan::parse(&pipeline));
    planned.map_err(|problems| invalid(name, text, problems))
}

fn invalid(name: &str, text: &str, problems: Vec<Problem>) -> FileError {
    FileError::Invalid {
        name: name.to_owned(),
        problems: problems.into_iter().map(|problem| Located::of(problem, name, text)).collect(),
    }
}

/// Reads and parses a pipeline file.
///
/// # Errors
/// [`FileError`].
pub fn read(path: &Path) -> Result<HerdPipeline, FileError> {
    let text = text(path)?;
    let parsed = document::parse(&text).and_then(|pipeline| Plan::parse(&pipeline).map(|_| pipeline));
    parsed.map_err(|problems| invalid(&path.display().to_string(), &text, problems))
}

/// Reads, validates and plans a pipeline file.
///
/// # Errors
/// [`FileError`].
pub fn load(path: &Path) -> Result<Plan, FileError> {
    check(&path.display().to_string(), &text(path)?)
}
