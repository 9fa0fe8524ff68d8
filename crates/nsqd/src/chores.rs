//! Background work that no client waits for: a queue for threads that may block, deadlines, and the disk's health.
//!
//! This floor knows neither topics nor channels: work comes as closures and through a one-method trait.

pub(crate) mod deadlines;
pub(crate) mod health;
pub(crate) mod queue;
