//! IDENTIFY: nsqd's description of itself, and the response.

use std::fmt;

use nsq_broker::registry::Peer;
use nsq_daemon::{
    json::escape_html,
    net::{Remote, host_name},
};
use nsq_protocol::{ClientError, Code};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IgnoredAny, MapAccess, Visitor},
};

use crate::{VERSION, directory::Directory, limit::FIELD_BYTES_MAX};

/// Why an IDENTIFY is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    /// It is not JSON of the right types.
    #[error("IDENTIFY failed to decode JSON body")]
    NotJson,
    /// It lacks a field that consumers need to connect.
    #[error("IDENTIFY missing fields")]
    MissingFields,
    /// It names a port that does not exist.
    #[error("IDENTIFY {0} is not a port: {1}")]
    BadPort(&'static str, i64),
    /// A text in it is too long.
    #[error("IDENTIFY {0} is longer than {FIELD_BYTES_MAX} bytes")]
    FieldTooLong(&'static str),
}

impl From<Unusable> for ClientError {
    fn from(error: Unusable) -> Self {
        Self::new(Code::BadBody, error.to_string())
    }
}

/// Parses the body of an IDENTIFY sent by `remote`.
///
/// # Errors
/// When consumers could not connect by it, or it takes more memory than it may.
pub(crate) fn read(body: &[u8], remote: Remote) -> Result<Peer, Unusable> {
    // Invalid UTF-8 is replaced rather than refused: a host name may hold any bytes.
    let text = String::from_utf8_lossy(body);
    let fields: Option<Fields> = serde_json::from_str(&text).map_err(|_| Unusable::NotJson)?;
    let fields = fields.ok_or(Unusable::MissingFields)?;
    let missing = fields.broadcast_address.is_empty()
        || fields.tcp_port == 0
        || fields.http_port == 0
        || fields.version.is_empty();
    if missing {
        return Err(Unusable::MissingFields);
    }
    Ok(Peer {
        remote_address: remote.to_string(),
        hostname: bounded("hostname", fields.hostname)?,
        broadcast_address: bounded("broadcast_address", fields.broadcast_address)?,
        tcp_port: port("tcp_port", fields.tcp_port)?,
        http_port: port("http_port", fields.http_port)?,
        version: bounded("version", fields.version)?,
        topology_zone: bounded("topology_zone", fields.topology_zone)?,
        topology_region: bounded("topology_region", fields.topology_region)?,
    })
}

fn bounded(name: &'static str, mut text: String) -> Result<String, Unusable> {
    if text.len() > FIELD_BYTES_MAX {
        return Err(Unusable::FieldTooLong(name));
    }
    text.shrink_to_fit();
    Ok(text)
}

fn port(name: &'static str, port: i64) -> Result<u16, Unusable> {
    u16::try_from(port).map_err(|_| Unusable::BadPort(name, port))
}

/// The response: the addresses of this nsqlookupd. nsqd queries its HTTP API when it creates a topic.
pub(crate) fn answer(directory: &Directory) -> Vec<u8> {
    #[derive(Serialize)]
    struct Answer<'a> {
        broadcast_address: &'a str,
        hostname: &'a str,
        http_port: u16,
        tcp_port: u16,
        version: &'a str,
    }
    let answer = Answer {
        broadcast_address: &directory.options.broadcast_address,
        hostname: &host_name(),
        http_port: directory.http_port,
        tcp_port: directory.tcp_port,
        version: VERSION,
    };
    escape_html(serde_json::to_vec(&answer).expect("texts and numbers are always JSON"))
}

/// The fields of IDENTIFY. Names match in any case, the last duplicate wins, and `null` sets nothing.
#[derive(Default)]
struct Fields {
    hostname: String,
    broadcast_address: String,
    tcp_port: i64,
    http_port: i64,
    version: String,
    topology_zone: String,
    topology_region: String,
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.to_ascii_lowercase().as_str() {
                "remote_address" => take(&mut map, &mut String::new())?,
                "hostname" => take(&mut map, &mut fields.hostname)?,
                "broadcast_address" => take(&mut map, &mut fields.broadcast_address)?,
                "tcp_port" => take(&mut map, &mut fields.tcp_port)?,
                "http_port" => take(&mut map, &mut fields.http_port)?,
                "version" => take(&mut map, &mut fields.version)?,
                "topology_zone" => take(&mut map, &mut fields.topology_zone)?,
                "topology_region" => take(&mut map, &mut fields.topology_region)?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(fields)
    }
}

