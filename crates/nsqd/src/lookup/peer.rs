//! nsqd as a client of nsqlookupd: it tells each of them which topics and channels it has.
//!
//! A peer is one task. It keeps what it has told its nsqlookupd and, when the node's topics change, tells the
//! difference; so nothing queues up for a peer that is slow or away, and a peer that comes back is told everything
//! at once. Nothing else ever waits for a peer.

use std::{collections::BTreeSet, io, sync::Arc, time::Duration};

use nsq_protocol::{
    MAGIC_V1,
    v1::{Command, ResponseError, decode_response},
};
use serde::Deserialize;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    time::timeout,
};

use crate::{VERSION, node::Node};

/// How long connecting, and each answer, may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often a peer is asked whether it is still there, and how long a lost one is left alone at most.
const PING_INTERVAL: Duration = Duration::from_secs(15);
/// How long a lost peer is left alone at first; doubled up to [`PING_INTERVAL`].
const RECONNECT_MIN: Duration = Duration::from_millis(250);
/// How long changes gather before a peer is told.
const GATHER: Duration = Duration::from_millis(10);
/// The longest answer of a peer that is read.
const ANSWER_BYTES_MAX: u32 = 5 << 20;

/// A topic, or a channel of it.
type Registration = (String, Option<String>);

/// What an nsqlookupd says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct PeerInfo {
    pub(crate) tcp_port: u16,
    pub(crate) http_port: u16,
    pub(crate) version: String,
    pub(crate) broadcast_address: String,
}

/// Why a peer has to be connected to again.
#[derive(Debug, thiserror::Error)]
enum PeerError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no answer within {PATIENCE:?}")]
    Timeout,
    #[error(transparent)]
    Answer(#[from] ResponseError),
    #[error("refused IDENTIFY: {0}")]
    Refused(String),
}

/// Keeps one nsqlookupd informed until dropped. `info` holds what the peer said while it is connected.
pub(crate) async fn run(node: Arc<Node>, address: String, info: watch::Sender<Option<PeerInfo>>) {
    let mut changes = node.services.lookup.registrations();
    let mut pause = RECONNECT_MIN;
    loop {
        node.services.logger.info(format_args!("LOOKUP connecting to {address}"));
        let error = match Peer::connect(&node, &address).await {
            Ok((mut peer, peer_info)) => {
                node.services
                    .logger
                    .info(format_args!("LOOKUPD({address}): peer info {peer_info:?}"));
                if peer_info.broadcast_address.is_empty() {
                    node.services
                        .logger
                        .error(format_args!("LOOKUPD({address}): no broadcast address"));
                }
                info.send_replace(Some(peer_info));
                pause = RECONNECT_MIN;
                let error = peer.keep(&node, &mut changes).await;
                info.send_replace(None);
                error
            }
            Err(error) => error,
        };
        node.services.logger.error(format_args!("LOOKUPD({address}): {error}"));
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PING_INTERVAL);
    }
}

/// A connection to an nsqlookupd.
struct Peer {
    stream: TcpStream,
    told: BTreeSet<Registration>,
}

impl Peer {
    async fn connect(node: &Node, address: &str) -> Result<(Self, PeerInfo), PeerError> {
        let stream = patiently(TcpStream::connect(address)).await?;
        stream.set_nodelay(true)?;
        let mut peer = Self { stream, told: BTreeSet::new() };
        let options = &node.services.options;
        let (tcp_port, http_port) = node.broadcast_ports();
        let body = json!({
            "broadcast_address": options.broadcast_address,
            "hostname": crate::options::host_name(),
            "http_port": http_port,
            "tcp_port": tcp_port,
            "topology_region": "",
            "topology_zone": "",
            "version": VERSION,
        })
        .to_string();
        let mut hello = MAGIC_V1.to_vec();
        Command::Identify(body.as_bytes()).encode(&mut hello);
        let answer = peer.exchange(&hello, 1).await?;
        let info = serde_json::from_slice(&answer)
            .map_err(|_| PeerError::Refused(String::from_utf8_lossy(&answer).into_owned()))?;
        Ok((peer, info))
    }

