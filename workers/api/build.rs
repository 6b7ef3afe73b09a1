//! Compiles this crate again when the dashboard was built again: its files are embedded (`src/dashboard.rs`).

use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Without a build, wait for one: a path that is not there would make every build compile this crate again.
    for path in ["../../web/dist", "../../web"] {
        if Path::new(path).exists() {
            println!("cargo:rerun-if-changed={path}");
            return;
        }
    }
}
