//! Snappy and deflate, against an nsqd with an implementation of its own.

use std::{
    io::{Cursor, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use nsq_client::{Config, ConfigError, ConnectError, Consumer, Producer, identify};
use nsq_protocol::{FrameType, encode_frame};
use serde_json::Value;
use snap::{read::FrameDecoder, write::FrameEncoder};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};

use crate::support::{Nsqd, Peer, Stream, error, fin, ok, soon};

#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) enum Method {
    Deflate(u8),
    Snappy,
}

pub(crate) const METHODS: [Method; 4] =
    [Method::Deflate(1), Method::Deflate(6), Method::Deflate(9), Method::Snappy];

impl Method {
    /// Returns `config` with this compression requested.
    pub(crate) fn asked_for(self, config: Config) -> Config {
        match self {
            Self::Deflate(deflate_level) => Config { deflate: true, deflate_level, ..config },
            Self::Snappy => Config { snappy: true, ..config },
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Deflate(_) => "deflate",
            Self::Snappy => "snappy",
        }
    }

    fn packer(self) -> Packer {
        match self {
            Self::Deflate(level) => {
                Packer::Deflate(Box::new(Compress::new(Compression::new(level.into()), false)))
            }
            Self::Snappy => Packer::Snappy(Box::new(FrameEncoder::new(Vec::new()))),
        }
    }
}

/// nsqd's compressor, which makes a block of every call.
enum Packer {
    Deflate(Box<Compress>),
    Snappy(Box<FrameEncoder<Vec<u8>>>),
}

impl Packer {
    fn pack(&mut self, plain: &[u8]) -> Vec<u8> {
        match self {
            Self::Deflate(compress) => {
                let mut packed = Vec::with_capacity(plain.len() * 2 + 100);
                compress.compress_vec(plain, &mut packed, FlushCompress::Sync).unwrap();
                packed
            }
            Self::Snappy(encoder) => {
                encoder.write_all(plain).unwrap();
                encoder.flush().unwrap();
                std::mem::take(encoder.get_mut())
            }
        }
    }
}

/// An nsqd's end of a compressed connection. Counts the blocks that the client sends.
fn compressed(
    stream: Box<dyn Stream>,
    method: Method,
    mut packer: Packer,
) -> (DuplexStream, Arc<AtomicUsize>) {
    let (plain, inner) = duplex(1 << 20);
    let (mut packed_in, mut packed_out) = split(stream);
    let (mut plain_out, mut plain_in) = split(inner);
    let blocks = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&blocks);
    tokio::spawn(async move {
        match method {
            Method::Deflate(_) => inflate(&mut packed_in, &mut plain_in, &count).await,
            Method::Snappy => unsnap(&mut packed_in, &mut plain_in, &count).await,
        }
        let _ = plain_in.shutdown().await;
    });
    tokio::spawn(async move {
        let mut plain = Vec::new();
        while plain_out.read_buf(&mut plain).await.is_ok_and(|n| n > 0) {
            if packed_out.write_all(&packer.pack(&plain)).await.is_err() {
                break;
            }
            let _ = packed_out.flush().await;
            plain.clear();
        }
    });
    (plain, blocks)
}

async fn inflate(
    packed: &mut (impl AsyncReadExt + Unpin),
    plain: &mut (impl AsyncWriteExt + Unpin),
    blocks: &AtomicUsize,
) {
    let mut decompress = Decompress::new(false);
    let mut input = Vec::new();
    while packed.read_buf(&mut input).await.is_ok_and(|n| n > 0) {
        // A sync flush ends in an empty stored block.
        let flushes = input.windows(4).filter(|window| window == b"\0\0\xff\xff").count();
        blocks.fetch_add(flushes, Ordering::Relaxed);
        loop {
            let mut output = Vec::with_capacity(1 << 16);
            let before = decompress.total_in();
            decompress.decompress_vec(&input, &mut output, FlushDecompress::None).unwrap();
            input.drain(..usize::try_from(decompress.total_in() - before).unwrap());
            if output.is_empty() || plain.write_all(&output).await.is_err() {
                break;
            }
        }
    }
}