    /// Tells what there is to tell until the connection fails.
    async fn keep(&mut self, node: &Node, changes: &mut watch::Receiver<u64>) -> PeerError {
        loop {
            changes.mark_unchanged();
            if let Err(error) = self.tell(registrations(node)).await {
                return error;
            }
            let result = tokio::select! {
                changed = gathered(changes) => changed,
                () = tokio::time::sleep(PING_INTERVAL) => self.ping().await,
            };
            if let Err(error) = result {
                return error;
            }
        }
    }

    /// Sends the difference between what the peer knows and `now`, in one write, and reads the answers.
    async fn tell(&mut self, now: BTreeSet<Registration>) -> Result<(), PeerError> {
        let (mut commands, mut count) = (Vec::new(), 0);
        let gone: Vec<_> = self.told.difference(&now).collect();
        // A channel before its topic: a topic that is unregistered takes its channels along.
        for (topic, channel) in gone.into_iter().rev() {
            Command::Unregister { topic, channel: channel.as_deref() }.encode(&mut commands);
            count += 1;
        }
        for (topic, channel) in now.difference(&self.told) {
            // A channel registers its topic too.
            let implied = channel.is_none() && has_channel(&now, topic);
            if !implied {
                Command::Register { topic, channel: channel.as_deref() }.encode(&mut commands);
                count += 1;
            }
        }
        if count > 0 {
            self.exchange(&commands, count).await?;
        }
        self.told = now;
        Ok(())
    }

    async fn ping(&mut self) -> Result<(), PeerError> {
        let mut ping = Vec::new();
        Command::Ping.encode(&mut ping);
        self.exchange(&ping, 1).await.map(|_| ())
    }

    /// Sends commands and reads their answers; gives back the last one.
    async fn exchange(&mut self, commands: &[u8], answers: usize) -> Result<Vec<u8>, PeerError> {
        let (mut reader, mut writer) = self.stream.split();
        // Both at once: a peer that answers while it is still being told must not be blocked by us.
        let write = async { patiently(writer.write_all(commands)).await };
        let read = async {
            let (mut input, mut answer) = (Vec::new(), Vec::new());
            for _ in 0..answers {
                loop {
                    if let Some((data, used)) = decode_response(&input, ANSWER_BYTES_MAX)? {
                        answer = data.to_vec();
                        input.drain(..used);
                        break;
                    }
                    if patiently(reader.read_buf(&mut input)).await? == 0 {
                        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                    }
                }
            }
            Ok(answer)
        };
        let ((), answer) = tokio::try_join!(write, read)?;
        Ok(answer)
    }
}

/// Waits for a change, and a moment longer: topics and channels often come in flocks.
async fn gathered(changes: &mut watch::Receiver<u64>) -> Result<(), PeerError> {
    changes.changed().await.map_err(io::Error::other)?;
    tokio::time::sleep(GATHER).await;
    Ok(())
}

async fn patiently<T>(step: impl Future<Output = io::Result<T>>) -> Result<T, PeerError> {
    match timeout(PATIENCE, step).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(PeerError::Timeout),
    }
}

fn has_channel(registrations: &BTreeSet<Registration>, topic: &str) -> bool {
    let after_topic = (topic.to_owned(), Some(String::new()));
    registrations.range(after_topic..).next().is_some_and(|(name, _)| name == topic)
}

/// Everything there is to register, ephemeral topics and channels too.
fn registrations(node: &Node) -> BTreeSet<Registration> {
    let mut all = BTreeSet::new();
    for topic in node.all_topics().iter().filter(|topic| !topic.is_exiting()) {
        let name = topic.name.as_str();
        all.insert((name.to_owned(), None));
        for channel in topic.channels().iter().filter(|channel| !channel.is_exiting()) {
            all.insert((name.to_owned(), Some(channel.name.to_string())));
        }
    }
    all
}
