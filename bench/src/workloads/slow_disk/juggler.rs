//! A consumer that finishes messages in random order, so that the server's record of what is
//! finished consists of many small ranges.

use std::time::{Duration, Instant};

use crate::{
    clock::now,
    conn::Conn,
    failure::Failure,
    publisher::{BODY_BYTES, MPUB_MESSAGES},
    wire::{self, Commands, Frame},
    workload::Run,
};

/// The number of messages held in flight, of which the next to be finished is chosen.
const HELD: usize = 1000;
/// One of this many messages is requeued instead of finished.
const REQUEUED: u64 = 20;
const REQUEUE_MS: usize = 100;
/// The interval between `MPUB`s of 200: 4000 messages a second.
const FEED_INTERVAL: Duration = Duration::from_millis(50);
const BUFFER_BYTES: usize = 256 * 1024;
const CHANNEL: &str = "juggler";

/// A connection that consumes in random order.
pub(super) struct Juggler<'a> {
    conn: Conn<'a>,
    held: Vec<[u8; 16]>,
    answers: Vec<u8>,
    random: u64,
    feed: Option<(Commands, Instant)>,
}

impl<'a> Juggler<'a> {
    /// Subscribes to a new channel of `topic`. With `feed`, also publishes to it.
    ///
    /// # Errors
    /// Returns the error of the server or the system.
    pub(super) fn subscribe(run: &'a Run<'_>, topic: &str, feed: bool) -> Result<Self, Failure> {
        let mut conn = Conn::open(run.target.endpoint, BUFFER_BYTES, run.limit)?;
        conn.subscribe(topic, CHANNEL)?;
        conn.write_all(b"RDY 2500\n")?;
        let feed = feed.then(|| (Commands::mpub(topic, BODY_BYTES, MPUB_MESSAGES, 1), now()));
        let (held, answers) = (Vec::with_capacity(2 * HELD), Vec::new());
        Ok(Self { conn, held, answers, random: 0x9E37_79B9_7F4A_7C15, feed })
    }

    /// Reads once and finishes or requeues as many messages as have come, once enough are held.
    /// Returns the number finished.
    ///
    /// # Errors
    /// Returns an error of the connection.
    pub(super) fn step(&mut self) -> Result<usize, Failure> {
        if let Some((commands, due)) = self.feed.as_mut().filter(|(_, due)| *due <= now()) {
            self.conn.write_all(commands.numbered(1, 0))?;
            *due += FEED_INTERVAL;
        }
        self.conn.fill()?;
        let held = &mut self.held;
        self.conn.frames(|frame| {
            if let Frame::Message { id, .. } = frame {
                held.push(*id);
            }
            Ok(())
        })?;
        let mut finished = 0;
        while self.held.len() > HELD {
            finished += usize::from(self.answer_one());
        }
        self.conn.write_all(&self.answers)?;
        self.answers.clear();
        Ok(finished)
    }

    /// Finishes or requeues one of the messages held. Returns whether it was finished.
    fn answer_one(&mut self) -> bool {
        let chosen = self.next_random() % self.held.len() as u64;
        let id = self.held.swap_remove(usize::try_from(chosen).unwrap_or(0));
        let finish = !self.next_random().is_multiple_of(REQUEUED);
        if finish {
            wire::put_fin(&mut self.answers, &id);
        } else {
            wire::put_req(&mut self.answers, &id, REQUEUE_MS);
        }
        finish
    }

    /// Xorshift: the same order in every run.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}
