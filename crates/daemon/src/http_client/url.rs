//! Addresses of HTTP servers and what is asked of them.

use std::{
    fmt::{self, Write},
    str::FromStr,
};

use hyper::Uri;

use crate::http::unescape;

/// The address of an HTTP or HTTPS resource. It shows without user and query, which may hold secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    is_https: bool,
    /// The `user:password` for the server.
    user: Option<String>,
    /// The `host`, or `host:port`, as it was given.
    address: String,
    path: String,
    query: Option<String>,
}

/// A text that is no address of an HTTP or HTTPS resource.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidUrl {
    /// The text is malformed.
    #[error("invalid URL")]
    Malformed,
    /// The scheme is missing, or neither `http` nor `https`.
    #[error("unsupported URL scheme (http, https)")]
    Scheme,
}

impl Url {
    /// Returns whether the resource is reached over TLS.
    pub(super) fn is_https(&self) -> bool {
        self.is_https
    }

    /// The server, as the URL names it: `host` or `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Adds a query behind what is there.
    #[must_use]
    pub fn with_query(mut self, query: &str) -> Self {
        match &mut self.query {
            None => self.query = Some(query.to_owned()),
            // NSQ adds a query in this way even to an address that has one, and servers rely on it.
            Some(present) => {
                present.push('?');
                present.push_str(query);
            }
        }
        self
    }

    /// The same resource over HTTPS, on another port of the server.
    pub(super) fn on_https_port(&self, port: u16) -> Self {
        Self { is_https: true, address: format!("{}:{port}", self.host()), ..self.clone() }
    }

    /// The URL in the `Location` header of an answer from this one: absolute, or a path on the same server.
    pub(super) fn redirected(&self, location: &str) -> Option<Self> {
        if !location.starts_with('/') || location.starts_with("//") {
            return location.parse().ok();
        }
        let (path, query) = match location.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (location, None),
        };
        Some(Self { path: path.to_owned(), query, ..self.clone() })
    }

    /// The host, in brackets if it is an IPv6 address.
    pub(super) fn host(&self) -> &str {
        // A colon in brackets is part of an IPv6 address.
        match self.address.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => host,
            _ => &self.address,
        }
    }

    /// The `host:port` to connect to.
    pub(super) fn endpoint(&self) -> String {
        if self.host().len() < self.address.len() {
            return self.address.clone();
        }
        format!("{}:{}", self.address, if self.is_https { 443 } else { 80 })
    }

    /// The value of the `Authorization` header, if the URL names a user.
    pub(super) fn authorization(&self) -> Option<String> {
        let user = self.user.as_ref()?;
        Some(format!("Basic {}", base64(user.as_bytes())))
    }

    /// The path and query of the request line.
    pub(super) fn target(&self) -> String {
        match &self.query {
            None => self.path.clone(),
            Some(query) => format!("{}?{query}", self.path),
        }
    }
}

impl FromStr for Url {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let uri: Uri = text.parse().map_err(|_| InvalidUrl::Malformed)?;
        let is_https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(InvalidUrl::Scheme),
        };
        let authority = uri.authority().ok_or(InvalidUrl::Malformed)?.as_str();
        let (user, address) = match authority.rsplit_once('@') {
            None => (None, authority),
            Some((user, address)) => {
                let user = unescape(user, false).map_err(|_| InvalidUrl::Malformed)?;
                // A password may be missing, its colon may not.
                let colon = if user.contains(':') { "" } else { ":" };
                (Some(user + colon), address)
            }
        };
        Ok(Self {
            is_https,
            user,
            address: address.to_owned(),
            path: uri.path().to_owned(),
            query: uri.query().map(str::to_owned),
        })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.address, self.path)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Appends a parameter to a query or form.
pub fn append_form(form: &mut String, key: &str, value: &[u8]) {
    if !form.is_empty() {
        form.push('&');
    }
    escape(form, key.as_bytes());
    form.push('=');
    escape(form, value);
}

fn escape(form: &mut String, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                form.push(char::from(byte));
            }
            b' ' => form.push('+'),
            // Writing to a String cannot fail.
            _ => drop(write!(form, "%{byte:02X}")),
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |i| u32::from(chunk.get(i).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) as usize & 63;
            text.push(if digit <= chunk.len() { char::from(DIGITS[index]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn a_url_names_a_server_and_a_target() {
        let plain = url("http://auth.example/a/b?x=1");
        assert_eq!(
            (plain.endpoint().as_str(), plain.target().as_str()),
            ("auth.example:80", "/a/b?x=1")
        );
        assert_eq!(url("https://auth.example").endpoint(), "auth.example:443");
        assert_eq!(url("https://auth.example").target(), "/");
        let v6 = url("http://[::1]:4180/auth");
        assert_eq!((v6.endpoint().as_str(), v6.host()), ("[::1]:4180", "[::1]"));
        assert_eq!(url("http://[::1]/").endpoint(), "[::1]:80");
    }

    #[test]
    fn other_schemes_are_refused() {
        for (text, error) in [
            ("ftp://x/", InvalidUrl::Scheme),
            ("/auth", InvalidUrl::Scheme),
            ("http://me:%x@x/", InvalidUrl::Malformed),
            ("http://a b/", InvalidUrl::Malformed),
            ("", InvalidUrl::Malformed),
        ] {
            assert_eq!(text.parse::<Url>(), Err(error), "{text}");
        }
    }

    #[test]
    fn a_user_is_told_to_the_server_and_not_shown() {
        let user = |text| url(text).authorization();
        assert_eq!(user("http://x/"), None);
        assert_eq!(user("http://me:pw@x:1/").as_deref(), Some("Basic bWU6cHc="));
        assert_eq!(user("http://me@x/").as_deref(), Some("Basic bWU6"));
        assert_eq!(user("http://m%40:p%C3%BC@x/").as_deref(), Some("Basic bUA6cMO8"));
        assert_eq!(url("http://me:pw@x:1/a").to_string(), "http://x:1/a");
        let redirected = |to| url("http://me:pw@x:1/a").redirected(to).unwrap().authorization();
        assert_eq!((redirected("/b").is_some(), redirected("http://y/b")), (true, None));
    }

    #[test]
    fn a_second_query_follows_another_question_mark() {
        assert_eq!(url("http://x/a").with_query("b=1").target(), "/a?b=1");
        assert_eq!(url("http://x/a?k=v").with_query("b=1").target(), "/a?k=v?b=1");
    }

    #[test]
    fn a_query_is_not_shown() {
        let url = url("http://x:1/a").with_query("secret=s");
        assert_eq!(format!("{url} {url:?}"), "http://x:1/a http://x:1/a");
    }

    #[test]
    fn redirects_lead_to_another_server_or_path() {
        let from = url("http://x:1/a?b");
        assert_eq!(from.redirected("https://y/z?q"), Some(url("https://y/z?q")));
        assert_eq!(from.redirected("/z"), Some(url("http://x:1/z")));
        assert_eq!(from.redirected("/z?q"), Some(url("http://x:1/z?q")));
        assert_eq!((from.redirected("z"), from.redirected("//y/z")), (None, None));
        assert_eq!(from.on_https_port(2).target(), "/a?b");
        assert_eq!(from.on_https_port(2).to_string(), "https://x:2/a");
    }

    #[test]
    fn form_values_are_escaped_byte_by_byte() {
        let mut form = String::new();
        append_form(&mut form, "a", b"");
        append_form(&mut form, "secret", b"a b&c=d/\xff~-_.*+%\0\"");
        assert_eq!(form, "a=&secret=a+b%26c%3Dd%2F%FF~-_.%2A%2B%25%00%22");
    }
}
