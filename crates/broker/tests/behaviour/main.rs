//! The broker's promises, one sentence each.

#![expect(clippy::single_range_in_vec_init, reason = "lists of ranges are what is compared here")]

mod bounds;
mod delivery;
mod fairness;
mod figures;
mod in_flight;
mod journal;
mod support;
mod topic;
