//! The command line; see `--help`.
fn main() {}
