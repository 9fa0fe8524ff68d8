//! Publishing with a window of commands in flight.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use crate::{
    clock::now,
    conn::Conn,
    failure::Failure,
    layer::Endpoint,
    limit::{Limit, Task, run_together},
    wire::Commands,
};

/// Bytes of a message body in every workload.
pub(crate) const BODY_BYTES: usize = 200;
/// Messages in an `MPUB`.
pub(crate) const MPUB_MESSAGES: usize = 200;
/// Bytes read at a time; answers are ten bytes each.
const BUFFER_BYTES: usize = 16 * 1024;

/// A command that publishes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Command {
    /// `PUB`.
    Pub,
    /// `MPUB` of this many messages.
    Mpub(usize),
    /// `DPUB`, with delays close to an hour.
    Dpub,
}

/// How messages are published.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Publish {
    /// The command.
    pub(crate) command: Command,
    /// The number of connections, each on its own thread.
    pub(crate) connections: usize,
    /// The number of commands in flight on each connection.
    pub(crate) window: usize,
    /// The free space in the window at which more is written, so that one write carries many
    /// commands.
    pub(crate) refill: usize,
}

impl Publish {
    /// `MPUB` of 200 messages on `connections`, with four in flight on each.
    pub(crate) const fn mpub(connections: usize) -> Self {
        Self { command: Command::Mpub(MPUB_MESSAGES), connections, window: 4, refill: 1 }
    }

    /// Publishes `messages`, numbered from 0, and returns when the last answer arrived.
    ///
    /// # Errors
    /// Returns the first error of any connection.
    pub(crate) fn run(
        self,
        endpoint: Endpoint,
        topic: &str,
        messages: usize,
        limit: &Limit,
    ) -> Result<Instant, Failure> {
        let numbers = Numbers::new(messages);
        let tasks = (0..self.connections)
            .map(|_| {
                let numbers = &numbers;
                Box::new(move || {
                    let conn = Conn::open(endpoint, BUFFER_BYTES, limit)?;
                    self.publish(conn, topic, numbers)
                }) as Task<'_, ()>
            })
            .collect();
        run_together(limit, tasks)?;
        Ok(now())
    }

    fn publish(self, mut conn: Conn<'_>, topic: &str, numbers: &Numbers) -> Result<(), Failure> {
        let mut commands = match self.command {
            Command::Pub => Commands::pub_one(topic, BODY_BYTES, self.window),
            Command::Mpub(messages) => Commands::mpub(topic, BODY_BYTES, messages, self.window),
            Command::Dpub => Commands::dpub(topic, BODY_BYTES, self.window),
        };
        let mut last = tail_command(self, topic, numbers);
        let mut unanswered = 0;
        loop {
            let free = self.window - unanswered;
            if free >= self.refill {
                let (first, messages) = numbers.take(free * commands.messages_per_command());
                let whole = messages / commands.messages_per_command();
                if whole > 0 {
                    conn.write_all(commands.numbered(whole, first))?;
                }
                unanswered += whole;
                let rest = messages % commands.messages_per_command();
                if let Some(last) = last.as_mut().filter(|_| rest > 0) {
                    conn.write_all(last.numbered(1, first + messages - rest))?;
                    unanswered += 1;
                }
            }
            if unanswered == 0 {
                return Ok(());
            }
            conn.fill()?;
            unanswered -= conn.take_oks()?;
        }
    }
}

/// Returns the last, shorter command if the number of messages is not a multiple.
fn tail_command(publish: Publish, topic: &str, numbers: &Numbers) -> Option<Commands> {
    let Command::Mpub(messages) = publish.command else { return None };
    let rest = numbers.end % messages;
    (rest > 0).then(|| Commands::mpub(topic, BODY_BYTES, rest, 1))
}

/// The sequence numbers still to be published, shared by the connections.
struct Numbers {
    next: AtomicUsize,
    end: usize,
}

impl Numbers {
    fn new(end: usize) -> Self {
        Self { next: AtomicUsize::new(0), end }
    }

    /// Takes up to `count` consecutive numbers. Returns the first, and how many.
    fn take(&self, count: usize) -> (usize, usize) {
        let first = self.next.fetch_add(count, Ordering::Relaxed);
        (first, count.min(self.end.saturating_sub(first)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_given_out_once_and_end_where_they_should() {
        let numbers = Numbers::new(10);
        assert_eq!(numbers.take(4), (0, 4));
        assert_eq!(numbers.take(4), (4, 4));
        assert_eq!(numbers.take(4), (8, 2));
        assert_eq!(numbers.take(4).1, 0);
    }
}
