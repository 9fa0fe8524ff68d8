//! `/config/<option>`: what the options are, and the two that can be changed while nsqd runs.

use std::{sync::Arc, time::Duration};

use nsq_daemon::{
    http::{BodyError, Error, Request, Response, StatusCode},
    log::Level,
};
use nsq_log::Durability;
use serde_json::Value;

use super::json;
use crate::{lookup::Lookup, node::Node};

/// The owners of the options.
pub(super) struct Config {
    pub(super) node: Arc<Node>,
    pub(super) lookup: Arc<Lookup>,
}

pub(super) async fn show(config: Arc<Config>, request: Request) -> Result<Response, Error> {
    answer(&config, request.param("opt"))
}

pub(super) async fn change(config: Arc<Config>, mut request: Request) -> Result<Response, Error> {
    let limit = config.node.services.options.limits.message_bytes_max as usize;
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
            config.node.services.logger.change_level(level.ok_or_else(invalid)?);
        }
        "nsqlookupd_tcp_addresses" => {
            let addresses = serde_json::from_slice::<Option<Vec<String>>>(&body);
            config.lookup.replace(addresses.map_err(|_| invalid())?.unwrap_or_default());
        }
        _ => return Err(unknown()),
    }
    answer(&config, option)
}

/// The value of an option: text as it is, all else as JSON.
fn answer(config: &Config, option: &str) -> Result<Response, Error> {
    match value(config, option).ok_or_else(unknown)? {
        Value::String(text) => Ok(Response::text(text)),
        value => json(&value),
    }
}

fn unknown() -> Error {
    Error::bad_request("INVALID_OPTION")
}

/// The value of an option by its key in the configuration file.
fn value(config: &Config, option: &str) -> Option<Value> {
    let node = &config.node;
    let options = &node.services.options;
    let limits = &options.limits;
    Some(match option {
        "log_level" => node.services.logger.level().number().into(),
        "id" => options.node_id.into(),
        "tcp_address" => options.tcp_address.as_str().into(),
        "http_address" => options.http_address.as_str().into(),
        "broadcast_address" => options.broadcast_address.as_str().into(),
        "broadcast_tcp_port" => node.broadcast_ports().0.into(),
        "broadcast_http_port" => node.broadcast_ports().1.into(),
        "nsqlookupd_tcp_addresses" => config.lookup.addresses().into(),
        "http_client_connect_timeout" => nanos(options.http_client_connect_timeout),
        "http_client_request_timeout" => nanos(options.http_client_request_timeout),
        "data_path" => options.data_path.to_string_lossy().into(),
        "durability" => durability(options.durability).into(),
        "mem_queue_size" => options.mem_queue_size.into(),
        "mem_bytes" => options.mem_bytes.into(),
        "max_bytes_per_file" => options.max_bytes_per_file.into(),
        "sync_every" => options.sync_every.into(),
        "sync_timeout" => nanos(options.sync_timeout),
        "requeue_on_disconnect" => options.requeue_on_disconnect.into(),
        "msg_timeout" => nanos(options.msg_timeout),
        "max_msg_timeout" => nanos(options.max_msg_timeout),
        "max_msg_size" => limits.message_bytes_max.into(),
        "max_req_timeout" => nanos(options.max_req_timeout),
        "max_body_size" => limits.body_bytes_max.into(),
        "max_heartbeat_interval" => nanos(options.max_heartbeat_interval),
        "max_rdy_count" => limits.rdy_count_max.into(),
        "max_output_buffer_size" => options.max_output_buffer_size.into(),
        "max_output_buffer_timeout" => nanos(options.max_output_buffer_timeout),
        "min_output_buffer_timeout" => nanos(options.min_output_buffer_timeout),
        "output_buffer_timeout" => nanos(options.output_buffer_timeout),
        "max_deflate_level" => options.max_deflate_level.into(),
        "max_channel_consumers" => options.max_channel_consumers.into(),
        _ => return None,
    })
}

fn durability(durability: Durability) -> &'static str {
    match durability {
        Durability::Memory => "memory",
        Durability::Log => "log",
        Durability::Fsync => "fsync",
    }
}

/// Durations are integers of nanoseconds, of 64 bits.
fn nanos(duration: Duration) -> Value {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).into()
}
