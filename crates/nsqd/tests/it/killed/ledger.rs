//! What a test has told nsqd and heard from it, and what nsqd may therefore do no more.
//!
//! Nothing here depends on how long anything takes. A REQ is written to the journal before anything after it is
//! answered, and with it all that the channel had seen before; so each answer behind a REQ tells from when on a
//! kill must not undo what came before ([`Channel::durable`]).

use std::{collections::HashMap, time::Instant};

use nsq_protocol::MessageId;

use crate::support::Message;

pub(super) const CHANNELS: [&str; 2] = ["left", "right"];

/// A message, by the number in its body.
pub(super) type Number = u64;

#[derive(Default)]
pub(super) struct Ledger {
    /// Counts what happens, to order it.
    pub(super) clock: u64,
    bodies: HashMap<Number, Body>,
    ids: HashMap<MessageId, Number>,
    channels: [Channel; CHANNELS.len()],
    pub(super) violations: Vec<String>,
}

#[derive(Default)]
struct Body {
    acknowledged: bool,
    not_before: Option<Instant>,
}

#[derive(Default)]
struct Channel {
    tracks: HashMap<Number, Track>,
    /// What this channel had seen before this moment survives a kill.
    durable: u64,
}

/// One message on one channel.
#[derive(Default)]
struct Track {
    /// As last seen, and when; `None` when nsqd has been killed since.
    attempts: u16,
    delivered: Option<u64>,
    /// Attempts that a kill cannot undo.
    attempts_kept: u16,
    in_flight: bool,
    not_before: Option<Instant>,
    finish_sent: bool,
    finish: Finish,
}

#[derive(Copy, Clone, Default)]
enum Finish {
    #[default]
    No,
    /// nsqd has carried it out.
    Done(u64),
    /// It survives a kill.
    Kept,
}

/// What a consumer has said, until an answer shows that nsqd has heard it.
#[derive(Default)]
pub(super) struct Said {
    at: u64,
    finished: Vec<Number>,
    requeued: Vec<(Number, Option<Instant>)>,
}

impl Said {
    pub(super) fn is_empty(&self) -> bool {
        self.finished.is_empty() && self.requeued.is_empty()
    }
}

impl Ledger {
    /// A message is about to be published, to be delivered at `not_before`.
    pub(super) fn publish(&mut self, not_before: Option<Instant>) -> Number {
        let number = self.bodies.len() as Number;
        self.bodies.insert(number, Body { acknowledged: false, not_before });
        number
    }

    pub(super) fn acknowledged(&mut self, numbers: &[Number]) {
        self.clock += 1;
        for number in numbers {
            self.bodies.get_mut(number).unwrap().acknowledged = true;
        }
    }

    pub(super) fn delivered(&mut self, channel: usize, message: &Message) -> Number {
        let now = now();
        self.clock += 1;
        let name = CHANNELS[channel];
        let number = number_of(&message.body);
        let known = *self.ids.entry(message.id).or_insert(number);
        let mut wrong = Vec::new();
        if known != number {
            wrong.push(format!("its id was that of {known}"));
        }
        let Some(body) = self.bodies.get(&number) else {
            self.violations.push(format!("{name}: {number} was never published"));
            return number;
        };
        let track = self.channels[channel].tracks.entry(number).or_default();
        if track.in_flight {
            wrong.push("it is in flight already".to_owned());
        }
        match track.finish {
            Finish::No => {}
            Finish::Done(_) => wrong.push("it is finished".to_owned()),
            Finish::Kept => wrong.push("it was finished before the kill".to_owned()),
        }
        let due = body.not_before.max(track.not_before).filter(|due| now < *due);
        if let Some(due) = due {
            wrong.push(format!("it is due in {:?}", due - now));
        }
        let seen = track.delivered.map_or(0, |_| track.attempts).max(track.attempts_kept);
        if message.attempts <= seen {
            wrong.push(format!("attempts are {} after {seen}", message.attempts));
        }
        track.attempts = message.attempts;
        track.delivered = Some(self.clock);
        track.in_flight = true;
        track.not_before = None;
        let wrong =
            wrong.into_iter().map(|wrong| format!("{name}: {number} came although {wrong}"));
        self.violations.extend(wrong);
        number
    }

    /// A FIN is about to be sent.
    pub(super) fn finish(&mut self, channel: usize, number: Number, said: &mut Said) {
        let track = self.track(channel, number);
        track.in_flight = false;
        track.finish_sent = true;
        said.finished.push(number);
    }

    /// A REQ is about to be sent.
    pub(super) fn requeue(
        &mut self,
        channel: usize,
        number: Number,
        not_before: Option<Instant>,
        said: &mut Said,
    ) {
        self.track(channel, number).in_flight = false;
        said.requeued.push((number, not_before));
    }

    /// Everything said is about to be sent.
    pub(super) fn say(&mut self, mut said: Said) -> Said {
        said.at = self.clock;
        said
    }

    /// nsqd has answered something that was sent behind all of this.
    pub(super) fn heard(&mut self, channel: usize, said: Said) {
        self.clock += 1;
        let now = self.clock;
        for number in said.finished {
            self.track(channel, number).finish = Finish::Done(now);
        }
        if !said.requeued.is_empty() {
            let durable = &mut self.channels[channel].durable;
            *durable = said.at.max(*durable);
        }
        for (number, not_before) in said.requeued {
            // If it has come again already, it was due.
            self.track(channel, number).not_before = not_before;
        }
    }

    /// nsqd is gone, and with it what it had not written down.
    pub(super) fn killed(&mut self) {
        for channel in &mut self.channels {
            for track in channel.tracks.values_mut() {
                if track.delivered.take().is_some_and(|at| at <= channel.durable) {
                    track.attempts_kept = track.attempts_kept.max(track.attempts);
                }
                track.in_flight = false;
                track.finish = match track.finish {
                    Finish::Done(at) if at > channel.durable => Finish::No,
                    Finish::No => Finish::No,
                    Finish::Done(_) | Finish::Kept => Finish::Kept,
                };
            }
        }
    }

    /// Every message that had to arrive was finished, and what one channel was given the other was too.
    pub(super) fn close(&mut self) {
        for (name, channel) in CHANNELS.iter().zip(&self.channels) {
            for (number, body) in &self.bodies {
                let seen = self.channels.iter().any(|channel| channel.tracks.contains_key(number));
                let finished = channel.tracks.get(number).is_some_and(|track| track.finish_sent);
                if (body.acknowledged || seen) && !finished {
                    self.violations.push(format!("{name}: {number} is lost"));
                }
            }
        }
    }

    /// How many messages were acknowledged, and how often messages came.
    pub(super) fn totals(&self) -> (usize, u64) {
        let acknowledged = self.bodies.values().filter(|body| body.acknowledged).count();
        let tracks = self.channels.iter().flat_map(|channel| channel.tracks.values());
        (acknowledged, tracks.map(|track| u64::from(track.attempts)).sum())
    }

    fn track(&mut self, channel: usize, number: Number) -> &mut Track {
        self.channels[channel].tracks.get_mut(&number).unwrap()
    }
}

#[expect(clippy::disallowed_methods, reason = "nsqd is another process, with a clock of its own")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// A body of about `bytes` that carries its number.
pub(super) fn body_of(number: Number, bytes: usize) -> Vec<u8> {
    let mut body = format!("{number:010}").into_bytes();
    body.resize(bytes.max(10), b'.');
    body
}

fn number_of(body: &[u8]) -> Number {
    std::str::from_utf8(&body[..10]).unwrap().parse().unwrap()
}
