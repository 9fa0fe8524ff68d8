//! The limits of the registry, and refusals at them.

use std::time::Duration;

/// The settings of a registry.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The silence after which a producer is hidden.
    pub inactive_timeout: Duration,
    /// The time for which a tombstone hides a producer.
    pub tombstone_lifetime: Duration,
    /// Registrations of all producers, see [`Full::Registry`].
    pub registrations_max: usize,
    /// Registrations of one producer.
    pub registrations_per_producer_max: usize,
    /// Topics and channels without producers that stay known. Beyond that, those go that have been without for
    /// longest.
    pub orphans_max: usize,
    /// Tombstones, in force or expired.
    pub tombstones_max: usize,
}

impl Default for Settings {
    /// Limits that none of NSQ's daemons reaches.
    fn default() -> Self {
        Self {
            inactive_timeout: Duration::from_secs(300),
            tombstone_lifetime: Duration::from_secs(45),
            registrations_max: 2_000_000,
            registrations_per_producer_max: 500_000,
            orphans_max: 200_000,
            tombstones_max: 10_000,
        }
    }
}

/// The limit that a registration would exceed.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// The producer has as many registrations as one may have.
    #[error("the producer has {0} registrations, as many as one may have")]
    Producer(usize),
    /// All producers together have as many registrations as are allowed, and this producer has its share of them. One
    /// that has less is still served, so that others cannot lock it out; up to twice the limit may be registered
    /// that way.
    #[error("there are {0} registrations, and the producer has its share of them")]
    Registry(usize),
}

/// There are as many tombstones in force as are allowed.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are too many tombstones")]
pub struct TooManyTombstones;
