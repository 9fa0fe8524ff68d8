//! `/stats` as text, for people and for scripts that read columns.

use std::{fmt, time::Duration};

use jiff::{Timestamp, tz::TimeZone};
use nsq_daemon::text::visible;
use nsq_options::duration;

use super::{ChannelStats, Connection, Stats, TopicStats};
use crate::version_line;

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let zone = TimeZone::try_system().unwrap_or(TimeZone::UTC);
        writeln!(f, "{}", version_line())?;
        writeln!(f, "start_time {}", local_time(self.start_time, &zone))?;
        writeln!(f, "uptime {}", duration::format(self.uptime))?;
        writeln!(f, "\nHealth: {}", visible(&self.health))?;
        if let Some(memory) = &self.memory {
            writeln!(f, "\nMemory:")?;
            for (name, value) in memory.rows() {
                writeln!(f, "   {name:<25}\t{value}")?;
            }
        }
        match self.topics.as_deref().unwrap_or_default() {
            [] => writeln!(f, "\nTopics: None")?,
            topics => {
                // Each topic ends the line before it first.
                write!(f, "\nTopics:")?;
                topics.iter().try_for_each(|topic| topic.write(f, self.now))?;
            }
        }
        match self.producers.as_deref().unwrap_or_default() {
            [] => writeln!(f, "\nProducers: None"),
            producers => {
                writeln!(f, "\nProducers:")?;
                producers.iter().try_for_each(|producer| {
                    f.write_str("   ")?;
                    producer.write(f, self.now)
                })
            }
        }
    }
}

impl TopicStats {
    fn write(&self, f: &mut fmt::Formatter<'_>, now: u64) -> fmt::Result {
        let Self { topic_name, depth, backend_depth, message_count, .. } = self;
        let latency = &self.e2e_processing_latency;
        let mark = if self.paused { "*P " } else { "   " };
        writeln!(
            f,
            "\n{mark}[{topic_name:<15}] depth: {depth:<5} be-depth: {backend_depth:<5} msgs: {message_count:<8} e2e%: {latency}",
        )?;
        self.channels.iter().try_for_each(|channel| channel.write(f, now))
    }
}

impl ChannelStats {
    fn write(&self, f: &mut fmt::Formatter<'_>, now: u64) -> fmt::Result {
        let Self { channel_name, depth, backend_depth, in_flight_count, deferred_count, .. } = self;
        let Self { requeue_count, timeout_count, message_count, .. } = self;
        let latency = &self.e2e_processing_latency;
        let mark = if self.paused { "   *P " } else { "      " };
        write!(f, "{mark}[{channel_name:<25}] depth: {depth:<5} be-depth: {backend_depth:<5} ")?;
        write!(
            f,
            "inflt: {in_flight_count:<4} def: {deferred_count:<4} re-q: {requeue_count:<5} "
        )?;
        writeln!(f, "timeout: {timeout_count:<5} msgs: {message_count:<8} e2e%: {latency}")?;
        self.clients.iter().flatten().try_for_each(|client| {
            f.write_str("        ")?;
            client.write(f, now)
        })
    }
}

impl Connection {
    fn write(&self, f: &mut fmt::Formatter<'_>, now: u64) -> fmt::Result {
        let port = self.remote_address.port().map_or_else(String::new, |port| port.to_string());
        let name = format!("{}:{port} {}", self.hostname, self.user_agent);
        // A client calls itself as it likes.
        write!(f, "[{} {:<21}] ", self.version, visible(&name))?;
        if self.pub_counts.is_empty() {
            let Self {
                state,
                in_flight_count,
                ready_count,
                finish_count,
                requeue_count,
                message_count,
                ..
            } = self;
            write!(
                f,
                "state: {state} inflt: {in_flight_count:<4} rdy: {ready_count:<4} fin: {finish_count:<8} "
            )?;
            write!(f, "re-q: {requeue_count:<8} msgs: {message_count:<8}")?;
        } else {
            let total: u64 = self.pub_counts.iter().map(|published| published.count).sum();
            let topics = self
                .pub_counts
                .iter()
                .map(|published| format!("{}={}", published.topic, published.count));
            write!(f, "msgs: {total:<8} topics: {}", topics.collect::<Vec<_>>().join(","))?;
        }
        let connected = Duration::from_secs(now.saturating_sub(self.connect_ts));
        writeln!(f, " connected: {}", duration::format(connected))
    }
}

/// A time as `2026-11-22T16:17:21+01:00`, with `Z` where local time is UTC.
fn local_time(seconds: u64, zone: &TimeZone) -> String {
    let at = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    let local = at.unwrap_or_default().to_zoned(zone.clone());
    let offset = match local.offset().seconds() {
        0 => "Z".to_owned(),
        _ => local.strftime("%:z").to_string(),
    };
    format!("{}{offset}", local.strftime("%Y-%m-%dT%H:%M:%S"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_local_and_utc_is_z() {
        let at = |hours| local_time(1_795_364_241, &TimeZone::fixed(jiff::tz::offset(hours)));
        assert_eq!(at(0), "2026-11-22T16:17:21Z");
        assert_eq!(at(9), "2026-11-23T01:17:21+09:00");
        assert_eq!(at(-8), "2026-11-22T08:17:21-08:00");
    }
}
