//! The null server: reads bytes, answers, and delivers the same frames again and again.
//!
//! It stores nothing and parses as little as possible, so its numbers show the limit that sockets
//! set on this machine: the part of each row that is not due to the server.

use std::{
    collections::HashMap,
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use nix::{
    errno::Errno,
    sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
};

use crate::{
    failure::Failure,
    layer::{Identity, Layer, Stream},
    publisher::BODY_BYTES,
    wire::{self, FIN_BYTES, MESSAGE_HEAD_BYTES, OK_FRAME},
};

const READ_BYTES: usize = 256 * 1024;
const FRAME_BYTES: usize = MESSAGE_HEAD_BYTES + BODY_BYTES;
/// The number of frames in one write.
const FRAMES_AT_ONCE: usize = 1000;
/// An upper bound for the head of a command: name, topic, channel and a size.
const HEAD_BYTES_MAX: usize = 256;

/// The options of a null server.
#[derive(Debug)]
pub(crate) struct Options {
    /// The address to listen on.
    pub(crate) address: SocketAddr,
    /// The layer that clients have to ask for.
    pub(crate) layer: Layer,
    /// The certificate for TLS.
    pub(crate) identity: Option<Identity>,
}

/// Listens and serves connections until the process is killed.
///
/// # Errors
/// Returns the system's error.
pub(crate) fn serve(options: Options) -> Result<(), Failure> {
    let address = options.address;
    let options = Arc::new(options);
    let listener =
        TcpListener::bind(address).map_err(Failure::io(format!("listen on {address}")))?;
    let count = thread::available_parallelism().map_or(1, usize::from);
    let workers =
        (0..count).map(|_| Worker::spawn(Arc::clone(&options))).collect::<Result<Vec<_>, _>>()?;
    for (token, worker) in (0..).zip(workers.iter().cycle()) {
        let (stream, _) = listener.accept().map_err(Failure::io("accept a connection"))?;
        worker.adopt(token, stream)?;
    }
    Ok(())
}

/// The accepting thread's handle to a thread with an event queue.
struct Worker {
    epoll: Arc<Epoll>,
    peers: Sender<(u64, Peer)>,
}

impl Worker {
    fn spawn(options: Arc<Options>) -> Result<Self, Failure> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .map_err(Failure::os("make an event queue"))?;
        let epoll = Arc::new(epoll);
        let (peers, adopted) = channel();
        let queue = Arc::clone(&epoll);
        thread::spawn(move || work(&queue, &adopted, &options));
        Ok(Self { epoll, peers })
    }

    fn adopt(&self, token: u64, stream: TcpStream) -> Result<(), Failure> {
        let prepare = || {
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)
        };
        prepare().map_err(Failure::io("prepare a connection"))?;
        let stream = Arc::new(stream);
        // The peer is sent before its first event can occur, so that the worker always finds it.
        self.peers
            .send((token, Peer::new(Arc::clone(&stream))))
            .map_err(|_| Failure::Server("a worker of the null server ended".into()))?;
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        self.epoll
            .add(&*stream, EpollEvent::new(flags, token))
            .map_err(Failure::os("watch a connection"))
    }
}

/// Serves the connections of one event queue.
fn work(epoll: &Epoll, adopted: &Receiver<(u64, Peer)>, options: &Options) {
    let frames = Frames::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut peers: HashMap<u64, Peer> = HashMap::new();
    let mut events = vec![EpollEvent::empty(); 256];
    loop {
        let count = match epoll.wait(&mut events, EpollTimeout::NONE) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(_) => return,
        };
        peers.extend(adopted.try_iter());
        for event in &events[..count] {
            let Some(peer) = peers.get_mut(&event.data()) else { continue };
            if peer.serve(&mut buffer, &frames, options).is_err() {
                peers.remove(&event.data());
            }
        }
    }
}

/// Prepared output.
struct Frames {
    oks: Vec<u8>,
    messages: Vec<u8>,
}

impl Frames {
    fn new() -> Self {
        let mut messages = Vec::new();
        for number in 0..FRAMES_AT_ONCE {
            // Different bodies, so that compression has as much work with them as with a server's.
            wire::put_message_frame(
                &mut messages,
                b"0000000000000000",
                &wire::body(BODY_BYTES, number),
            );
        }
        Self { oks: OK_FRAME.repeat(4096), messages }
    }
}