async fn unsnap(
    packed: &mut (impl AsyncReadExt + Unpin),
    plain: &mut (impl AsyncWriteExt + Unpin),
    blocks: &AtomicUsize,
) {
    let mut decoder = FrameDecoder::new(Cursor::new(Vec::new()));
    let mut head = [0; 4];
    while packed.read_exact(&mut head).await.is_ok() {
        let mut chunk = head.to_vec();
        chunk.resize(4 + u32::from_le_bytes([head[1], head[2], head[3], 0]) as usize, 0);
        packed.read_exact(&mut chunk[4..]).await.unwrap();
        blocks.fetch_add(1, Ordering::Relaxed);
        *decoder.get_mut() = Cursor::new(chunk);
        let mut output = Vec::new();
        decoder.read_to_end(&mut output).unwrap();
        if plain.write_all(&output).await.is_err() {
            return;
        }
    }
}

/// Continues compressed after the answer to IDENTIFY. `answer` and the first compressed frame are sent in one write.
pub(crate) async fn compress(
    peer: Peer,
    method: Method,
    answer: &[u8],
) -> (Peer, Arc<AtomicUsize>) {
    let mut packer = method.packer();
    let mut confirmation = Vec::new();
    encode_frame(FrameType::Response, b"OK", &mut confirmation);
    let mut first = answer.to_vec();
    first.extend(packer.pack(&confirmation));
    let mut peer = peer;
    peer.raw(&first).await;
    let mut count = None;
    let peer = peer.upgraded(async |stream| {
        let (stream, blocks) = compressed(stream, method, packer);
        count = Some(blocks);
        stream
    });
    (peer.await, count.unwrap())
}

fn frame(data: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_frame(FrameType::Response, data, &mut frame);
    frame
}

