//! The project's one check command.
fn main() {}
