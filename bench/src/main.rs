//! Side-by-side load generator.
fn main() {}
