//! The all-in-one NSQ binary.
fn main() {}
