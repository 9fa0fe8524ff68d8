//! A client connection: whole writes, single reads, all within the time limit of the run.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use crate::{
    failure::Failure,
    layer::{Endpoint, Layer, Stream},
    limit::{Limit, TICK},
    wire::{self, Frame},
};

/// A connection to the server under test, after the magic.
pub(crate) struct Conn<'a> {
    stream: Stream<TcpStream>,
    limit: &'a Limit,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl<'a> Conn<'a> {
    /// Connects to `endpoint` with a read buffer of `buffer_bytes`, and agrees on its layer.
    ///
    /// # Errors
    /// Returns the system's error.
    pub(crate) fn open(
        endpoint: Endpoint,
        buffer_bytes: usize,
        limit: &'a Limit,
    ) -> Result<Self, Failure> {
        let address = endpoint.address;
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))
            .map_err(Failure::io(format!("connect to {address}")))?;
        let prepare = || {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(TICK))?;
            stream.set_write_timeout(Some(TICK))
        };
        prepare().map_err(Failure::io("prepare a connection"))?;
        let (stream, buffer) = (Stream::plain(stream), vec![0; buffer_bytes]);
        let mut conn = Self { stream, limit, buffer, start: 0, end: 0 };
        conn.write_all(wire::MAGIC)?;
        conn.agree_on(endpoint.layer)?;
        Ok(conn)
    }

    /// Asks for a layer and puts it on.
    fn agree_on(&mut self, layer: Layer) -> Result<(), Failure> {
        let Some(feature) = layer.feature() else { return Ok(()) };
        let wish = format!(r#"{{"feature_negotiation":true,{feature}}}"#);
        self.write_all(&wire::identify(&wish))?;
        let answer = self.response()?;
        if !answer.contains(feature) {
            return Err(Failure::Refused(format!("{} is not offered: {answer}", layer.name())));
        }
        self.stream.put_on(layer.client()?, &self.buffer[self.start..self.end]);
        self.start = self.end;
        self.await_response(b"OK")
    }

    /// Reads the next response, and nothing behind it.
    fn response(&mut self) -> Result<String, Failure> {
        loop {
            match wire::next_frame(&self.buffer[self.start..self.end])? {
                None => drop(self.fill()?),
                Some((Frame::Response(data), bytes)) => {
                    let text = String::from_utf8_lossy(data).into_owned();
                    self.start += bytes;
                    return Ok(text);
                }
                Some((other, _)) => return Err(Failure::Unexpected(format!("{other:?}"))),
            }
        }
    }

    /// Returns the socket, for watching events.
    pub(crate) fn stream(&self) -> &TcpStream {
        self.stream.socket()
    }

    /// Sets whether reads return at once if there is no data.
    ///
    /// # Errors
    /// Returns the system's error.
    pub(crate) fn set_nonblocking(&self, nonblocking: bool) -> Result<(), Failure> {
        self.stream
            .socket()
            .set_nonblocking(nonblocking)
            .map_err(Failure::io("set a socket's mode"))
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// Returns [`Failure::Late`] or the system's error.
    pub(crate) fn write_all(&mut self, mut bytes: &[u8]) -> Result<(), Failure> {
        loop {
            let written = match bytes {
                [] => self.stream.flush().map(|()| 0),
                bytes => self.stream.write(bytes),
            };
            match written {
                Ok(_) if bytes.is_empty() => return Ok(()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if is_pause(&error) => {
                    self.limit.check("writing to the server")?;
                    thread::yield_now();
                }
                Err(source) => return Err(Failure::io("write to the server")(source)),
            }
        }
    }

    /// Reads once and returns the number of new bytes; 0 if none arrived for a while.
    ///
    /// # Errors
    /// Returns [`Failure::Late`], [`Failure::Closed`] or the system's error.
    pub(crate) fn fill(&mut self) -> Result<usize, Failure> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            return Err(Failure::Unexpected("a frame larger than the read buffer".into()));
        }
        match self.stream.read(&mut self.buffer[self.end..]) {
            Ok(0) => Err(Failure::Closed),
            Ok(count) => {
                self.end += count;
                Ok(count)
            }
            Err(error) if is_pause(&error) => {
                self.limit.check("waiting for the server")?;
                Ok(0)
            }
            Err(source) => Err(Failure::io("read from the server")(source)),
        }
    }

    /// Passes each whole frame that has been read to `visit`, and answers heartbeats.
    ///
    /// # Errors
    /// Returns an error for an error frame or an invalid frame, or the error of `visit`.
    pub(crate) fn frames(
        &mut self,
        mut visit: impl FnMut(Frame<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut heartbeats = 0;
        while let Some((frame, bytes)) = wire::next_frame(&self.buffer[self.start..self.end])? {
            match frame {
                Frame::Response(wire::HEARTBEAT) => heartbeats += 1,
                Frame::Error(text) => {
                    return Err(Failure::Refused(String::from_utf8_lossy(text).into_owned()));
                }
                other => visit(other)?,
            }
            self.start += bytes;
        }
        if heartbeats > 0 {
            self.write_all(b"NOP\n")?;
        }
        Ok(())
    }

    /// Takes every whole `OK` that has been read and returns their number.
    ///
    /// # Errors
    /// Returns an error for any other answer.
    pub(crate) fn take_oks(&mut self) -> Result<usize, Failure> {
        let mut count = 0;
        // Nearly always there is nothing but OKs; only the rest is parsed frame by frame.
        let read = &self.buffer[self.start..self.end];
        for chunk in read.chunks_exact(wire::OK_FRAME.len()) {
            if chunk != wire::OK_FRAME {
                break;
            }
            count += 1;
        }
        self.start += count * wire::OK_FRAME.len();
        self.frames(|frame| match frame {
            Frame::Response(b"OK") => {
                count += 1;
                Ok(())
            }
            other => Err(Failure::Unexpected(format!("{other:?} instead of OK"))),
        })?;
        Ok(count)
    }

    /// Reads until the response `wanted` arrives; messages before it are ignored.
    ///
    /// # Errors
    /// Returns [`Failure::Late`], [`Failure::Closed`], or an error for an error frame.
    pub(crate) fn await_response(&mut self, wanted: &[u8]) -> Result<(), Failure> {
        let mut come = false;
        loop {
            self.frames(|frame| {
                come |= frame == Frame::Response(wanted);
                Ok(())
            })?;
            if come {
                return Ok(());
            }
            self.fill()?;
        }
    }

    /// Subscribes to a channel. No message is delivered before the ready count is set.
    ///
    /// # Errors
    /// Returns the error of the server or the system.
    pub(crate) fn subscribe(&mut self, topic: &str, channel: &str) -> Result<(), Failure> {
        self.write_all(format!("SUB {topic} {channel}\n").as_bytes())?;
        self.await_response(b"OK")
    }
}

fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
