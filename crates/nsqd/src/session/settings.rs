//! The settings of a connection, which IDENTIFY changes.

use std::time::Duration;

use nsq_broker::{ClientConfig, Distance};
use serde::Serialize;

use super::negotiate::Features;
use crate::{VERSION, options::Options, session::identify::Identify, topic::client::Compression};

/// The size NSQ gives a client's output buffer by default; only reported, since output here needs no buffer that
/// a message could be stuck in.
const OUTPUT_BUFFER_BYTES: i64 = 16 << 10;

/// The settings of a connection. A later IDENTIFY changes what it names and leaves the rest.
pub(super) struct Settings {
    msg_timeout: Duration,
    sample_rate: i32,
    distance: Distance,
    /// `None` for no buffer.
    buffer_bytes: Option<i64>,
    /// `None` for no flush by time.
    buffer_timeout: Option<Duration>,
}

/// The answer to a client that negotiates features; its keys stand in this order on the wire.
#[derive(Debug, Serialize)]
pub(super) struct Negotiation<'a> {
    max_rdy_count: u64,
    version: &'static str,
    max_msg_timeout: u128,
    msg_timeout: u128,
    tls_v1: bool,
    deflate: bool,
    deflate_level: i64,
    max_deflate_level: i64,
    snappy: bool,
    sample_rate: i32,
    auth_required: bool,
    output_buffer_size: i64,
    output_buffer_timeout: u128,
    topology_region: &'a str,
    topology_zone: &'a str,
}

impl Settings {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            msg_timeout: options.msg_timeout,
            sample_rate: 0,
            distance: Distance::Global,
            buffer_bytes: Some(OUTPUT_BUFFER_BYTES),
            buffer_timeout: Some(options.output_buffer_timeout),
        }
    }

    pub(super) fn update(&mut self, identify: &Identify, options: &Options) {
        self.msg_timeout = identify.msg_timeout.unwrap_or(self.msg_timeout);
        self.sample_rate = identify.sample_rate;
        self.distance = identify.distance(options);
        self.buffer_bytes = identify.output_buffer_bytes.over(self.buffer_bytes);
        self.buffer_timeout = identify.output_buffer_timeout.over(self.buffer_timeout);
        if self.buffer_bytes.is_none() {
            // Without a buffer there is nothing to flush in time either.
            self.buffer_timeout = None;
        }
    }

    /// The settings that matter to a channel.
    pub(super) fn as_consumer(&self) -> ClientConfig {
        ClientConfig {
            msg_timeout: self.msg_timeout,
            sample_rate: u8::try_from(self.sample_rate).unwrap_or(0),
            distance: self.distance,
        }
    }

    pub(super) fn negotiation<'a>(
        &self,
        features: &Features,
        options: &'a Options,
    ) -> Negotiation<'a> {
        Negotiation {
            max_rdy_count: options.limits.rdy_count_max,
            version: VERSION,
            max_msg_timeout: options.max_msg_timeout.as_millis(),
            msg_timeout: self.msg_timeout.as_millis(),
            tls_v1: features.tls,
            deflate: matches!(features.compression, Some(Compression::Deflate(_))),
            deflate_level: features.deflate_level,
            max_deflate_level: options.max_deflate_level,
            snappy: matches!(features.compression, Some(Compression::Snappy)),
            sample_rate: self.sample_rate,
            auth_required: !options.auth_http_addresses.is_empty(),
            output_buffer_size: self.buffer_bytes.unwrap_or(1),
            output_buffer_timeout: self.buffer_timeout.map_or(0, |timeout| timeout.as_millis()),
            topology_region: &options.topology_region,
            topology_zone: &options.topology_zone,
        }
    }
}
