//! Queries to nsqlookupd: which nsqds have a topic.

mod address;
mod answer;
mod query;

pub(crate) use self::{address::Lookupd, query::lookup};
pub use self::{answer::Discovered, query::LookupError};
