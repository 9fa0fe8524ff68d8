//! The effect of each command. Publishes and FINs are only gathered here, to be carried out together.

use std::{sync::Arc, time::Duration};

use nsq_broker::Refusal;
use nsq_log::{SegmentSpan, split_id};
use nsq_protocol::{CLOSE_WAIT, Code, Command, MessageId, OK, Phase};

use super::{
    Session,
    bulk::Bulk,
    create::Stop,
    failure::{failed, not_answered},
    gather,
};
use crate::{
    topic::Topic,
    topic::bulk::is_bulk,
    topic::channel::{Channel, JoinError},
    topic::client::ClientState,
};

/// The channel a connection is subscribed to.
pub(super) struct Subscription {
    pub(super) topic: Arc<Topic>,
    pub(super) channel: Arc<Channel>,
    /// The segment that the last id led to.
    segment: Option<SegmentSpan>,
}

impl Subscription {
    /// The sequence number an id stands for.
    fn locate(&mut self, id: MessageId) -> Option<u64> {
        let parts = split_id(id)?;
        // Messages in flight nearly always lie in the segment of the one before.
        let remembered = self.segment.filter(|span| span.key == parts.segment);
        if let Some(seq) = remembered.and_then(|span| span.seq(parts.index)) {
            return Some(seq);
        }
        // Another segment, or this one has grown.
        self.segment.insert(self.topic.log.segment_of(parts.segment)?).seq(parts.index)
    }
}

impl Session {
    /// Handles a command. Nothing is gathered that must come first.
    pub(super) fn execute(&mut self, command: Command<'_>) -> Result<(), Stop> {
        match command {
            Command::Fin(id) => self.fin(id),
            Command::Pub { topic, body } => self.publish(topic, [body], None, Code::PubFailed),
            Command::MultiPub { topic, bodies } if is_bulk(bodies.len(), bodies.bytes()) => {
                self.publish_in_bulk(topic)
            }
            Command::MultiPub { topic, bodies } => {
                self.publish(topic, bodies, None, Code::MultiPubFailed)
            }
            Command::DeferredPub { topic, delay_ms, body } => {
                self.publish(topic, [body], gather::delay(delay_ms), Code::DeferredPubFailed)
            }
            Command::Nop => Ok(()),
            Command::Rdy(count) => self.rdy(count),
            Command::Req { id, delay_ms } => self.req(id, Duration::from_millis(delay_ms)),
            Command::Touch(id) => self.touch(id),
            Command::Identify(body) => self.identify(body),
            Command::Sub { topic, channel } => self.sub(topic, channel),
            Command::Cls => self.cls(),
            Command::Auth(secret) => self.auth(secret),
        }
    }

    fn publish<'a>(
        &mut self,
        topic: &str,
        bodies: impl IntoIterator<Item = &'a [u8]>,
        delay: Option<Duration>,
        failure: Code,
    ) -> Result<(), Stop> {
        if self.gathered.publishes.is_empty() {
            if !self.begin_publish(topic, failure)? {
                return Ok(());
            }
            if let Some(topic) = self.gathered.publishes.topic_to_await() {
                return Err(Bulk::wait(topic).into());
            }
        }
        self.gathered.publishes.push(bodies, delay, failure);
        Ok(())
    }

    /// Publishes a command that is too large for this turn.
    fn publish_in_bulk(&mut self, topic: &str) -> Result<(), Stop> {
        if !self.begin_publish(topic, Code::MultiPubFailed)? {
            return Ok(());
        }
        self.gathered.publishes.topic().map_or(Ok(()), |topic| Err(Bulk::publish(topic).into()))
    }

    /// Makes sure that the client may publish to a topic, and that it is there. Returns false if the command was
    /// refused.
    fn begin_publish(&mut self, topic: &str, failure: Code) -> Result<bool, Stop> {
        self.authorize_publish(topic, failure)?;
        let publishes = &mut self.gathered.publishes;
        if !publishes.are_for(topic) {
            match self.node.live_topic(topic) {
                Some(topic) => publishes.begin(topic),
                None => return self.create_first(topic, None, failure).map(|()| false),
            }
        }
        Ok(true)
    }

    fn fin(&mut self, id: MessageId) -> Result<(), Stop> {
        let seq = self.subscription.as_mut().and_then(|subscription| subscription.locate(id));
        self.gathered.finishes.push(id, seq);
        Ok(())
    }

    fn req(&mut self, id: MessageId, delay: Duration) -> Result<(), Stop> {
        let delay = self.clamp(delay);
        let (client, now) = (self.client.id, self.node.services.clock.now());
        let requeue = |channel: &Arc<Channel>, seq: u64| channel.requeue(client, seq, delay, now);
        match self.answer_for(id, requeue) {
            Ok(()) => {
                self.gathered.requeued = true;
                Ok(())
            }
            Err(why) => self.refuse(&not_answered(Code::ReqFailed, id, why)),
        }
    }

    fn clamp(&self, delay: Duration) -> Duration {
        let max = self.node.services.options.max_req_timeout;
        if delay > max {
            let line = format_args!(
                "PROTOCOL(V2): [{}] REQ timeout {} out of range 0-{}. Setting to {}",
                self.client.remote,
                delay.as_nanos(),
                max.as_nanos(),
                max.as_nanos()
            );
            self.log.info("REQ timeouts out of range", line);
        }
        delay.min(max)
    }

    fn touch(&mut self, id: MessageId) -> Result<(), Stop> {
        let (client, now) = (self.client.id, self.node.services.clock.now());
        let touched = self.answer_for(id, |channel, seq| channel.touch(client, seq, now));
        touched.or_else(|why| self.refuse(&not_answered(Code::TouchFailed, id, why)))
    }

    fn answer_for(
        &mut self,
        id: MessageId,
        answer: impl FnOnce(&Arc<Channel>, u64) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let subscription = self.subscription.as_mut().ok_or(Refusal::NotInFlight)?;
        let seq = subscription.locate(id).ok_or(Refusal::NotInFlight)?;
        answer(&subscription.channel, seq)
    }

    fn rdy(&mut self, count: u64) -> Result<(), Stop> {
        if let Some(subscription) = &self.subscription {
            subscription.channel.set_ready(self.client.id, count);
        }
        Ok(())
    }

    fn cls(&mut self) -> Result<(), Stop> {
        self.phase = Phase::Closing;
        self.client.set_state(ClientState::Closing);
        self.answer(CLOSE_WAIT);
        self.rdy(0)
    }

    fn sub(&mut self, topic: &str, channel: &str) -> Result<(), Stop> {
        self.authorize_subscribe(topic, channel)?;
        let existing = self.node.existing_topic(topic);
        let existing = existing.and_then(|topic| Some((topic.recorded_channel(channel)?, topic)));
        let Some((found, found_topic)) = existing else {
            return self.create_first(topic, Some(channel), Code::SubFailed);
        };
        let limit = self.node.services.options.max_channel_consumers;
        match found.join(&self.client, self.settings.as_consumer(), limit) {
            Ok(()) => {
                self.subscription =
                    Some(Subscription { topic: found_topic, channel: found, segment: None });
                self.phase = Phase::Subscribed;
                self.client.set_state(ClientState::Subscribed);
                self.answer(OK);
                Ok(())
            }
            Err(JoinError::Full) => {
                let why = format!("consumers for {topic}:{channel} exceeds limit of {limit}");
                self.refuse(&failed(Code::SubFailed, why))
            }
            Err(JoinError::Exiting) => self.create_first(topic, Some(channel), Code::SubFailed),
        }
    }
}
