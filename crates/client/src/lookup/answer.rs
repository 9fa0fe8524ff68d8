//! The answer of an nsqlookupd, in the current format and the one before version 1.0.

use serde::Deserialize;

/// An nsqd that has the topic, as an nsqlookupd describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Discovered {
    /// The address to connect to: broadcast address and TCP port.
    pub address: String,
    /// The name of its host.
    pub hostname: String,
    /// Its version.
    pub version: String,
    /// Its region; empty if unknown.
    pub topology_region: String,
    /// Its zone within the region; empty if unknown.
    pub topology_zone: String,
}

/// The answer itself, or, before version 1.0, an object that wraps it as `data`.
#[derive(Deserialize)]
struct Body {
    producers: Option<Vec<Producer>>,
    data: Option<Data>,
    status_code: Option<u16>,
    #[serde(default)]
    status_txt: String,
}

#[derive(Deserialize)]
struct Data {
    producers: Option<Vec<Producer>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Producer {
    broadcast_address: String,
    /// Any number, so that one nsqd with a port that cannot be does not hide the others.
    tcp_port: i64,
    hostname: String,
    version: String,
    topology_region: String,
    topology_zone: String,
}

/// Parses `body` into the nsqds that it lists; the error tells what is wrong with it.
pub(super) fn parse(body: &[u8]) -> Result<Vec<Discovered>, String> {
    if body.is_empty() {
        return Ok(Vec::new());
    }
    let body: Body = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    match body.status_code {
        None | Some(200) => {}
        Some(404) => return Ok(Vec::new()),
        Some(code) => return Err(format!("status {code} {}", body.status_txt)),
    }
    let producers = body.producers.or_else(|| body.data?.producers).unwrap_or_default();
    let listed = producers.len();
    let nsqds: Vec<_> = producers.into_iter().filter_map(Producer::into_discovered).collect();
    if nsqds.len() < listed {
        let ignored = listed - nsqds.len();
        tracing::warn!(
            nsqds = ignored,
            "ignoring nsqds that nsqlookupd lists without a valid address"
        );
    }
    Ok(nsqds)
}

impl Producer {
    /// Returns `None` for an nsqd without a valid address.
    fn into_discovered(self) -> Option<Discovered> {
        let host = self.broadcast_address;
        let port = u16::try_from(self.tcp_port).ok()?;
        if host.is_empty() || port == 0 {
            return None;
        }
        let bare_ipv6 = host.contains(':') && !host.starts_with('[');
        Some(Discovered {
            address: if bare_ipv6 { format!("[{host}]:{port}") } else { format!("{host}:{port}") },
            hostname: self.hostname,
            version: self.version,
            topology_region: self.topology_region,
            topology_zone: self.topology_zone,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(body: &str) -> Vec<String> {
        parse(body.as_bytes()).unwrap().into_iter().map(|nsqd| nsqd.address).collect()
    }

    #[test]
    fn both_shapes_and_an_empty_body_are_read() {
        // L08, L10
        let producers = r#"{"channels":["c"],"producers":[
            {"broadcast_address":"a","tcp_port":4150,"http_port":4151,"hostname":"x"},
            {"broadcast_address":"::1","tcp_port":1,"remote_address":"y:5"},
            {"broadcast_address":"b","tcp_port":65536},{"broadcast_address":"c","tcp_port":-1},
            {"hostname":"nowhere"}]}"#;
        assert_eq!(addresses(producers), ["a:4150", "[::1]:1"]);
        let wrapped = format!(r#"{{"status_code":200,"status_txt":"OK","data":{producers}}}"#);
        assert_eq!(addresses(&wrapped), ["a:4150", "[::1]:1"]);
        for empty in ["", "{}", r#"{"producers":null}"#, r#"{"status_code":404,"data":null}"#] {
            assert!(addresses(empty).is_empty(), "{empty}");
        }
    }

    #[test]
    fn broken_bodies_and_failures_inside_are_errors() {
        for body in ["{", "[]x", r#"{"status_code":500,"status_txt":"BAD"}"#] {
            assert!(parse(body.as_bytes()).is_err(), "{body}");
        }
    }
}
