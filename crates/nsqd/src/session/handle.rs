//! The handling of one read: decode, gather, carry out, answer.

use std::sync::Arc;

use bytes::Buf;
use nsq_protocol::{
    ClientError, Code, Command, Decoded, FrameType, OK, Rejection, decode_command, resume_command,
};
use tokio::time::Instant;

use super::{
    Session,
    bulk::{self, Bulk},
    create::{Creation, Stop},
    failure::not_answered,
    gather::Published,
};
use crate::{
    meters::Limit,
    node::Node,
    topic::{Topic, bulk::TURN_MESSAGES_MAX},
};

/// The work that a command is for its turn: about as much as one message.
fn weight(decoded: &Decoded<'_>) -> usize {
    match decoded {
        Decoded::Command(Command::MultiPub { bodies, .. }, _) => 1 + bodies.len(),
        _ => 1,
    }
}

impl Session {
    /// Handles every whole command of the input; none is left gathered.
    pub(super) fn handle_input(&mut self) -> Result<(), Stop> {
        self.await_permissions()?;
        let mut input = std::mem::take(&mut self.input.buffer);
        let (handled, result) = self.handle_commands(&input);
        let has_grown = std::mem::take(&mut self.input.has_grown);
        if handled > 0 {
            self.creation_tries = 0;
            self.liveness.heard(Instant::now());
            input.advance(handled);
        } else if has_grown {
            self.liveness.progressed(Instant::now());
        }
        self.input.buffer = input;
        let committed = self.commit();
        self.record_requeues();
        committed.and(result)
    }

    /// Handles the commands at the front of `input`; returns how many bytes they take.
    fn handle_commands(&mut self, input: &[u8]) -> (usize, Result<(), Stop>) {
        let mut progress = std::mem::take(&mut self.input.progress);
        let (mut handled, mut work) = (0, 0);
        let result = loop {
            let rest = &input[handled..];
            if rest.is_empty() {
                break Ok(());
            }
            if work >= TURN_MESSAGES_MAX {
                break Err(Stop::GiveWay);
            }
            let limits = &self.node.services.options.limits;
            let decoded = resume_command(rest, self.phase, limits, &mut progress);
            work += weight(&decoded);
            match self.handle(decoded) {
                Ok(0) => break Ok(()),
                Ok(bytes) => handled += bytes,
                Err(stop) => {
                    handled += stop.handled_bytes();
                    break Err(stop);
                }
            }
        };
        self.input.progress = progress;
        (handled, result)
    }

    /// Handles what stands at the front of the input; returns how many bytes it takes, 0 while it is incomplete.
    fn handle(&mut self, decoded: Decoded<'_>) -> Result<usize, Stop> {
        let may_join = match &decoded {
            Decoded::Command(command, _) => self.gathered.admits(command),
            Decoded::Ignored(_) => true,
            Decoded::Incomplete { .. } | Decoded::Rejected(_) | Decoded::LineTooLong => false,
        };
        if !may_join {
            self.commit()?;
        }
        match decoded {
            Decoded::Command(command, bytes) => match self.execute(command) {
                Ok(()) => Ok(bytes),
                Err(stop) => Err(stop.after(bytes)),
            },
            Decoded::Ignored(bytes) => Ok(bytes),
            Decoded::Incomplete { multi_pub: Some(topic), .. } => {
                self.authorize_publish(topic, Code::MultiPubFailed).map(|()| 0)
            }
            Decoded::Incomplete { .. } => Ok(0),
            Decoded::Rejected(rejection) => self.reject(&rejection).map(|()| 0),
            Decoded::LineTooLong => Err(Stop::Close),
        }
    }

    fn reject(&mut self, rejection: &Rejection) -> Result<(), Stop> {
        if let Some(topic) = &rejection.creates {
            self.authorize_publish(topic.as_str(), Code::MultiPubFailed)?;
        }
        match &rejection.creates {
            // The client is refused in any case, once its topic exists.
            Some(topic) if self.node.existing_topic(topic.as_str()).is_none() => {
                Err(Creation::of_topic(topic.clone(), Code::MultiPubFailed).into())
            }
            _ => {
                if rejection.is_long_identify {
                    self.node.services.meters.reached(Limit::IdentifySize);
                }
                self.refuse(&rejection.error)
            }
        }
    }

