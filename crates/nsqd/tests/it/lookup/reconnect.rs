//! Connections to nsqlookupd that do not last.

use std::time::Duration;

use nsq_protocol::v1::encode_response;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::Instant,
};

use super::pair::{ask, start_nsqd};

/// A connection of nsqd, and the bytes on it that were not looked at yet.
struct Peer {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Peer {
    async fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = listener.accept().await.unwrap();
        Self { stream, input: Vec::new() }
    }

    /// Reads the magic and IDENTIFY. Returns the body.
    async fn identity(&mut self) -> String {
        let head = b"  V1IDENTIFY\n";
        while self.input.len() < head.len() + 4 {
            assert!(self.stream.read_buf(&mut self.input).await.unwrap() > 0);
        }
        assert_eq!(self.input[..head.len()], *head);
        let size = u32::from_be_bytes(*self.input[head.len()..].first_chunk().unwrap());
        let end = head.len() + 4 + usize::try_from(size).unwrap();
        while self.input.len() < end {
            assert!(self.stream.read_buf(&mut self.input).await.unwrap() > 0);
        }
        let body = String::from_utf8(self.input[head.len() + 4..end].to_vec()).unwrap();
        self.input.drain(..end);
        body
    }

    /// The next command, which is answered with `OK`.
    async fn command(&mut self) -> String {
        loop {
            if let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.input.drain(..=end).collect();
                self.respond(b"OK").await;
                return String::from_utf8(line[..end].to_vec()).unwrap();
            }
            assert!(self.stream.read_buf(&mut self.input).await.unwrap() > 0);
        }
    }

    async fn respond(&mut self, data: &[u8]) {
        let mut bytes = Vec::new();
        encode_response(data, &mut bytes);
        self.send(&bytes).await;
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    async fn expect_closed(mut self) {
        // A reset tells of the same.
        assert_eq!(self.stream.read_buf(&mut self.input).await.unwrap_or(0), 0);
    }
}

async fn listening() -> (TcpListener, std::net::SocketAddr, tempfile::TempDir) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (nsqd, folder) = start_nsqd(listener.local_addr().unwrap()).await;
    assert_eq!(ask(nsqd, "POST", "/topic/create?topic=t").await.0, 200);
    assert_eq!(ask(nsqd, "POST", "/topic/create?topic=u").await.0, 200);
    assert_eq!(ask(nsqd, "POST", "/channel/create?topic=u&channel=c").await.0, 200);
    (listener, nsqd, folder)
}

/// The next two commands, sorted.
async fn registrations(peer: &mut Peer) -> [String; 2] {
    let mut commands = [peer.command().await, peer.command().await];
    commands.sort();
    commands
}

#[tokio::test(start_paused = true)]
async fn an_identity_tells_the_node_by_seven_keys_in_their_order() {
    let (listener, nsqd, _folder) = listening().await;
    let identity = Peer::accept(&listener).await.identity().await;
    let keys = [
        "broadcast_address",
        "hostname",
        "http_port",
        "tcp_port",
        "topology_region",
        "topology_zone",
        "version",
    ];
    let places: Vec<_> = keys.iter().map(|key| identity.find(&format!("\"{key}\":"))).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{identity}");
    let identity: serde_json::Map<_, _> = serde_json::from_str(&identity).unwrap();
    assert_eq!(identity.len(), keys.len());
    assert_eq!(identity["http_port"], nsqd.port());
    assert_eq!(identity["version"], "1.3.0");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_answer_as_an_nsqlookupd_is_left_and_tried_again() {
    let (listener, ..) = listening().await;
    let mut long_version = Vec::new();
    let info = format!(r#"{{"version":"{}"}}"#, "1".repeat(257));
    encode_response(info.as_bytes(), &mut long_version);
    for answer in [
        &b"\0\0\0\x09E_INVALID"[..],
        b"\0\0\0\x02OK",
        b"\0\0\0\0",
        b"\x7f\xff\xff\xff{}",
        b"\xff\xff\xff\xff{}",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        // One byte more than 64 KiB.
        b"\0\x01\0\x01{}",
        &long_version,
    ] {
        let mut peer = Peer::accept(&listener).await;
        peer.identity().await;
        peer.send(answer).await;
        peer.expect_closed().await;
    }
    let mut peer = Peer::accept(&listener).await;
    peer.identity().await;
    peer.respond(b"{}").await;
    assert_eq!(registrations(&mut peer).await, ["REGISTER t", "REGISTER u c"]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_and_hangs_up_is_connected_to_less_and_less_often() {
    let (listener, ..) = listening().await;
    let mut hung_up = None;
    for pause_ms in [0, 250, 500, 1000, 2000, 4000, 8000, 15_000, 15_000] {
        let mut peer = Peer::accept(&listener).await;
        let paused = hung_up.map_or(Duration::ZERO, |at: Instant| at.elapsed());
        assert!(paused >= Duration::from_millis(pause_ms), "{paused:?} {pause_ms}");
        peer.identity().await;
        peer.respond(b"{}").await;
        assert_eq!(registrations(&mut peer).await, ["REGISTER t", "REGISTER u c"]);
        drop(peer);
        hung_up = Some(Instant::now());
    }
}

#[tokio::test(start_paused = true)]
async fn everything_is_registered_again_after_a_connection_broke() {
    let (listener, nsqd, _folder) = listening().await;
    for _ in 0..3 {
        let mut peer = Peer::accept(&listener).await;
        peer.identity().await;
        peer.respond(br#"{"tcp_port":1,"version":"1.3.0"}"#).await;
        assert_eq!(registrations(&mut peer).await, ["REGISTER t", "REGISTER u c"]);
    }
    // Publishing never depended on it.
    assert_eq!(ask(nsqd, "POST", "/topic/create?topic=alone").await.0, 200);
}
