//! What goes to the terminal. A reader that goes away (`herd … | head`) is no error: there is nobody left to tell.

use std::fmt::Display;
use std::io::{self, Write};

use serde::Serialize;

/// What a command comes to.
pub type Outcome = miette::Result<()>;

/// Standard output cannot be written to.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("the output cannot be written: {0}")]
#[diagnostic(help("is the disk full, or the terminal gone?"))]
pub struct OutputError(#[from] io::Error);

fn forgive(result: io::Result<()>) -> Result<(), OutputError> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Prints a text and a line end.
///
/// # Errors
/// If the output cannot be written, other than because the reader has gone.
pub fn line(text: &dyn Display) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    forgive(writeln!(out, "{text}").and_then(|()| out.flush()))
}

/// Prints a value as JSON, indented.
///
/// # Errors
/// As [`line()`].
pub fn json<T: Serialize>(value: &T) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    let written = serde_json::to_writer_pretty(&mut out, value).map_err(io::Error::from);
    forgive(written.and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()))
}

/// Tells a person something on standard error.
pub fn note(text: &dyn Display) {
    // If even standard error is gone there is nobody to tell.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether the person at standard error sees colours and moving things.
#[must_use]
pub fn is_terminal() -> bool {
    io::IsTerminal::is_terminal(&io::stderr())
}
