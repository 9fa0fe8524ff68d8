//! Two ends of a compressed connection.

use bytes::BytesMut;
use nsq_compression::{Codec, Compressed};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

/// Makes a codec.
pub(crate) type Make = fn() -> Codec;

pub(crate) const CODECS: [(&str, Make); 4] = [
    ("deflate 1", || Codec::deflate(1)),
    ("deflate 6", || Codec::deflate(6)),
    ("deflate 9", || Codec::deflate(9)),
    ("snappy", Codec::snappy),
];

/// The two ends of a connection that holds `bytes`.
pub(crate) fn pair(
    make: Make,
    bytes: usize,
) -> (Compressed<DuplexStream>, Compressed<DuplexStream>) {
    let (near, far) = duplex(bytes);
    let wrap = |stream| Compressed::new(stream, make(), BytesMut::new());
    (wrap(near), wrap(far))
}

/// Bytes that compress badly, with repetitions.
pub(crate) fn sample(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..len).map(|i| if i % 300 < 100 { b'x' } else { next() }).collect()
}

async fn pass(
    from: &mut Compressed<DuplexStream>,
    to: &mut Compressed<DuplexStream>,
    sent: &[u8],
) -> Vec<u8> {
    let write = async {
        from.write_all(sent).await.unwrap();
        from.flush().await.unwrap();
    };
    let mut received = vec![0; sent.len()];
    let read = async { to.read_exact(&mut received).await.map(drop) };
    let ((), read) = tokio::join!(write, read);
    read.unwrap();
    received
}

#[tokio::test]
async fn what_is_written_and_flushed_is_read_whatever_its_size() {
    for (name, make) in CODECS {
        // The pipe holds less than a block, so that both ends have to wait.
        let (mut near, mut far) = pair(make, 1000);
        for len in [0, 1, 63, 64, 65, 100, 65_535, 65_536, 65_537, 300_000, 10, 500_000, 1] {
            for data in [sample(len), vec![b'x'; len]] {
                let received = pass(&mut near, &mut far, &data).await;
                assert!(received == data, "{name}: {len}");
            }
        }
    }
}

#[tokio::test]
async fn a_stream_goes_on_after_it_has_given_back_its_memory() {
    for (name, make) in CODECS {
        let (mut near, mut far) = pair(make, 1 << 20);
        for len in [100_000, 10, 64, 65, 1000, 10, 70_000] {
            let data = sample(len);
            assert!(pass(&mut near, &mut far, &data).await == data, "{name}: {len}");
            near.shrink();
            far.shrink();
        }
    }
}

#[tokio::test]
async fn shrinking_loses_nothing_that_is_on_its_way() {
    for (name, make) in CODECS {
        let (mut near, mut far) = pair(make, 1 << 20);
        let data = sample(100_000);
        near.write_all(&data[..50_000]).await.unwrap();
        near.shrink();
        near.write_all(&data[50_000..]).await.unwrap();
        near.flush().await.unwrap();
        let mut received = vec![0; data.len()];
        for part in received.chunks_mut(999) {
            far.read_exact(part).await.unwrap();
            far.shrink();
        }
        assert!(received == data, "{name}");
    }
}

#[tokio::test]
async fn several_writes_share_one_flush() {
    for (name, make) in CODECS {
        let (near, mut far) = duplex(1 << 20);
        let mut near = Compressed::new(near, make(), BytesMut::new());
        for _ in 0..1000 {
            near.write_all(b"FIN 0123456789abcdef\n").await.unwrap();
        }
        near.flush().await.unwrap();
        near.flush().await.unwrap();
        drop(near);
        let mut sent = Vec::new();
        far.read_to_end(&mut sent).await.unwrap();
        assert!(sent.len() < 21_000 / 10, "{name}: {}", sent.len());
    }
}

#[tokio::test]
async fn what_was_read_too_much_before_the_upgrade_is_decompressed() {
    for (name, make) in CODECS {
        let (near, mut far) = duplex(1 << 20);
        let mut near = Compressed::new(near, make(), BytesMut::new());
        let data = sample(2000);
        near.write_all(&data).await.unwrap();
        near.flush().await.unwrap();
        let mut early = BytesMut::zeroed(500);
        far.read_exact(&mut early).await.unwrap();
        let mut far = Compressed::new(far, make(), early);
        let mut received = vec![0; data.len()];
        far.read_exact(&mut received).await.unwrap();
        assert!(received == data, "{name}");
    }
}
