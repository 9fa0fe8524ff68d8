//! Honest clients that connect, want one thing, and leave.

use std::io;

use crate::{
    failure::Failure,
    hostile::{
        pair::Latencies,
        raid::Raid,
        visitor::{Visitor, http_request},
    },
    pace::{self, Pace},
};

/// One newcomer for so many messages of the honest publisher.
const EVERY: usize = 10;

/// Sends a newcomer every 10 ms, in turns one who publishes and one who asks for `/ping`. Those who are
/// refused are counted and have no latency.
///
/// # Errors
/// Returns the system's error.
pub(super) fn come_and_go(
    stay: &Raid<'_>,
    pace: Pace,
    messages: usize,
) -> Result<Latencies, Failure> {
    pace::exact_timers()?;
    let mut latencies = Vec::with_capacity(messages / EVERY);
    for (index, seq) in (0..messages).step_by(EVERY).enumerate() {
        pace.wait_for(seq);
        let outcome = if index % 2 == 0 { publish(stay) } else { ping(stay) };
        if outcome.is_ok() {
            latencies.push((seq, pace.latency(seq)));
        }
        stay.count(1, &outcome);
    }
    Ok(latencies)
}

fn publish(stay: &Raid<'_>) -> io::Result<()> {
    Visitor::client(stay)?.ask(b"PUB newcomers\n\0\0\0\x01x")
}

fn ping(stay: &Raid<'_>) -> io::Result<()> {
    Visitor::http(stay)?.request(&http_request("GET", "/ping", ""))
}
