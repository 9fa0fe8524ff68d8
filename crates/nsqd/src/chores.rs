//! Work in the background that no client waits for: journals, flushes, retries, deadlines, health.

pub(crate) mod deadlines;
pub(crate) mod health;
pub(crate) mod keeper;
pub(crate) mod mender;
pub(crate) mod syncer;