    /// Carries out the gathered commands.
    fn commit(&mut self) -> Result<(), Stop> {
        self.commit_publishes()?;
        self.commit_finishes()
    }

    fn commit_publishes(&mut self) -> Result<(), Stop> {
        let published = match self.gathered.publishes.commit(&self.node) {
            Ok(None) => return Ok(()),
            Ok(Some(published)) => published,
            Err(error) => return self.refuse(&error),
        };
        self.published(published);
        Ok(())
    }

    /// Adds the answers to the commands of a batch that is in the log.
    pub(super) fn published(&mut self, published: Published) {
        let Published { topic, end, messages, commands } = published;
        self.client.count_published(topic.name.as_str(), messages);
        if self.node.services.options.waits_for_sync() {
            self.answers.hold(topic, end);
        }
        for _ in 0..commands {
            self.answer(OK);
        }
    }

    /// Publishes the command at the front of the input, or lets a bulk of another connection pass.
    pub(super) async fn carry_out(&mut self, bulk: Bulk) -> Result<(), Stop> {
        if !bulk.publishes {
            bulk.topic.bulk.passed().await;
            return Ok(());
        }
        let command = self.input.buffer.split_to(bulk.command_bytes).freeze();
        self.creation_tries = 0;
        self.liveness.heard(Instant::now());
        let phase = self.phase;
        let publish =
            move |node: &Arc<Node>, topic: &Arc<Topic>| bulk::publish(node, topic, &command, phase);
        match self.node.in_bulk(&bulk.topic, publish).await {
            Ok(Ok(published)) => {
                self.published(published);
                Ok(())
            }
            Ok(Err(error)) => self.refuse(&error),
            Err(panic) => {
                let line = format_args!("client({}) - {panic}", self.client.remote);
                self.node.services.clients_log.error("panics", line);
                Err(Stop::Close)
            }
        }
    }

    fn commit_finishes(&mut self) -> Result<(), Stop> {
        let Some(subscription) = &self.subscription else { return Ok(()) };
        let refused = self.gathered.finishes.commit(&subscription.channel, self.client.id);
        let refuse = |(id, why)| self.refuse(&not_answered(Code::FinFailed, id, why));
        refused.into_iter().try_for_each(refuse)
    }

    /// Writes down what the last read requeued, before anything that came after it is answered: from then on the
    /// client relies on attempts and due times, also across a crash.
    fn record_requeues(&mut self) {
        if std::mem::take(&mut self.gathered.requeued)
            && let Some(subscription) = &self.subscription
        {
            // A failure is retried in the background.
            let _ = subscription.topic.write_changes_of(&subscription.channel);
        }
    }

    /// Refuses a command that the end of the stream has cut off; one that is cut off in its line gets no answer.
    pub(super) fn end_of_input(&mut self) {
        let limits = &self.node.services.options.limits;
        if let Decoded::Incomplete { missing, .. } =
            decode_command(&self.input.buffer, self.phase, limits)
            && let Some(error) = missing.error()
        {
            // The connection ends in any case.
            let _ = self.refuse(&error);
        }
    }

    /// Sends a response.
    pub(super) fn answer(&mut self, data: &[u8]) {
        self.answers.push(FrameType::Response, data, &mut self.output);
    }

    /// Sends an error; the connection goes on if the protocol says so.
    pub(super) fn refuse(&mut self, error: &ClientError) -> Result<(), Stop> {
        self.log_refusal(error);
        self.node.services.meters.refused(error.code);
        let mut data = Vec::new();
        error.encode(&mut data);
        self.answers.push(FrameType::Error, &data, &mut self.output);
        if error.is_fatal() { Err(Stop::Close) } else { Ok(()) }
    }

    fn log_refusal(&self, error: &ClientError) {
        // A connection has one error that ends it, and as many others as its client likes.
        let log = if error.is_fatal() { &self.node.services.clients_log } else { &self.log };
        log.error(error.code.as_str(), format_args!("[{}] - {error}", self.client.remote));
    }
}
