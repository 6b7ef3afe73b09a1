//! What the tests of the command share: the command itself, and a real collector over an embedded bus.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

use std::path::Path;
use std::process::{Command, Output};

/// A small pipeline without sinks.
pub const PIPELINE: &str = "\
apiVersion: herd.dev/v1alpha1
kind: HerdPipeline
metadata:
  name: shop
spec:
  events:
    maxLateness: 2s
  metrics:
    - name: views
      events:
        types: [view_product]
      window: 2s
  detectors:
    - name: crowd
      metric: views
      algorithm:
        poisson:
          warmup: 3
";

/// Runs the command to its end.
pub fn herd(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_herd"))
        .args(arguments)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .env_remove("HERD_WRITE_KEY")
        .env_remove("RUST_LOG")
        .output()
        .unwrap()
}

/// Standard output of a command that must succeed.
pub fn stdout(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        stderr(output)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Standard error.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// JSON on standard output of a command that must succeed.
pub fn json(output: &Output) -> serde_json::Value {
    serde_json::from_str(&stdout(output)).unwrap()
}