/// The next connection, identified and compressed.
async fn accept(nsqd: &Nsqd, method: Method) -> (Peer, Arc<AtomicUsize>) {
    let mut peer = nsqd.accept().await;
    peer.magic().await;
    peer.said(&["IDENTIFY"]).await;
    let asked: Value = serde_json::from_slice(peer.identify()).unwrap();
    assert_eq!(asked["deflate"], method != Method::Snappy);
    assert_eq!(asked["snappy"], method == Method::Snappy);
    let answer = format!(r#"{{"max_rdy_count":2500,"{}":true}}"#, method.name());
    compress(peer, method, &frame(answer.as_bytes())).await
}

#[tokio::test]
async fn a_compressed_consumer_gets_and_finishes_messages() {
    // H09, H10
    for method in METHODS {
        let nsqd = Nsqd::start().await;
        let config = method.asked_for(Config { max_in_flight: 100, ..Config::default() });
        let consumer = Consumer::builder("t", "c").config(config).handler(ok).build().unwrap();
        let serve = async {
            let (mut peer, _) = accept(&nsqd, method).await;
            peer.said(&["SUB t c"]).await;
            peer.respond(b"OK").await;
            peer.said(&["RDY 100"]).await;
            peer.messages(1..=100).await;
            for number in 1..=100 {
                peer.said(&[&fin(number)]).await;
            }
            peer.says_nothing().await;
        };
        let connecting = consumer.connect_to_nsqd(nsqd.address());
        soon(async { tokio::join!(connecting, serve) }).await.0.unwrap();
    }
}

#[tokio::test]
async fn a_compressed_producer_publishes_bodies_of_every_size() {
    // H09
    for method in METHODS {
        let nsqd = Nsqd::start().await;
        let config = method.asked_for(Config::default());
        let producer = Producer::new(nsqd.address(), config).unwrap();
        let bodies: Vec<_> = [1, 65_536, 1_000_000].map(|len| "x1y".repeat(len / 3 + 1)).into();
        let serve = async {
            let (mut peer, _) = accept(&nsqd, method).await;
            for body in &bodies {
                peer.said(&[&format!("PUB t {body}")]).await;
                peer.respond(b"OK").await;
            }
        };
        let publish = async {
            for body in &bodies {
                producer.publish("t", body.as_bytes()).await.unwrap();
            }
        };
        soon(async { tokio::join!(publish, serve) }).await;
    }
}

#[tokio::test]
async fn commands_that_are_written_together_share_a_compressed_block() {
    for method in METHODS {
        let nsqd = Nsqd::start().await;
        let config = method.asked_for(Config::default());
        let producer = Producer::new(nsqd.address(), config).unwrap();
        let serve = async {
            let (mut peer, blocks) = accept(&nsqd, method).await;
            for number in 0..100 {
                peer.said(&[&format!("PUB t {number}")]).await;
                peer.respond(b"OK").await;
            }
            blocks.load(Ordering::Relaxed)
        };
        let publish = async {
            let mut receipts = Vec::new();
            for number in 0..100 {
                let body = number.to_string();
                receipts.push(producer.enqueue("t", body.as_bytes()).await.unwrap());
            }
            for receipt in receipts {
                receipt.await.unwrap();
            }
        };
        let ((), blocks) = soon(async { tokio::join!(publish, serve) }).await;
        assert!(blocks < 10, "{method:?}: {blocks}");
    }
}

#[tokio::test]
async fn without_being_offered_compression_is_done_without() {
    for method in [Method::Deflate(6), Method::Snappy] {
        let nsqd = Nsqd::start().await;
        let config = method.asked_for(Config::default());
        let producer = Producer::new(nsqd.address(), config).unwrap();
        let serve = async {
            let mut peer = nsqd.identified().await;
            peer.said(&["PUB t x"]).await;
            peer.respond(b"OK").await;
        };
        let publish = producer.publish("t", b"x");
        soon(async { tokio::join!(publish, serve) }).await.0.unwrap();
    }
}

#[tokio::test]
async fn a_compression_other_than_the_one_asked_for_is_an_error() {
    // H11
    let nsqd = Nsqd::start().await;
    let config = Method::Snappy.asked_for(Config::default());
    let serve = async {
        let mut peer = nsqd.accept().await;
        peer.magic().await;
        peer.said(&["IDENTIFY"]).await;
        peer.respond(br#"{"deflate":true}"#).await;
        peer.is_closed().await;
    };
    let identifying = identify(nsqd.address(), &config);
    let refused = error(soon(async { tokio::join!(identifying, serve) }).await.0);
    assert!(matches!(refused, ConnectError::IdentifyAnswer(_)), "{refused:?}");
}

#[tokio::test]
async fn an_answer_other_than_ok_after_the_upgrade_is_an_error() {
    let nsqd = Nsqd::start().await;
    let config = Method::Snappy.asked_for(Config::default());
    let serve = async {
        let mut peer = nsqd.accept().await;
        peer.magic().await;
        peer.said(&["IDENTIFY"]).await;
        let mut bytes = frame(br#"{"snappy":true}"#);
        bytes.extend(Method::Snappy.packer().pack(&frame(b"NO")));
        peer.raw(&bytes).await;
        peer
    };
    let identifying = identify(nsqd.address(), &config);
    let refused = error(soon(async { tokio::join!(identifying, serve) }).await.0);
    assert!(refused.to_string().contains("answer to the start of compression"), "{refused}");
}

#[tokio::test]
async fn deflate_and_snappy_together_are_refused_before_connecting() {
    // C14
    let config = Config { deflate: true, snappy: true, ..Config::default() };
    assert_eq!(config.validate(), Err(ConfigError::TwoCompressions));
    assert!(Producer::new("127.0.0.1:1", config.clone()).is_err());
    let refused = error(identify("127.0.0.1:1", &config).await);
    assert!(matches!(refused, ConnectError::Config(_)), "{refused:?}");
}
