//! Output to the terminal. A closed pipe (`herd … | head`) is not an error.

use std::fmt::Display;
use std::io::{self, Write};

use serde::Serialize;

/// Result of a command.
pub type CommandResult = miette::Result<()>;

/// Standard output is not writable.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("cannot write to standard output: {0}")]
#[diagnostic(help("check that the disk is not full and that the terminal still exists"))]
pub struct OutputError(#[from] io::Error);

fn ignore_broken_pipe(result: io::Result<()>) -> Result<(), OutputError> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Prints a line.
///
/// # Errors
/// If standard output is not writable, except for a closed pipe.
pub fn line(text: &dyn Display) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    ignore_broken_pipe(writeln!(out, "{text}").and_then(|()| out.flush()))
}

/// Prints a value as JSON, indented.
///
/// # Errors
/// As [`line()`].
pub fn json<T: Serialize>(value: &T) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    let written = serde_json::to_writer_pretty(&mut out, value).map_err(io::Error::from);
    ignore_broken_pipe(written.and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()))
}

/// Prints a line on standard error.
pub fn note(text: &dyn Display) {
    // If standard error is closed, there is no way left to report it.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether standard error is a terminal.
#[must_use]
pub fn is_terminal() -> bool {
    io::IsTerminal::is_terminal(&io::stderr())
}
