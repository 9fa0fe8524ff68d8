//! Bounds of memory, and what is refused.

use bytes::BytesMut;
use flate2::{Compress, Compression, FlushCompress};
use nsq_compression::{Codec, Compressed};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use crate::streams::{CODECS, sample};

#[tokio::test]
async fn a_bomb_is_read_in_pieces_of_the_room_there_is() {
    let zeros = vec![0; 16 << 20];
    let mut packed = Vec::with_capacity(1 << 20);
    Compress::new(Compression::new(9), false)
        .compress_vec(&zeros, &mut packed, FlushCompress::Sync)
        .unwrap();
    assert!(packed.len() < 100_000);
    let mut stream = Compressed::new(&packed[..], Codec::deflate(6), BytesMut::new());
    let (mut room, mut total) = (vec![0; 1000], 0);
    loop {
        match stream.read(&mut room).await.unwrap() {
            0 => break,
            n => total += n,
        }
    }
    assert_eq!(total, zeros.len());
}

#[tokio::test]
async fn what_is_not_compressed_is_an_error() {
    let snappy = |chunk: &[u8]| [b"\xff\x06\0\0sNaPpY", chunk].concat();
    let long = [&b"\x00\x0d\x00\x00abcd\xff\xff\x03"[..], &[0; 6]].concat();
    for (name, codec, garbage) in [
        ("deflate", Codec::deflate(6), b"\xff\xff\xff\xff".to_vec()),
        ("a frame", Codec::snappy(), b"\x00\x00\x00\x06\x00\x00\x00\x00OK".to_vec()),
        ("no identifier", Codec::snappy(), b"\x01\x06\x00\x00\x69\xb5\x3c\x10OK".to_vec()),
        ("another identifier", Codec::snappy(), b"\xff\x06\x00\x00sNaPpX".to_vec()),
        ("a long identifier", Codec::snappy(), b"\xff\x07\x00\x00sNaPpYY".to_vec()),
        ("a chunk too long", Codec::snappy(), snappy(b"\x00\xff\xff\xff")),
        ("a stored chunk too long", Codec::snappy(), snappy(b"\x01\x05\x00\x01")),
        ("a block too long", Codec::snappy(), snappy(&long)),
        ("a wrong checksum", Codec::snappy(), snappy(b"\x01\x06\x00\x00abcdOK")),
        ("no checksum", Codec::snappy(), snappy(b"\x01\x02\x00\x00OK")),
        ("an unknown type", Codec::snappy(), snappy(b"\x02\x01\x00\x00x")),
    ] {
        let mut stream = Compressed::new(tokio::io::empty(), codec, garbage[..].into());
        let error = stream.read_u8().await.unwrap_err();
        assert_ne!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{name}: {error}");
    }
}

#[tokio::test]
async fn a_write_waits_when_two_blocks_have_not_been_taken() {
    for (name, make) in CODECS {
        let (near, _far) = duplex(1);
        let mut near = Compressed::new(near, make(), BytesMut::new());
        let data = sample(1 << 20);
        let mut taken = 0;
        loop {
            tokio::select! {
                biased;
                written = near.write(&data) => taken += written.unwrap(),
                () = std::future::ready(()) => break,
            }
        }
        assert!((64 << 10..512 << 10).contains(&taken), "{name}: {taken}");
    }
}
