//! Compiles this crate again when the tracker was built again: it is embedded (`src/script.rs`).

use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Without a build, wait for one: a path that is not there would make every build compile this crate again.
    for path in ["../../web/tracker/dist/herd.js", "../../web/tracker"] {
        if Path::new(path).exists() {
            println!("cargo:rerun-if-changed={path}");
            return;
        }
    }
}