fn take<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    map: &mut A,
    field: &mut T,
) -> Result<(), A::Error> {
    if let Some(value) = map.next_value()? {
        *field = value;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(body: &str) -> Result<Peer, String> {
        let remote = std::net::SocketAddr::from(([127, 0, 0, 1], 5));
        read(body.as_bytes(), remote.into()).map_err(|error| ClientError::from(error).to_string())
    }

    #[test]
    fn the_fields_are_read_and_the_address_is_that_of_the_connection() {
        let body = r#"{"broadcast_address":"b","hostname":"h","http_port":4151,"tcp_port":4150,"version":"1",
            "topology_zone":"z","topology_region":"r","remote_address":"10.0.0.1:1","new":[{}]}"#;
        let text = |text: &str| text.to_owned();
        let expected = Peer {
            remote_address: text("127.0.0.1:5"),
            hostname: text("h"),
            broadcast_address: text("b"),
            tcp_port: 4150,
            http_port: 4151,
            version: text("1"),
            topology_zone: text("z"),
            topology_region: text("r"),
        };
        assert_eq!(read_text(body), Ok(expected));
    }

    #[test]
    fn names_of_fields_are_known_in_any_case_and_the_last_wins() {
        let body = r#"{"Broadcast_Address":"a","broadcast_address":"b","BROADCAST_ADDRESS":null,
            "TCP_PORT":1,"http_port":2,"VERSION":"v"}"#;
        let peer = read_text(body).unwrap();
        assert_eq!((peer.broadcast_address.as_str(), peer.tcp_port), ("b", 1));
        assert_eq!(peer.hostname, "");
    }

    #[test]
    fn a_required_field_that_is_absent_empty_or_zero_is_missing() {
        let all = [
            ("broadcast_address", "\"b\"", "\"\""),
            ("tcp_port", "1", "0"),
            ("http_port", "1", "0"),
            ("version", "\"v\"", "null"),
        ];
        let body = |without: usize, empty: bool| {
            let field = |(i, (name, value, nothing)): (usize, &(&str, &str, &str))| match i {
                i if i != without => Some(format!("\"{name}\":{value}")),
                _ => empty.then(|| format!("\"{name}\":{nothing}")),
            };
            let fields: Vec<_> = all.iter().enumerate().filter_map(field).collect();
            format!("{{{}}}", fields.join(","))
        };
        assert!(read_text(&body(4, false)).is_ok());
        let missing = Err("E_BAD_BODY IDENTIFY missing fields".to_owned());
        for without in 0..4 {
            assert_eq!(read_text(&body(without, false)), missing);
            assert_eq!(read_text(&body(without, true)), missing);
        }
        assert_eq!(read_text("null"), missing);
        assert_eq!(read_text("{}"), missing);
    }

    #[test]
    fn a_text_over_256_bytes_is_refused_by_the_name_of_its_field() {
        let names =
            ["broadcast_address", "hostname", "version", "topology_zone", "topology_region"];
        for name in names {
            let read_long = |bytes: usize| {
                let text = "x".repeat(bytes);
                let body = r#"{"broadcast_address":"b","http_port":1,"tcp_port":1,"version":"v","#;
                read_text(&format!("{body}\"{name}\":\"{text}\"}}"))
            };
            assert!(read_long(256).is_ok());
            let text = format!("E_BAD_BODY IDENTIFY {name} is longer than 256 bytes");
            assert_eq!(read_long(257), Err(text));
        }
    }

    #[test]
    fn a_port_is_between_1_and_65535() {
        for (port, is_port) in [(-1, false), (1, true), (65535, true), (65536, false)] {
            for name in ["tcp_port", "http_port"] {
                let body = format!(
                    r#"{{"broadcast_address":"b","version":"v","tcp_port":1,"http_port":1,"{name}":{port}}}"#
                );
                let error = format!("E_BAD_BODY IDENTIFY {name} is not a port: {port}");
                assert_eq!(read_text(&body).err(), (!is_port).then_some(error));
            }
        }
    }

    #[test]
    fn what_is_not_an_object_of_the_right_types_is_not_decoded() {
        for body in [
            "",
            "{",
            "[]",
            "1",
            "\"x\"",
            "{}x",
            r#"{"tcp_port":"4150"}"#,
            r#"{"tcp_port":4150.5}"#,
            r#"{"http_port":99999999999999999999}"#,
            r#"{"version":1}"#,
            r#"{"hostname":["h"]}"#,
            r#"{"remote_address":1}"#,
        ] {
            let text = "E_BAD_BODY IDENTIFY failed to decode JSON body";
            assert_eq!(read_text(body), Err(text.to_owned()), "{body}");
        }
    }
}
