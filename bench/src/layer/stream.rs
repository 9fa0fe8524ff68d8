//! A stream with a layer, over a socket that may not be able to read or write at the moment.

use std::io::{self, ErrorKind, Read, Write};

use snap::{read::FrameDecoder, write::FrameEncoder};
use tokio_rustls::rustls::Connection;

/// Bytes of packed data in one read.
const READ_BYTES: usize = 64 * 1024;
/// The most bytes that are packed at once.
const PACK_BYTES: usize = 256 * 1024;
/// A chunk of snappy's framing format begins with its type and three bytes of length.
const CHUNK_HEAD_BYTES: usize = 4;

/// A layer in one direction and the other.
pub(crate) enum Coat {
    /// None.
    Plain,
    /// TLS.
    Tls(Box<Connection>),
    /// Snappy.
    Snappy(Box<Snappy>),
}

/// Snappy's framing format.
pub(crate) struct Snappy {
    encoder: FrameEncoder<Vec<u8>>,
    decoder: FrameDecoder<Whole>,
    /// Packed data whose last chunk is not whole yet.
    packed: Vec<u8>,
    /// Packed data that the socket has not accepted.
    unsent: Vec<u8>,
}

/// The input of the decoder, which cannot stop within a chunk.
#[derive(Default)]
struct Whole(io::Cursor<Vec<u8>>);

impl Coat {
    /// Returns the layer of a TLS connection.
    pub(crate) fn tls(mut connection: Connection) -> Self {
        connection.set_buffer_limit(None);
        Self::Tls(Box::new(connection))
    }

    /// Returns the layer of snappy.
    pub(crate) fn snappy() -> Self {
        Self::Snappy(Box::new(Snappy {
            encoder: FrameEncoder::new(Vec::new()),
            decoder: FrameDecoder::new(Whole::default()),
            packed: Vec::new(),
            unsent: Vec::new(),
        }))
    }
}

/// A socket with a layer.
pub(crate) struct Stream<S> {
    socket: S,
    coat: Coat,
}

impl<S> Stream<S> {
    /// Wraps a socket without a layer.
    pub(crate) fn plain(socket: S) -> Self {
        Self { socket, coat: Coat::Plain }
    }

    /// Returns the socket.
    pub(crate) fn socket(&self) -> &S {
        &self.socket
    }

    /// Changes the layer. `read` was read from the socket already and belongs to the layer; a server that speaks TLS
    /// waits for its client, so there it is empty.
    pub(crate) fn put_on(&mut self, coat: Coat, read: &[u8]) {
        self.coat = coat;
        if let Coat::Snappy(snappy) = &mut self.coat {
            snappy.packed.extend_from_slice(read);
        }
    }
}

impl<S: Read + Write> Stream<S> {
    /// Sends what was written and is still held back.
    ///
    /// # Errors
    /// Returns the socket's error, [`ErrorKind::WouldBlock`] if it does not accept all of it now.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match &mut self.coat {
            Coat::Plain => Ok(()),
            Coat::Tls(connection) => {
                while connection.wants_write() {
                    connection.write_tls(&mut self.socket)?;
                }
                Ok(())
            }
            Coat::Snappy(snappy) => {
                while !snappy.unsent.is_empty() {
                    let sent = self.socket.write(&snappy.unsent)?;
                    snappy.unsent.drain(..sent);
                }
                Ok(())
            }
        }
    }
}

impl<S: Read + Write> Read for Stream<S> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match &mut self.coat {
            Coat::Plain => self.socket.read(out),
            Coat::Tls(connection) => read_tls(connection, &mut self.socket, out),
            Coat::Snappy(snappy) => snappy.read(&mut self.socket, out),
        }
    }
}

impl<S: Read + Write> Write for Stream<S> {
    /// Takes `bytes`, which are sent at once as far as the socket accepts them, and otherwise by the next call or by
    /// [`Stream::flush`].
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush()?;
        let taken = bytes.len().min(PACK_BYTES);
        match &mut self.coat {
            Coat::Plain => return self.socket.write(bytes),
            Coat::Tls(connection) => connection.writer().write_all(&bytes[..taken])?,
            Coat::Snappy(snappy) => {
                snappy.encoder.write_all(&bytes[..taken])?;
                snappy.encoder.flush()?;
                snappy.unsent.append(snappy.encoder.get_mut());
            }
        }
        match self.flush() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Self::flush(self)
    }
}

fn read_tls<S: Read + Write>(
    connection: &mut Connection,
    socket: &mut S,
    out: &mut [u8],
) -> io::Result<usize> {
    loop {
        // The handshake takes turns.
        while connection.wants_write() {
            connection.write_tls(socket)?;
        }
        match connection.reader().read(out) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            read => return read,
        }
        if connection.read_tls(socket)? == 0 {
            return Ok(0);
        }
        let processed = connection.process_new_packets();
        processed.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
    }
}

impl Snappy {
    fn read(&mut self, socket: &mut impl Read, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.decoder.read(out)?;
            if read > 0 {
                return Ok(read);
            }
            let whole = whole_chunks(&self.packed);
            if whole > 0 {
                let rest = self.packed.split_off(whole);
                let whole = std::mem::replace(&mut self.packed, rest);
                self.decoder.get_mut().0 = io::Cursor::new(whole);
                continue;
            }
            let start = self.packed.len();
            self.packed.resize(start + READ_BYTES, 0);
            let read = socket.read(&mut self.packed[start..]);
            self.packed.truncate(start + *read.as_ref().unwrap_or(&0));
            if read? == 0 {
                return Ok(0);
            }
        }
    }
}

/// Returns the bytes of the whole chunks at the front of `packed`.
fn whole_chunks(packed: &[u8]) -> usize {
    let mut whole = 0;
    while let Some(&[_, a, b, c]) = packed[whole..].first_chunk::<CHUNK_HEAD_BYTES>() {
        let next = whole + CHUNK_HEAD_BYTES + u32::from_le_bytes([a, b, c, 0]) as usize;
        if next > packed.len() {
            break;
        }
        whole = next;
    }
    whole
}

impl Read for Whole {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        thread,
    };

    use super::*;
    use crate::layer::{Identity, Layer};

    #[test]
    fn what_is_written_through_a_layer_is_read_at_the_other_end() {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity::create(folder.path()).unwrap();
        for layer in [Layer::Plain, Layer::Tls, Layer::Snappy] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut client =
                Stream::plain(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
            let mut server = Stream::plain(listener.accept().unwrap().0);
            client.put_on(layer.client().unwrap(), &[]);
            server.put_on(layer.server(Some(&identity)).unwrap(), &[]);
            let sent: Vec<u8> =
                (0..1_000_000_u32).flat_map(|number| number.to_be_bytes()).collect();
            let echo = thread::spawn(move || {
                let mut received = vec![0; 4_000_000];
                server.read_exact(&mut received).unwrap();
                server.write_all(&received).unwrap();
            });
            client.write_all(&sent).unwrap();
            let mut received = vec![0; sent.len()];
            client.read_exact(&mut received).unwrap();
            assert!(received == sent, "{}", layer.name());
            echo.join().unwrap();
        }
    }
}
