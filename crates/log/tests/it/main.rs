//! The promises of the log, each held through its public surface.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, helpers outside of test functions too"
)]
#![expect(clippy::drop_non_drop, reason = "where a closure must return nothing")]
#![expect(clippy::single_range_in_vec_init, reason = "lists of ranges are what is tested")]
#![expect(clippy::cast_possible_truncation, reason = "bodies are filled with low bytes")]

mod appending;
mod crash;
mod damage;
mod descriptors;
mod draining;
mod ephemeral;
mod figures;
mod golden;
mod import;
mod journal;
mod model;
mod node;
mod shortage;
mod store;
mod support;
mod waiting;
mod watched;
mod waypoints;
