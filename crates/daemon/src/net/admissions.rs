//! The admission of a daemon's clients, over TCP and over HTTP.

use super::admission::{Admission, Full, Slots};

/// The most slots that clients over HTTP are guaranteed.
const HTTP_GUARANTEED_MAX: usize = 256;

/// The admission of a daemon's clients.
#[derive(Clone, Debug)]
pub struct Admissions {
    /// Of clients of the TCP port.
    pub tcp: Admission,
    /// Of clients of HTTP and HTTPS together.
    pub http: Admission,
}

impl Admissions {
    /// Admits `slots` clients in all, and of each kind as many as its limit says; a limit of 0 is none. TCP is guaranteed
    /// a quarter of the slots and HTTP an eighth, so that neither can lock out the other.
    pub fn new(slots: usize, tcp_max: usize, http_max: usize) -> Self {
        let shared = Slots::new(slots);
        let limit = |max| if max == 0 { usize::MAX } else { max };
        Self {
            tcp: shared.admission(limit(tcp_max), slots / 4),
            http: shared.admission(limit(http_max), (slots / 8).min(HTTP_GUARANTEED_MAX)),
        }
    }

    /// Calls `count` for every client that is refused, with the limit that it has reached.
    #[must_use]
    pub fn on_refusal(self, count: impl Fn(ClientLimit) + Clone + Send + Sync + 'static) -> Self {
        let counter = |of_kind| {
            let count = count.clone();
            move |full| {
                count(match full {
                    Full::Kind { .. } => of_kind,
                    Full::Process => ClientLimit::OpenFiles,
                });
            }
        };
        Self {
            tcp: self.tcp.on_refusal(counter(ClientLimit::Connections)),
            http: self.http.on_refusal(counter(ClientLimit::HttpConnections)),
        }
    }
}

/// The limit because of which a client was refused.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ClientLimit {
    /// That of TCP clients.
    Connections,
    /// That of HTTP clients.
    HttpConnections,
    /// The slots of the process, which follow from the limit on open files.
    OpenFiles,
}
