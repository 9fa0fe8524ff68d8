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

use crate::{VERSION, directory::Directory};

/// Parses the body of an IDENTIFY sent by `remote`.
///
/// # Errors
/// When it is not JSON of the right types, or lacks what consumers need to connect.
pub(crate) fn read(body: &[u8], remote: Remote) -> Result<Peer, ClientError> {
    let bad = |text: &str| ClientError::new(Code::BadBody, text);
    // Invalid UTF-8 is replaced rather than refused: a host name may hold any bytes.
    let text = String::from_utf8_lossy(body);
    let fields: Option<Fields> =
        serde_json::from_str(&text).map_err(|_| bad("IDENTIFY failed to decode JSON body"))?;
    let Some(Fields(mut peer)) = fields else { return Err(bad("IDENTIFY missing fields")) };
    let missing = peer.broadcast_address.is_empty()
        || peer.tcp_port == 0
        || peer.http_port == 0
        || peer.version.is_empty();
    if missing {
        return Err(bad("IDENTIFY missing fields"));
    }
    peer.remote_address = remote.to_string();
    Ok(peer)
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
        broadcast_address: &directory.broadcast_address,
        hostname: &host_name(),
        http_port: directory.http_port,
        tcp_port: directory.tcp_port,
        version: VERSION,
    };
    escape_html(serde_json::to_vec(&answer).expect("texts and numbers are always JSON"))
}

/// The fields of IDENTIFY. Names match in any case, the last duplicate wins, and `null` sets nothing.
struct Fields(Peer);

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
        let mut peer = Peer::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.to_ascii_lowercase().as_str() {
                "remote_address" => take(&mut map, &mut peer.remote_address)?,
                "hostname" => take(&mut map, &mut peer.hostname)?,
                "broadcast_address" => take(&mut map, &mut peer.broadcast_address)?,
                "tcp_port" => take(&mut map, &mut peer.tcp_port)?,
                "http_port" => take(&mut map, &mut peer.http_port)?,
                "version" => take(&mut map, &mut peer.version)?,
                "topology_zone" => take(&mut map, &mut peer.topology_zone)?,
                "topology_region" => take(&mut map, &mut peer.topology_region)?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Fields(peer))
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
        read(body.as_bytes(), remote.into()).map_err(|error| error.to_string())
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