/// One connection.
struct Peer {
    stream: Stream<Socket>,
    /// The layer is on, or none is wanted.
    agreed: bool,
    /// The number of bytes to skip: the magic, then bodies.
    skip: usize,
    /// The beginning of a command whose head is not complete yet.
    head: Vec<u8>,
    /// Output that the socket has not accepted.
    unsent: Vec<u8>,
    ready: usize,
    in_flight: usize,
}

/// The effect of a command.
#[derive(Debug, PartialEq, Eq)]
enum Ask {
    /// An `OK`.
    Ok,
    /// Nothing.
    Nothing,
    /// One message fewer in flight.
    Finish,
    /// A new ready count.
    Ready(usize),
    /// `CLOSE_WAIT`, and no more messages.
    Close,
}

impl Peer {
    fn new(stream: Arc<TcpStream>) -> Self {
        let (head, unsent) = (Vec::new(), Vec::new());
        let (stream, skip) = (Stream::plain(Socket(stream)), wire::MAGIC.len());
        Self { stream, agreed: false, skip, head, unsent, ready: 0, in_flight: 0 }
    }

    /// Confirms the layer that a client asked for in its IDENTIFY and puts it on. The client waits for that.
    fn agree(&mut self, options: &Options) -> io::Result<()> {
        let feature = options.layer.feature().unwrap_or_default();
        let mut response = Vec::new();
        wire::put_response_frame(&mut response, format!("{{{feature}}}").as_bytes());
        self.send(&response)?;
        let coat = options.layer.server(options.identity.as_ref()).map_err(io::Error::other)?;
        self.stream.put_on(coat, &[]);
        self.agreed = true;
        self.skip = 0;
        self.send(OK_FRAME)
    }

