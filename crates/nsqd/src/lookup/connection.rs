//! A connection to nsqlookupd: commands out, one response each.

use std::{io, time::Duration};

use nsq_daemon::net::{Socket, host_name};
use nsq_protocol::{
    ClientError, MAGIC_V1,
    v1::{self, Command, ResponseError},
};
use serde::Deserialize;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, split},
    time::timeout,
};

use crate::{VERSION, node::Node};

/// The time limit for connecting, for a write and for each response.
const STEP_TIMEOUT: Duration = Duration::from_secs(1);
/// The time limit for a batch and its responses, so that a slow nsqlookupd does not delay the next PING for long.
const BATCH_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest response that is accepted.
const RESPONSE_BYTES_MAX: u32 = 64 << 10;
/// The longest text in a response to IDENTIFY that is accepted, and kept.
const FIELD_BYTES_MAX: usize = 256;

/// The response of nsqlookupd to IDENTIFY.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct PeerInfo {
    pub(super) tcp_port: u16,
    pub(super) http_port: u16,
    pub(super) version: String,
    pub(super) broadcast_address: String,
}

impl PeerInfo {
    /// Parses a response to IDENTIFY.
    fn parse(response: &[u8]) -> Result<Self, ConnectionError> {
        let info: Self = serde_json::from_slice(response).map_err(|_| {
            ConnectionError::Identity(String::from_utf8_lossy(response).into_owned())
        })?;
        let longest = info.version.len().max(info.broadcast_address.len());
        if longest > FIELD_BYTES_MAX { Err(ConnectionError::LongField(longest)) } else { Ok(info) }
    }

    /// The address of its HTTP API; `None` when it does not say.
    pub(super) fn http_address(&self) -> Option<String> {
        let (host, port) = (&self.broadcast_address, self.http_port);
        match host.as_str() {
            _ if port == 0 => None,
            "" => None,
            ipv6 if ipv6.contains(':') && !ipv6.starts_with('[') => {
                Some(format!("[{ipv6}]:{port}"))
            }
            host => Some(format!("{host}:{port}")),
        }
    }
}

/// Why a connection has to be closed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no response within {0:?}")]
    Timeout(Duration),
    #[error(transparent)]
    Response(#[from] ResponseError),
    #[error("refused: {0}")]
    Refused(ClientError),
    #[error("parsing response to IDENTIFY - {0}")]
    Identity(String),
    #[error("a text in the response to IDENTIFY has {0} bytes, more than {FIELD_BYTES_MAX}")]
    LongField(usize),
}

/// Commands that are sent in one write.
#[derive(Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    count: usize,
}

impl Batch {
    pub(super) fn push(&mut self, command: Command<'_>) {
        command.encode(&mut self.bytes);
        self.count += 1;
    }
}

/// A connection on which nsqd has identified itself.
pub(super) struct Connection(Socket);

impl Connection {
    /// Connects and identifies the node.
    pub(super) async fn open(
        node: &Node,
        address: &str,
    ) -> Result<(Self, PeerInfo), ConnectionError> {
        let socket = in_time(Socket::connect(address)).await?;
        socket.prepare()?;
        let mut connection = Self(socket);
        let mut hello = Batch { bytes: MAGIC_V1.to_vec(), count: 0 };
        hello.push(Command::Identify(identity(node).as_bytes()));
        let response = connection.send(&hello).await?;
        let info = PeerInfo::parse(&response)?;
        Ok((connection, info))
    }

    /// Sends a batch and reads the responses. Returns the last one.
    pub(super) async fn send(&mut self, batch: &Batch) -> Result<Vec<u8>, ConnectionError> {
        let (mut reader, mut writer) = split(&mut self.0);
        let write = in_time(writer.write_all(&batch.bytes));
        let read = async {
            let (mut input, mut last) = (Vec::new(), Vec::new());
            for _ in 0..batch.count {
                last = read_response(&mut reader, &mut input).await?;
            }
            Ok(last)
        };
        // Concurrently: nsqlookupd responds while it still receives, and neither side may block the other.
        match timeout(BATCH_TIMEOUT, async { tokio::try_join!(write, read) }).await {
            Ok(done) => done.map(|((), last)| last),
            Err(_) => Err(ConnectionError::Timeout(BATCH_TIMEOUT)),
        }
    }
}

async fn read_response(
    reader: &mut (impl AsyncReadExt + Unpin),
    input: &mut Vec<u8>,
) -> Result<Vec<u8>, ConnectionError> {
    loop {
        if let Some((data, used)) = v1::decode_response(input, RESPONSE_BYTES_MAX)? {
            if let Some(error) = v1::error_of(data) {
                return Err(ConnectionError::Refused(error));
            }
            let data = data.to_vec();
            input.drain(..used);
            return Ok(data);
        }
        if in_time(reader.read_buf(input)).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}

async fn in_time<T>(step: impl Future<Output = io::Result<T>>) -> Result<T, ConnectionError> {
    match timeout(STEP_TIMEOUT, step).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(ConnectionError::Timeout(STEP_TIMEOUT)),
    }
}

/// The body of IDENTIFY.
fn identity(node: &Node) -> String {
    let options = &node.services.options;
    let (tcp_port, http_port) = node.broadcast_ports();
    json!({
        "broadcast_address": options.broadcast_address,
        "hostname": host_name(),
        "http_port": http_port,
        "tcp_port": tcp_port,
        "topology_region": options.topology_region,
        "topology_zone": options.topology_zone,
        "version": VERSION,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_address_is_put_into_brackets() {
        let http_address = |host: &str| {
            let broadcast_address = host.to_owned();
            PeerInfo { broadcast_address, http_port: 4161, ..PeerInfo::default() }.http_address()
        };
        assert_eq!(http_address("").as_deref(), None);
        assert_eq!(http_address("lookup.example").as_deref(), Some("lookup.example:4161"));
        for host in ["fe80::1", "[fe80::1]"] {
            assert_eq!(http_address(host).as_deref(), Some("[fe80::1]:4161"));
        }
    }
}
