//! The fields of an IDENTIFY, read from JSON.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

use super::Wanted;

/// The fields of an IDENTIFY, with types checked and values unchecked. Keys match in any case, the last duplicate
/// wins, and `null` sets nothing. Values of unknown keys are passed over without being stored: they may fill the body.
#[derive(Default)]
pub(super) struct Fields {
    pub(super) client_id: String,
    pub(super) hostname: String,
    pub(super) user_agent: String,
    pub(super) topology_region: String,
    pub(super) topology_zone: String,
    pub(super) feature_negotiation: bool,
    pub(super) heartbeat_interval: i64,
    pub(super) output_buffer_size: i64,
    pub(super) output_buffer_timeout: i64,
    pub(super) sample_rate: i32,
    pub(super) msg_timeout: i64,
    pub(super) wanted: Wanted,
}

impl Fields {
    /// Reads an object, or `null` for the empty one; `None` when the body is something else, or a field has the wrong
    /// type.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(body);
        serde_json::from_str::<Option<Self>>(&text).ok().map(Option::unwrap_or_default)
    }
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
        while let Some(mut key) = map.next_key::<String>()? {
            key.make_ascii_lowercase();
            take_field(&key, &mut map, &mut fields)?;
        }
        Ok(fields)
    }
}

fn take_field<'de, A: MapAccess<'de>>(
    key: &str,
    map: &mut A,
    fields: &mut Fields,
) -> Result<(), A::Error> {
    match key {
        "client_id" => take(map, &mut fields.client_id),
        "hostname" => take(map, &mut fields.hostname),
        "user_agent" => take(map, &mut fields.user_agent),
        "topology_region" => take(map, &mut fields.topology_region),
        "topology_zone" => take(map, &mut fields.topology_zone),
        "feature_negotiation" => take(map, &mut fields.feature_negotiation),
        "tls_v1" => take(map, &mut fields.wanted.tls),
        "snappy" => take(map, &mut fields.wanted.snappy),
        "deflate" => take(map, &mut fields.wanted.deflate),
        "deflate_level" => take(map, &mut fields.wanted.deflate_level),
        "heartbeat_interval" => take(map, &mut fields.heartbeat_interval),
        "output_buffer_size" => take(map, &mut fields.output_buffer_size),
        "output_buffer_timeout" => take(map, &mut fields.output_buffer_timeout),
        "sample_rate" => take(map, &mut fields.sample_rate),
        "msg_timeout" => take(map, &mut fields.msg_timeout),
        _ => map.next_value::<IgnoredAny>().map(drop),
    }
}

/// Takes the value of a key, unless it is `null`.
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

    #[test]
    fn the_last_duplicate_wins_in_whatever_case() {
        let body = br#"{"client_id":"a","CLIENT_ID":"b","Client_Id":null,"msg_timeout":1,"msg_timeout":2}"#;
        let fields = Fields::parse(body).unwrap();
        assert_eq!((fields.client_id.as_str(), fields.msg_timeout), ("b", 2));
    }

    #[test]
    fn values_of_unknown_keys_are_json_of_any_depth() {
        let deep = format!(r#"{{"x":{}{},"client_id":"a"}}"#, "[".repeat(5000), "]".repeat(5000));
        assert_eq!(Fields::parse(deep.as_bytes()).unwrap().client_id, "a");
        for body in [&br#"{"x":[}"#[..], br#"{"x":nul}"#, br#"{"x":1 "y":2}"#, br#"{"x":"#] {
            assert!(Fields::parse(body).is_none(), "{}", body.escape_ascii());
        }
    }
}
