//! The identity of a producer.

/// A producer, which is one connection: an nsqd that connects again is another producer.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerId(pub u64);

/// The description of a producer, from its IDENTIFY.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Peer {
    /// The remote address of its connection, `ip:port`.
    pub remote_address: String,
    /// Its host name.
    pub hostname: String,
    /// The address that consumers connect to.
    pub broadcast_address: String,
    /// The port that consumers connect to.
    pub tcp_port: u16,
    /// The port of its HTTP interface.
    pub http_port: u16,
    /// Its version.
    pub version: String,
    /// The zone it is in.
    pub topology_zone: String,
    /// The region it is in.
    pub topology_region: String,
}

impl Peer {
    /// Returns whether `node` is this producer's `broadcast_address:http_port`. An IPv6 address may be in brackets,
    /// as in URLs.
    pub fn is_node(&self, node: &str) -> bool {
        let Some((address, port)) = node.rsplit_once(':') else { return false };
        let bare = |address| {
            let inner = str::strip_prefix(address, '[')?;
            inner.strip_suffix(']')
        };
        let is_address = address == self.broadcast_address
            || bare(address).is_some_and(|address| address == self.broadcast_address);
        is_address && port == self.http_port.to_string()
    }
}
