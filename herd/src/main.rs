//! The `herd` command.
fn main() {}