    /// Reads until there is no more data, answering each read before the next.
    fn serve(&mut self, buffer: &mut [u8], frames: &Frames, options: &Options) -> io::Result<()> {
        loop {
            let count = match self.stream.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return self.deliver(frames),
                Err(error) => return Err(error),
            };
            if options.layer == Layer::Plain || self.agreed {
                self.take(&buffer[..count], frames)?;
                self.deliver(frames)?;
            } else if count > wire::MAGIC.len() {
                self.agree(options)?;
            }
            if options.layer == Layer::Plain && count < buffer.len() {
                return Ok(());
            }
        }
    }

    /// Handles data that was read and sends the responses.
    fn take(&mut self, mut bytes: &[u8], frames: &Frames) -> io::Result<()> {
        let mut oks = 0;
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                break;
            }
            let before = self.head.len();
            let parsed = if before == 0 {
                parse(bytes)
            } else {
                let more = bytes.len().min(HEAD_BYTES_MAX);
                self.head.extend_from_slice(&bytes[..more]);
                parse(&self.head)
            };
            let Some((ask, head_bytes, body_bytes)) = parsed else {
                if bytes.len() > HEAD_BYTES_MAX {
                    return Err(ErrorKind::InvalidData.into());
                }
                if before == 0 {
                    self.head.extend_from_slice(bytes);
                }
                break;
            };
            self.head.clear();
            self.skip = body_bytes;
            bytes = &bytes[head_bytes - before..];
            match ask {
                Ask::Ok => oks += 1,
                Ask::Nothing => {}
                Ask::Finish => self.in_flight = self.in_flight.saturating_sub(1),
                Ask::Ready(count) => self.ready = count,
                Ask::Close => {
                    self.ready = 0;
                    let mut response = Vec::new();
                    wire::put_response_frame(&mut response, b"CLOSE_WAIT");
                    self.send(&response)?;
                }
            }
        }
        while oks > 0 {
            let some = oks.min(frames.oks.len() / OK_FRAME.len());
            self.send(&frames.oks[..some * OK_FRAME.len()])?;
            oks -= some;
        }
        Ok(())
    }

    /// Sends messages up to the ready count, or until the socket accepts no more.
    fn deliver(&mut self, frames: &Frames) -> io::Result<()> {
        self.send(&[])?;
        while self.unsent.is_empty() && self.in_flight < self.ready {
            let count = (self.ready - self.in_flight).min(FRAMES_AT_ONCE);
            let bytes = &frames.messages[..count * FRAME_BYTES];
            let sent = match self.stream.write(bytes) {
                Ok(sent) => sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let begun = sent.div_ceil(FRAME_BYTES);
            self.in_flight += begun;
            self.send(&bytes[sent..begun * FRAME_BYTES])?;
        }
        Ok(())
    }

    /// Sends `bytes` after the output that is waiting, and keeps the part that the socket does not
    /// accept.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.unsent.extend_from_slice(bytes);
        self.stream.flush().or_else(unless_blocked)?;
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Takes a socket that accepts no more for now as no error.
fn unless_blocked(error: io::Error) -> io::Result<()> {
    if error.kind() == ErrorKind::WouldBlock { Ok(()) } else { Err(error) }
}

/// A socket that its event queue knows too.
struct Socket(Arc<TcpStream>);

impl Read for Socket {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        (&*self.0).read(out)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Parses the head of a command: its effect, the bytes of the head, the bytes of the body.
///
/// Returns `None` while the head is incomplete. An unknown command has no effect.
fn parse(bytes: &[u8]) -> Option<(Ask, usize, usize)> {
    if bytes.starts_with(b"FIN ") && bytes.len() >= FIN_BYTES {
        return Some((Ask::Finish, FIN_BYTES, 0));
    }
    let line_bytes = bytes.iter().position(|byte| *byte == b'\n')? + 1;
    let line = &bytes[..line_bytes - 1];
    let has_body = [&b"PUB"[..], b"MPUB", b"DPUB", b"IDENTIFY"].iter().any(|n| line.starts_with(n));
    if has_body {
        let size = bytes.get(line_bytes..)?.first_chunk::<4>()?;
        return Some((Ask::Ok, line_bytes + 4, u32::from_be_bytes(*size) as usize));
    }
    let ask = if line.starts_with(b"SUB ") {
        Ask::Ok
    } else if line == b"CLS" {
        Ask::Close
    } else if let Some(count) = line.strip_prefix(b"RDY ") {
        let digits = std::str::from_utf8(count).ok();
        Ask::Ready(digits.and_then(|digits| digits.parse().ok()).unwrap_or(0))
    } else {
        Ask::Nothing
    };
    Some((ask, line_bytes, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_understood_only_when_its_head_is_whole() {
        let bytes = b"PUB topic\n\0\0\0\x05hello";
        for cut in 0..14 {
            assert_eq!(parse(&bytes[..cut]), None, "{cut}");
        }
        assert_eq!(parse(bytes), Some((Ask::Ok, 14, 5)));
        assert_eq!(parse(b"RDY 25\nFIN"), Some((Ask::Ready(25), 7, 0)));
        assert_eq!(parse(b"FIN 0123456789abcdef\nFIN"), Some((Ask::Finish, 21, 0)));
        assert_eq!(parse(b"CLS\n"), Some((Ask::Close, 4, 0)));
    }

    /// A null peer and the client's end of its connection.
    fn pair() -> (Peer, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Peer::new(Arc::new(listener.accept().unwrap().0)), client)
    }

    #[test]
    fn every_publish_is_answered_wherever_the_reads_are_cut() {
        let mut commands = wire::Commands::pub_one("topic", BODY_BYTES, 3);
        let bytes = [wire::MAGIC, commands.numbered(3, 0)].concat();
        for step in 1..bytes.len() {
            let (mut peer, mut client) = pair();
            let frames = Frames { oks: OK_FRAME.repeat(2), messages: Vec::new() };
            for piece in bytes.chunks(step) {
                peer.take(piece, &frames).unwrap();
            }
            drop(peer);
            let mut answers = Vec::new();
            client.read_to_end(&mut answers).unwrap();
            assert_eq!(answers, OK_FRAME.repeat(3), "in pieces of {step}");
        }
    }

    #[test]
    fn no_more_is_delivered_than_the_ready_count_allows() {
        let (mut peer, mut client) = pair();
        let frames = Frames::new();
        peer.take(b"  V2SUB t c\nRDY 3\n", &frames).unwrap();
        peer.deliver(&frames).unwrap();
        peer.deliver(&frames).unwrap();
        assert_eq!(peer.in_flight, 3);
        peer.take(b"FIN 0000000000000000\n", &frames).unwrap();
        peer.deliver(&frames).unwrap();
        drop(peer);
        let mut sent = Vec::new();
        client.read_to_end(&mut sent).unwrap();
        assert_eq!(sent.len(), OK_FRAME.len() + 4 * FRAME_BYTES);
    }
}
