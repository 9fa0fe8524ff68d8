//! The address of an nsqlookupd, and the request that follows from it.

use hyper::Uri;

use crate::error::DiscoveryError;

const PATH_DEFAULT: &str = "/lookup";

/// An nsqlookupd and the request to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lookupd {
    /// `host:port`.
    pub(crate) authority: String,
    /// Path and query of the request.
    pub(crate) target: String,
}

impl Lookupd {
    /// Parses an address: `host:port`, or a URL whose path (`/lookup` by default) and parameters are kept, as proxies
    /// may need them.
    pub(crate) fn parse(address: &str, topic: &str) -> Result<Self, DiscoveryError> {
        let wrong = |reason| DiscoveryError::Address { address: address.to_owned(), reason };
        let url =
            if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        let uri: Uri = url.parse().map_err(|_| wrong("not a URL"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(wrong("https is not supported yet")),
            _ => return Err(wrong("not an http URL")),
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| wrong("no host"))?;
        let port = uri.port_u16().ok_or_else(|| wrong("missing port"))?;
        let path = match uri.path() {
            "" | "/" => PATH_DEFAULT,
            path => path,
        };
        let mut parameters = decode_query(uri.query().unwrap_or_default());
        parameters.push((b"topic".to_vec(), topic.as_bytes().to_vec()));
        // The sort is stable, so that values of one name keep their order.
        parameters.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Self {
            authority: format!("{host}:{port}"),
            target: format!("{path}?{}", encode_query(&parameters)),
        })
    }
}

type Parameters = Vec<(Vec<u8>, Vec<u8>)>;

fn decode_query(query: &str) -> Parameters {
    query
        .split('&')
        .filter(|parameter| !parameter.is_empty())
        .map(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            (decode(name), decode(value))
        })
        .collect()
}

fn encode_query(parameters: &Parameters) -> String {
    let encoded: Vec<_> = parameters
        .iter()
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect();
    encoded.join("&")
}

/// Decodes percent-encoding; invalid sequences stay as they are.
fn decode(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        let escaped = match (byte, tail) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match (byte, escaped) {
            (_, Some((high, low))) => {
                out.push(high << 4 | low);
                rest = &tail[2..];
            }
            (b'+', None) => out.push(b' '),
            (_, None) => out.push(byte),
        }
    }
    out
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_become_requests() {
        // L01
        for (address, authority, target) in [
            ("127.0.0.1:4161", "127.0.0.1:4161", "/lookup?topic=t"),
            ("http://h:1", "h:1", "/lookup?topic=t"),
            ("http://h:1/", "h:1", "/lookup?topic=t"),
            ("[::1]:4161", "[::1]:4161", "/lookup?topic=t"),
            ("h:1/proxy/find", "h:1", "/proxy/find?topic=t"),
            ("http://h:1/p?z=1&a=b", "h:1", "/p?a=b&topic=t&z=1"),
            ("h:1?topic=other", "h:1", "/lookup?topic=other&topic=t"),
            ("h:1?a=b%20c+d&e&f=%zz%2", "h:1", "/lookup?a=b+c+d&e=&f=%25zz%252&topic=t"),
        ] {
            let lookupd = Lookupd::parse(address, "t").unwrap();
            assert_eq!((&*lookupd.authority, &*lookupd.target), (authority, target), "{address}");
        }
        let ephemeral = Lookupd::parse("h:1/p?a=b", "t#ephemeral").unwrap();
        assert_eq!(ephemeral.target, "/p?a=b&topic=t%23ephemeral");
    }

    #[test]
    fn an_invalid_address_is_refused_with_the_reason() {
        // L01
        for (address, reason) in [
            ("h", "missing port"),
            ("http://h/lookup", "missing port"),
            ("https://h:1", "https is not supported yet"),
            ("ftp://h:1", "not an http URL"),
            ("", "not a URL"),
            ("a b:1", "not a URL"),
        ] {
            let error = Lookupd::parse(address, "t").unwrap_err();
            let expected = format!("invalid nsqlookupd address {address:?}: {reason}");
            assert_eq!(error.to_string(), expected);
        }
    }
}
