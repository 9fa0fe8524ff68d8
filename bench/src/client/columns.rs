//! The columns of the table of clients.

/// The column of the client library on a multi-threaded runtime, as most programs use it.
pub(super) const RUST: &str = "rust";
/// The column of the client library on a single-threaded runtime.
pub(super) const RUST_ONE_THREAD: &str = "rust, 1 thread";
/// The column of the published Go client.
pub(super) const GO: &str = "go-nsq";
/// The column of the load generator.
pub(super) const RAW_COLUMN: &str = "raw";
