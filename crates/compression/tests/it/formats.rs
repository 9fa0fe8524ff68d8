//! The formats, as other implementations write and read them.

use std::io::{Read, Write};

use bytes::BytesMut;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use nsq_compression::{Codec, Compressed};
use proptest::prelude::{any, prop, proptest};
use snap::{read::FrameDecoder, write::FrameEncoder};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use crate::streams::sample;

/// Returns the data sent when each of `parts` is written and flushed.
async fn sent(codec: Codec, parts: &[Vec<u8>]) -> Vec<u8> {
    let (near, mut far) = duplex(8 << 20);
    let mut near = Compressed::new(near, codec, BytesMut::new());
    for part in parts {
        near.write_all(part).await.unwrap();
        near.flush().await.unwrap();
    }
    drop(near);
    let mut packed = Vec::new();
    far.read_to_end(&mut packed).await.unwrap();
    packed
}

/// Returns the data read from `packed`, which comes in pieces of `piece` bytes, with a room of `room`.
async fn received(codec: Codec, packed: Vec<u8>, piece: usize, room: usize) -> Vec<u8> {
    let (mut near, far) = duplex(piece);
    let write = tokio::spawn(async move { near.write_all(&packed).await });
    let mut far = Compressed::new(far, codec, BytesMut::new());
    let (mut plain, mut buffer) = (Vec::new(), vec![0; room]);
    loop {
        match far.read(&mut buffer).await.unwrap() {
            0 => break,
            n => plain.extend_from_slice(&buffer[..n]),
        }
    }
    write.await.unwrap().unwrap();
    plain
}

fn inflate(packed: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(8 << 20);
    let mut decompress = Decompress::new(false);
    decompress.decompress_vec(packed, &mut plain, FlushDecompress::Sync).unwrap();
    plain
}

fn unsnap(packed: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    FrameDecoder::new(packed).read_to_end(&mut plain).unwrap();
    plain
}

fn deflated(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(8 << 20);
    let mut compress = Compress::new(Compression::new(6), false);
    for part in parts {
        compress.compress_vec(part, &mut packed, FlushCompress::Sync).unwrap();
    }
    packed
}

fn snapped(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut encoder = FrameEncoder::new(Vec::new());
    for part in parts {
        encoder.write_all(part).unwrap();
        encoder.flush().unwrap();
    }
    encoder.into_inner().unwrap()
}

fn parts() -> Vec<Vec<u8>> {
    [1, 10, 64, 65, 30, 70_000, 10, 200_000].map(sample).into()
}

#[tokio::test]
async fn others_read_what_is_sent() {
    let plain = parts().concat();
    for level in 1..=9 {
        let packed = sent(Codec::deflate(level), &parts()).await;
        assert!(inflate(&packed) == plain, "deflate {level}");
    }
    assert!(unsnap(&sent(Codec::snappy(), &parts()).await) == plain);
}

#[tokio::test]
async fn what_others_send_is_read() {
    let plain = parts().concat();
    for (piece, room) in [(1, 1000), (1000, 1), (7, 70_000), (1 << 20, 1 << 20)] {
        let read = received(Codec::deflate(6), deflated(&parts()), piece, room).await;
        assert!(read == plain, "deflate, {piece}, {room}");
        let read = received(Codec::snappy(), snapped(&parts()), piece, room).await;
        assert!(read == plain, "snappy, {piece}, {room}");
    }
}

#[tokio::test]
async fn every_flush_of_deflate_ends_with_an_empty_stored_block() {
    // NSQ's clients pass on what they have when they come across it.
    for part in parts() {
        let packed = sent(Codec::deflate(6), &[part]).await;
        assert!(packed.ends_with(b"\0\0\xff\xff"));
    }
}

#[tokio::test]
async fn a_snappy_stream_begins_with_its_identifier_and_short_data_stays_as_it_is() {
    let packed = sent(Codec::snappy(), &[b"OK".to_vec(), b"OK".to_vec()]).await;
    let chunk = b"\x01\x06\0\0\x69\xb5\x3c\x10OK";
    assert_eq!(packed[..10], b"\xff\x06\0\0sNaPpY"[..]);
    assert_eq!((&packed[10..12], packed.len()), (&chunk[..2], 30));
    assert_eq!(unsnap(&packed), b"OKOK");
}

#[tokio::test]
async fn chunks_without_data_are_passed_over() {
    let mut packed = b"\xff\x06\0\0sNaPpY".to_vec();
    // Padding, an unknown type that may be skipped and is longer than any chunk of data, and the identifier again.
    packed.extend(b"\xfe\x03\0\0\0\0\0\x80\0\0\x02");
    packed.extend(vec![7; 0x02_00_00]);
    packed.extend(snapped(&[b"hello".to_vec()]));
    let plain = received(Codec::snappy(), packed, 100, 100).await;
    assert_eq!(plain, b"hello");
}

#[tokio::test]
async fn the_last_block_of_deflate_ends_the_stream() {
    let mut packed = Vec::with_capacity(1000);
    Compress::new(Compression::new(6), false)
        .compress_vec(b"bye", &mut packed, FlushCompress::Finish)
        .unwrap();
    packed.extend(b"more");
    assert_eq!(received(Codec::deflate(6), packed, 100, 100).await, b"bye");
}

proptest! {
    #[test]
    fn any_data_in_any_parts_comes_back(
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
        piece in 1_usize..200,
        room in 1_usize..200,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            for make in [|| Codec::deflate(6), Codec::snappy] {
                let packed = sent(make(), &parts).await;
                assert_eq!(received(make(), packed, piece, room).await, parts.concat());
            }
        });
    }

    #[test]
    fn garbage_is_an_error_or_nothing_but_never_a_panic(garbage in prop::collection::vec(any::<u8>(), 0..300)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            for (make, head) in [(Codec::snappy as fn() -> Codec, &b"\xff\x06\0\0sNaPpY"[..]), (|| Codec::deflate(6), b"")] {
                let packed = [head, &garbage].concat();
                let mut stream = Compressed::new(&packed[..], make(), BytesMut::new());
                let mut plain = Vec::new();
                let _ = stream.read_to_end(&mut plain).await;
            }
        });
    }
}
