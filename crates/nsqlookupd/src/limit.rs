//! The limits that a peer can reach, and how often each was reached.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The longest text in a field of IDENTIFY, in bytes.
pub(crate) const FIELD_BYTES_MAX: usize = 256;

/// Long answers over HTTP that are made at a time.
pub(crate) const LONG_ANSWERS_MAX: usize = 2;

/// Unread answers in memory, counted in answers of the largest size.
pub(crate) const ANSWERS_UNREAD_MAX: usize = 4;

/// A limit that a peer can reach. `docs/limits.md` has all of them.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Connections,
    HttpConnections,
    OpenFiles,
    Registrations,
    RegistrationsPerProducer,
    Orphans,
    Tombstones,
    CommandSize,
    FieldSize,
    CommandTimeout,
    IdentifyTimeout,
    AnswerSize,
    Answers,
}

impl Limit {
    pub(crate) const ALL: [Self; 13] = [
        Self::Connections,
        Self::HttpConnections,
        Self::OpenFiles,
        Self::Registrations,
        Self::RegistrationsPerProducer,
        Self::Orphans,
        Self::Tombstones,
        Self::CommandSize,
        Self::FieldSize,
        Self::CommandTimeout,
        Self::IdentifyTimeout,
        Self::AnswerSize,
        Self::Answers,
    ];

    /// The name of the limit in metrics: that of its flag, if it has one.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "max-connections",
            Self::HttpConnections => "max-http-connections",
            Self::OpenFiles => "open-files",
            Self::Registrations => "max-registrations",
            Self::RegistrationsPerProducer => "max-registrations-per-producer",
            Self::Orphans => "max-orphans",
            Self::Tombstones => "tombstones",
            Self::CommandSize => "command-size",
            Self::FieldSize => "field-size",
            Self::CommandTimeout => "command-timeout",
            Self::IdentifyTimeout => "identify-timeout",
            Self::AnswerSize => "max-answer-size",
            Self::Answers => "answers",
        }
    }
}

/// How often each limit was reached.
#[derive(Debug, Default)]
pub(crate) struct Reached([AtomicU64; Limit::ALL.len()]);

impl Reached {
    /// Counts that a limit was reached `times` times.
    pub(crate) fn count(&self, limit: Limit, times: u64) {
        self.0[limit as usize].fetch_add(times, Relaxed);
    }

    /// How often each limit was reached.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (Limit, u64)> {
        Limit::ALL.into_iter().zip(self.0.iter().map(|count| count.load(Relaxed)))
    }
}
