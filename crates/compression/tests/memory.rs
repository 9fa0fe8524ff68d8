//! The memory of idle streams. A test binary of its own: it measures the whole process.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use bytes::BytesMut;
use nsq_compression::{Codec, Compressed};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, duplex};

const STREAMS: usize = 400;

/// The memory of this process.
fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = pages.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

async fn pass<S: AsyncRead + AsyncWrite + Unpin>(from: &mut S, to: &mut S, sent: &[u8]) {
    let write = async {
        from.write_all(sent).await.unwrap();
        from.flush().await.unwrap();
    };
    let mut received = vec![0; sent.len()];
    let ((), read) = tokio::join!(write, to.read_exact(&mut received));
    read.unwrap();
}

/// Returns what an idle end of a stream takes that has sent and received `len` bytes.
async fn idle_bytes(make: fn() -> Codec, len: usize) -> usize {
    let before = resident_bytes();
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let (near, far) = duplex(64);
        let [mut near, mut far] = [near, far].map(|s| Compressed::new(s, make(), BytesMut::new()));
        for sent in [&b"OK"[..], &vec![b'x'; len]] {
            pass(&mut near, &mut far, sent).await;
            pass(&mut far, &mut near, sent).await;
        }
        for stream in [&mut near, &mut far] {
            stream.shrink();
            // It waits for more, as idle streams do.
            tokio::select! {
                biased;
                _ = stream.read_u8() => panic!("nothing was sent"),
                () = std::future::ready(()) => {}
            }
        }
        streams.push((near, far));
    }
    resident_bytes().saturating_sub(before) / (2 * STREAMS)
}

#[tokio::test]
async fn an_idle_stream_takes_little_more_than_the_history_of_its_peer() {
    let snappy = idle_bytes(Codec::snappy, 10_000).await;
    let deflate = idle_bytes(|| Codec::deflate(6), 10_000).await;
    assert!(snappy < 8 << 10, "{snappy}");
    assert!(deflate < 64 << 10, "{deflate}");
}
