//! A connection of a hostile neighbour, which sends any bytes and reads only when it likes to.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::{
    hostile::raid::Raid,
    wire::{self, Frame},
};

/// The longest time to connect.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest blocking read or write before the end of the raid is checked.
const TICK: Duration = Duration::from_millis(20);
const READ_BYTES: usize = 64 * 1024;

/// A connection of a hostile neighbour.
pub(super) struct Visitor<'a> {
    stream: TcpStream,
    raid: &'a Raid<'a>,
    read: Vec<u8>,
}

impl<'a> Visitor<'a> {
    /// Connects for protocol V2.
    ///
    /// # Errors
    /// Returns the system's error.
    pub(super) fn client(raid: &'a Raid<'a>) -> io::Result<Self> {
        let mut visitor = Self::connect(raid.tcp, raid)?;
        visitor.send(wire::MAGIC)?;
        Ok(visitor)
    }

    /// Connects for HTTP.
    ///
    /// # Errors
    /// Returns the system's error.
    pub(super) fn http(raid: &'a Raid<'a>) -> io::Result<Self> {
        Self::connect(raid.http, raid)
    }

    fn connect(address: SocketAddr, raid: &'a Raid<'a>) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TICK))?;
        stream.set_write_timeout(Some(TICK))?;
        Ok(Self { stream, raid, read: Vec::new() })
    }

    /// Sends `bytes`, reading nothing meanwhile.
    ///
    /// # Errors
    /// Returns the system's error, or [`ErrorKind::TimedOut`] at the end of the raid.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.send_while(bytes, |_| Ok(()))
    }

    /// Sends `bytes`, discarding what has come whenever the server does not read on.
    ///
    /// # Errors
    /// As [`Visitor::send`].
    pub(super) fn send_and_discard(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.send_while(bytes, Self::discard)
    }

    fn send_while(
        &mut self,
        mut bytes: &[u8],
        mut blocked: impl FnMut(&mut Self) -> io::Result<()>,
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if is_pause(&error) => {
                    self.check()?;
                    blocked(self)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Discards everything that has come.
    ///
    /// # Errors
    /// Returns the system's error, or [`ErrorKind::UnexpectedEof`] if the server has hung up.
    pub(super) fn discard(&mut self) -> io::Result<()> {
        let mut buffer = [0; READ_BYTES];
        self.stream.set_nonblocking(true)?;
        let outcome = loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => break Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if is_pause(&error) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.stream.set_nonblocking(false)?;
        outcome
    }

    /// Sends a command and waits for its response.
    ///
    /// # Errors
    /// Returns the system's error, or an error for an error frame, a closed connection or the end of the raid.
    pub(super) fn ask(&mut self, command: &[u8]) -> io::Result<()> {
        self.send(command)?;
        loop {
            match wire::next_frame(&self.read).map_err(io::Error::other)? {
                None => self.fill()?,
                Some((Frame::Error(text), _)) => {
                    return Err(io::Error::other(String::from_utf8_lossy(text).into_owned()));
                }
                Some((frame, bytes)) => {
                    let is_answer =
                        matches!(frame, Frame::Response(data) if data != wire::HEARTBEAT);
                    self.read.drain(..bytes);
                    if is_answer {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Sends an HTTP request and discards the answer until the server closes the connection.
    ///
    /// # Errors
    /// Returns the system's error, or an error for a status other than 200 or the end of the raid.
    pub(super) fn request(&mut self, request: &[u8]) -> io::Result<()> {
        self.send(request)?;
        let mut head = Vec::new();
        loop {
            match self.fill() {
                Ok(()) if head.len() < 12 => head.append(&mut self.read),
                Ok(()) => self.read.clear(),
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(error),
            }
        }
        let is_fine = head.get(9..12) == Some(b"200");
        is_fine.then_some(()).ok_or_else(|| io::Error::other("refused"))
    }

    /// Reads once, waiting for as long as the raid goes on.
    fn fill(&mut self) -> io::Result<()> {
        let mut buffer = [0; READ_BYTES];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    self.read.extend_from_slice(&buffer[..count]);
                    return Ok(());
                }
                Err(error) if is_pause(&error) => self.check()?,
                Err(error) => return Err(error),
            }
        }
    }

    fn check(&self) -> io::Result<()> {
        if self.raid.is_over() { Err(ErrorKind::TimedOut.into()) } else { Ok(()) }
    }
}

/// Returns an HTTP request without a body, after whose answer the server closes the connection.
pub(super) fn http_request(method: &str, path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("{method} {path} HTTP/1.0\r\nHost: nsqd\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
