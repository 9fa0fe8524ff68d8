//! `/config/<option>`: the values of the options, and the two that can be changed while nsqd runs.

use std::{
    net::SocketAddr,
    sync::{Arc, LazyLock},
};

use nsq_daemon::{
    http::{BodyError, Error, Request, Response, StatusCode},
    log::Level,
    net::{Address, InvalidPort},
};
use nsq_options::{Table, Value};
use serde_json::Value as Json;

use super::json;
use crate::{
    lookup::Lookup,
    meters::Limit,
    node::Node,
    options::{HttpConfig, Options},
    statsd,
};

/// The nsqlookupds that one request may name: each gets a connection and a task.
const LOOKUPDS_MAX: usize = 64;

/// The largest change.
const BODY_BYTES_MAX: usize = 64 << 10;

/// The address of a client on a unix socket.
const REMOTE_UNIX: &str = "@";

/// The owners of the options.
pub(super) struct Config {
    pub(super) node: Arc<Node>,
    pub(super) lookup: Arc<Lookup>,
}

pub(super) async fn show(config: Arc<Config>, request: Request) -> Result<Response, Error> {
    answer(&config, request.param("opt"))
}

pub(super) async fn change(config: Arc<Config>, mut request: Request) -> Result<Response, Error> {
    let services = &config.node.services;
    if !may_change(services.options.shares.http_config, request.remote()) {
        return Err(Error::new(StatusCode::FORBIDDEN, "FORBIDDEN"));
    }
    let limit = BODY_BYTES_MAX.min(services.options.limits.message_bytes_max as usize);
    let body = match request.body_up_to(limit).await {
        Ok(body) if !body.is_empty() => body,
        Ok(_) | Err(BodyError::TooBig { .. }) => {
            return Err(Error::new(StatusCode::PAYLOAD_TOO_LARGE, "INVALID_VALUE"));
        }
        Err(error) => return Err(error.into()),
    };
    let option = request.param("opt");
    let invalid = || Error::bad_request("INVALID_VALUE");
    match option {
        "log_level" => {
            let level = std::str::from_utf8(&body).ok().and_then(|text| text.parse::<Level>().ok());
            services.logger.change_level(level.ok_or_else(invalid)?);
        }
        "nsqlookupd_tcp_addresses" => {
            let addresses = lookupds(&body).ok_or_else(invalid)?;
            if addresses.len() > LOOKUPDS_MAX {
                services.meters.reached(Limit::Lookupds);
                let remote = request.remote();
                let line =
                    format_args!("HTTP: {remote} names more than {LOOKUPDS_MAX} nsqlookupds");
                services.clients_log.error("too many nsqlookupds", line);
                return Err(invalid());
            }
            config.lookup.replace(addresses);
        }
        _ => return Err(unknown()),
    }
    answer(&config, option)
}

/// Returns whether a client at `remote` may change options.
fn may_change(config: HttpConfig, remote: &str) -> bool {
    let is_loopback = |address: SocketAddr| address.ip().to_canonical().is_loopback();
    match config {
        HttpConfig::On => true,
        HttpConfig::Loopback => remote == REMOTE_UNIX || remote.parse().is_ok_and(is_loopback),
        HttpConfig::Off => false,
    }
}

/// The addresses of nsqlookupds, each once; `None` if that is not what `json` lists.
fn lookupds(json: &[u8]) -> Option<Vec<String>> {
    let mut addresses: Vec<String> = Vec::new();
    for address in serde_json::from_slice::<Option<Vec<String>>>(json).ok()?.unwrap_or_default() {
        if !is_lookupd(&address) {
            return None;
        }
        // One more than allowed is enough to refuse them.
        if addresses.len() <= LOOKUPDS_MAX && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Some(addresses)
}

/// Returns whether one can connect to an address: a `host:port`, or a path with a slash.
fn is_lookupd(address: &str) -> bool {
    match Address::parse(address) {
        Ok(Address::Tcp { host, port }) => !host.is_empty() && port > 0,
        Ok(Address::Unix(_)) => address.contains('/'),
        Err(InvalidPort(_)) => false,
    }
}

/// The value of an option: text as it is, all else as JSON.
fn answer(config: &Config, option: &str) -> Result<Response, Error> {
    match value(config, option).ok_or_else(unknown)? {
        Json::String(text) => Ok(Response::text(text)),
        value => json(&value),
    }
}

fn unknown() -> Error {
    Error::bad_request("INVALID_OPTION")
}

/// The value of an option by its key in the configuration file. Some may have changed since the start, or depend on
/// the ports.
fn value(config: &Config, key: &str) -> Option<Json> {
    let node = &config.node;
    let services = &node.services;
    Some(match key {
        "log_level" => services.logger.level().number().into(),
        "log_prefix" => services.logger.prefix().into(),
        "log_format" => services.logger.format().name().into(),
        "log_rate" => services.logger.rate().into(),
        "nsqlookupd_tcp_addresses" => config.lookup.addresses().into(),
        "tls_required" => services.options.tls.required.number().into(),
        "tls_min_version" => services.options.tls.min_version.number().into(),
        "e2e_processing_latency_percentiles" => services.options.e2e_percentiles.as_slice().into(),
        "statsd_prefix" => statsd::prefix(node).into(),
        "broadcast_tcp_port" => node.broadcast_ports().0.into(),
        "broadcast_http_port" => node.broadcast_ports().1.into(),
        _ => to_json(TABLE.value(&services.options, key)?),
    })
}

static TABLE: LazyLock<Table<Options>> = LazyLock::new(Options::table);

/// Durations are nanoseconds, in 64 bits.
fn to_json(value: Value) -> Json {
    match value {
        Value::Bool(value) => value.into(),
        Value::Int(value) => value.into(),
        Value::Float(value) => value.into(),
        Value::Duration(value) => u64::try_from(value.as_nanos()).unwrap_or(u64::MAX).into(),
        Value::Text(value) => value.into(),
        Value::List(values) => values.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_taken_from_everywhere_from_the_machine_itself_or_from_nowhere() {
        let near = ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "@"];
        let far = ["10.0.0.1:1", "[fe80::1]:1", "[::ffff:10.0.0.1]:1", "128.0.0.1:1", ""];
        for remote in near.into_iter().chain(far) {
            assert!(may_change(HttpConfig::On, remote), "{remote}");
            assert_eq!(
                may_change(HttpConfig::Loopback, remote),
                near.contains(&remote),
                "{remote}"
            );
            assert!(!may_change(HttpConfig::Off, remote), "{remote}");
        }
    }
}
