//! The options of `/metrics`.

/// The options of `/metrics`.
#[derive(Copy, Clone, Debug)]
pub struct MetricsOptions {
    /// `--metrics-per-topic`: the topics and channels that have series of their own.
    pub per_topic: PerTopic,
    /// `--metrics-series-max`: the most such series, so that a flood of topics cannot flood whoever stores them.
    pub series_max: usize,
}

/// The topics and channels that have series of their own in `/metrics`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum PerTopic {
    /// None: there are only figures of the whole node.
    None,
    /// Those that are not ephemeral. Ephemeral ones often have a name that is used once.
    Durable,
    /// All.
    All,
}

impl PerTopic {
    /// The choices by name.
    pub(super) const WORDS: [(&'static str, Self); 3] =
        [("none", Self::None), ("durable", Self::Durable), ("all", Self::All)];
}

impl Default for MetricsOptions {
    fn default() -> Self {
        Self { per_topic: PerTopic::Durable, series_max: 20_000 }
    }
}
