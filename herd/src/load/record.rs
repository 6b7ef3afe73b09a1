//! A log of the sent events, for independent verification of the results.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::{Batch, Response};
use crate::shoppers::Kind;

/// Writes one JSON line per event: `{"kind","outcome","raw"}`, where `raw` is the sent event as a string.
#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
    file: Mutex<(BufWriter<File>, Option<std::io::Error>)>,
}

#[derive(Serialize)]
struct Line<'a> {
    /// `fresh`, `duplicate` or `invalid`: as intended.
    kind: &'static str,
    /// `accepted`, `refused` or `failed`: as answered by the collector.
    outcome: &'static str,
    /// The event as sent.
    raw: &'a str,
}

/// The record file is not writable.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("cannot write the record file {}: {source}", path.display())]
#[diagnostic(help("give --record a path in a writable directory"))]
pub struct RecordError {
    path: PathBuf,
    source: std::io::Error,
}

impl Recorder {
    /// Creates the file, replacing an existing one.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn create(path: &Path) -> Result<Self, RecordError> {
        match File::create(path) {
            Ok(file) => Ok(Self { path: path.to_owned(), file: Mutex::new((BufWriter::new(file), None)) }),
            Err(source) => Err(RecordError { path: path.to_owned(), source }),
        }
    }

    /// Writes the events of a request.
    pub fn write(&self, batch: &Batch, response: &Response) {
        let mut guard = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, error) = &mut *guard;
        for (number, event) in batch.events.iter().enumerate() {
            let kind = match event.kind {
                Kind::Fresh => "fresh",
                Kind::Duplicate => "duplicate",
                Kind::Invalid { .. } => "invalid",
            };
            let line = Line { kind, outcome: response.outcome(number).as_str(), raw: &event.body };
            let written = serde_json::to_writer(&mut *file, &line)
                .map_err(Into::into)
                .and_then(|()| file.write_all(b"\n"));
            if let Err(why) = written {
                error.get_or_insert(why);
            }
        }
    }

    /// Flushes the file.
    ///
    /// # Errors
    /// The first write error.
    pub fn finish(&self) -> Result<(), RecordError> {
        let mut guard = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, error) = &mut *guard;
        let flushed = file.flush();
        match error.take().map_or(flushed, Err) {
            Ok(()) => Ok(()),
            Err(source) => Err(RecordError { path: self.path.clone(), source }),
        }
    }
}
