//! A protocol of what was sent, for whoever wants to work the result out on their own.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::{Answer, Batch};
use crate::shoppers::Kind;

/// Writes one line of JSON an event: `{"kind","outcome","raw"}`, where `raw` is the event as it was sent, in a string.
#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
    file: Mutex<(BufWriter<File>, Option<std::io::Error>)>,
}

#[derive(Serialize)]
struct Line<'a> {
    /// `fresh`, `duplicate` or `invalid`: what was meant.
    kind: &'static str,
    /// `accepted`, `refused` or `failed`: what the collector said.
    outcome: &'static str,
    /// The bytes.
    raw: &'a str,
}

/// The protocol cannot be written.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("the record of what was sent cannot be written to {}: {source}", path.display())]
#[diagnostic(help("give --record a file in a folder that you may write to"))]
pub struct RecordError {
    path: PathBuf,
    source: std::io::Error,
}

impl Recorder {
    /// Starts a new file; one that is there is replaced.
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
    pub fn write(&self, batch: &Batch, answer: &Answer) {
        let mut guard = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, error) = &mut *guard;
        for (number, parcel) in batch.parcels.iter().enumerate() {
            let kind = match parcel.kind {
                Kind::Fresh => "fresh",
                Kind::Duplicate => "duplicate",
                Kind::Invalid { .. } => "invalid",
            };
            let line = Line { kind, outcome: answer.outcome(number).as_str(), raw: &parcel.body };
            let written = serde_json::to_writer(&mut *file, &line)
                .map_err(Into::into)
                .and_then(|()| file.write_all(b"\n"));
            if let Err(why) = written {
                error.get_or_insert(why);
            }
        }
    }

    /// Ends the file.
    ///
    /// # Errors
    /// The first thing that went wrong with writing it.
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
