//! Consuming: every message is finished, with one write for all `FIN`s of one read.

use std::os::fd::AsFd;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::{
    conn::Conn,
    failure::Failure,
    layer::Endpoint,
    ledger::Ledger,
    limit::{Limit, Task, run_together},
    wire::{self, Frame},
};

/// Bytes of the read buffer for few, busy connections.
const FEW_BUFFER_BYTES: usize = 256 * 1024;
/// Bytes of the read buffer for many connections with little traffic.
const MANY_BUFFER_BYTES: usize = 8 * 1024;
/// Milliseconds without an event after which the time limit is checked.
const EVENT_WAIT_MS: u16 = 20;

/// A subscribed connection.
pub(crate) struct Consumer<'a> {
    conn: Conn<'a>,
    fins: Vec<u8>,
}

impl<'a> Consumer<'a> {
    /// Connects and subscribes. No message is delivered before [`Consumer::ready`].
    ///
    /// # Errors
    /// Returns the error of the server or the system.
    pub(crate) fn subscribe(
        endpoint: Endpoint,
        topic: &str,
        channel: &str,
        buffer_bytes: usize,
        limit: &'a Limit,
    ) -> Result<Self, Failure> {
        let mut conn = Conn::open(endpoint, buffer_bytes, limit)?;
        conn.subscribe(topic, channel)?;
        Ok(Self { conn, fins: Vec::with_capacity(buffer_bytes / 8) })
    }

    /// Sets the number of messages that may be in flight.
    ///
    /// # Errors
    /// Returns an error of the connection.
    pub(crate) fn ready(&mut self, count: usize) -> Result<(), Failure> {
        self.conn.write_all(format!("RDY {count}\n").as_bytes())
    }

    /// Reads once, passes the bodies to `visit` and finishes the messages.
    ///
    /// # Errors
    /// Returns an error of the connection or of `visit`.
    pub(crate) fn step(
        &mut self,
        mut visit: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if self.conn.fill()? == 0 {
            return Ok(());
        }
        let fins = &mut self.fins;
        self.conn.frames(|frame| match frame {
            Frame::Message { id, body } => {
                wire::put_fin(fins, id);
                visit(body)
            }
            other => Err(Failure::Unexpected(format!("{other:?} between messages"))),
        })?;
        self.conn.write_all(&self.fins)?;
        self.fins.clear();
        Ok(())
    }

    /// Sends `CLS` and waits for the answer, which the server sends after it has handled every
    /// `FIN`.
    ///
    /// # Errors
    /// Returns an error of the connection.
    pub(crate) fn close(&mut self) -> Result<(), Failure> {
        self.conn.write_all(b"CLS\n")?;
        self.conn.await_response(b"CLOSE_WAIT")
    }
}

/// Creates a channel by subscribing to it briefly.
///
/// # Errors
/// Returns the error of the server or the system.
pub(crate) fn create_channel(
    endpoint: Endpoint,
    topic: &str,
    channel: &str,
    limit: &Limit,
) -> Result<(), Failure> {
    Consumer::subscribe(endpoint, topic, channel, MANY_BUFFER_BYTES, limit)?.close()
}

/// Subscribes `count` connections, to be read by one thread each.
///
/// # Errors
/// Returns the error of the server or the system.
pub(crate) fn subscribe_few<'a>(
    endpoint: Endpoint,
    topic: &str,
    count: usize,
    limit: &'a Limit,
) -> Result<Vec<Consumer<'a>>, Failure> {
    (0..count)
        .map(|_| Consumer::subscribe(endpoint, topic, CHANNEL, FEW_BUFFER_BYTES, limit))
        .collect()
}

/// Subscribes `count` connections, to be read by one thread together.
///
/// # Errors
/// Returns the error of the server or the system.
pub(crate) fn subscribe_many<'a>(
    endpoint: Endpoint,
    topic: &str,
    count: usize,
    limit: &'a Limit,
) -> Result<Vec<Consumer<'a>>, Failure> {
    (0..count)
        .map(|_| Consumer::subscribe(endpoint, topic, CHANNEL, MANY_BUFFER_BYTES, limit))
        .collect()
}

/// The channel that the workloads consume.
pub(crate) const CHANNEL: &str = "bench";

/// Returns the tasks that consume until the ledger is complete, one for each consumer.
pub(crate) fn drain_tasks<'a>(
    consumers: &'a mut [Consumer<'_>],
    ready: usize,
    ledger: &'a Ledger,
) -> Vec<Task<'a, ()>> {
    consumers
        .iter_mut()
        .map(|consumer| {
            Box::new(move || {
                let mut page = ledger.page();
                consumer.ready(ready)?;
                while !ledger.is_complete() {
                    consumer.step(|body| page.mark(body))?;
                    page.save();
                }
                consumer.close()
            }) as Task<'_, ()>
        })
        .collect()
}

/// Consumes until the ledger is complete, with one thread for each consumer.
///
/// # Errors
/// Returns the first error of any connection.
pub(crate) fn drain_few(
    consumers: &mut [Consumer<'_>],
    ready: usize,
    ledger: &Ledger,
    limit: &Limit,
) -> Result<(), Failure> {
    run_together(limit, drain_tasks(consumers, ready, ledger)).map(drop)
}

/// Consumes until the ledger is complete, with one thread for all consumers.
///
/// # Errors
/// Returns the first error of any connection.
pub(crate) fn drain_many(
    consumers: &mut [Consumer<'_>],
    ready: usize,
    ledger: &Ledger,
    limit: &Limit,
) -> Result<(), Failure> {
    let epoll =
        Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(Failure::os("make an event queue"))?;
    for (index, consumer) in consumers.iter_mut().enumerate() {
        consumer.conn.set_nonblocking(true)?;
        epoll
            .add(consumer.conn.stream().as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, index as u64))
            .map_err(Failure::os("watch a connection"))?;
        consumer.ready(ready)?;
    }
    let mut events = vec![EpollEvent::empty(); consumers.len()];
    let mut page = ledger.page();
    while !ledger.is_complete() {
        let count = epoll
            .wait(&mut events, EpollTimeout::from(EVENT_WAIT_MS))
            .map_err(Failure::os("wait for connections"))?;
        if count == 0 {
            limit.check("waiting for messages")?;
        }
        for event in &events[..count] {
            let index = usize::try_from(event.data()).unwrap_or(usize::MAX);
            if let Some(consumer) = consumers.get_mut(index) {
                consumer.step(|body| page.mark(body))?;
            }
        }
        page.save();
    }
    for consumer in consumers {
        consumer.conn.set_nonblocking(false)?;
        consumer.close()?;
    }
    Ok(())
}
