//! What each command does. Publishes and FINs are gathered while a read is worked through, and carried out
//! together before anything whose answer must come after theirs.

use std::{sync::Arc, time::Duration};

use nsq_broker::{ClientConfig, Refusal};
use nsq_log::split_id;
use nsq_protocol::{
    CLOSE_WAIT, ChannelName, ClientError, Code, Command, FrameType, MessageId, OK, Phase, TopicName,
};
use tokio::time::Instant;

use super::{BATCH_BYTES, Flow, Session, Subscription, Watch};
use crate::{
    VERSION,
    options::Options,
    session::identify::{Identify, Negotiation},
    topic::channel::JoinError,
    topic::client::ClientState,
    topic::{PublishError, Topic},
};

/// The size NSQ gives a client's output buffer by default; only reported, since output here needs no buffer that
/// a message could be stuck in.
const OUTPUT_BUFFER_BYTES: i64 = 16 << 10;

/// How often a client may find a channel or topic that goes away just then.
const JOIN_TRIES: usize = 10;

/// The level of compression unless a client asks for another one.
const DEFLATE_LEVEL: i64 = 6;

/// A FIN that was read and not yet carried out.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Finished {
    seq: u64,
    /// Its place among the FINs that are carried out together.
    order: usize,
    id: MessageId,
}

/// What IDENTIFY has decided so far. A later one changes what it names and leaves the rest.
pub(super) struct Identified {
    msg_timeout: Duration,
    sample_rate: i32,
    /// `None` for no buffer.
    buffer_bytes: Option<i64>,
    /// `None` for no flush by time.
    buffer_timeout: Option<Duration>,
}

impl Identified {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            msg_timeout: options.msg_timeout,
            sample_rate: 0,
            buffer_bytes: Some(OUTPUT_BUFFER_BYTES),
            buffer_timeout: Some(options.output_buffer_timeout),
        }
    }

    fn update(&mut self, identify: &Identify) {
        self.msg_timeout = identify.msg_timeout.unwrap_or(self.msg_timeout);
        self.sample_rate = identify.sample_rate;
        self.buffer_bytes = identify.output_buffer_bytes.over(self.buffer_bytes);
        self.buffer_timeout = identify.output_buffer_timeout.over(self.buffer_timeout);
        if self.buffer_bytes.is_none() {
            // Without a buffer there is nothing to flush in time either.
            self.buffer_timeout = None;
        }
    }
}

impl Session {
    pub(super) fn execute(&mut self, command: Command<'_>, watch: &mut Watch) -> Flow {
        match command {
            Command::Fin(id) => self.fin(id),
            Command::Pub { topic, body } => self.publish(topic, Code::PubFailed, None, [body]),
            Command::MultiPub { topic, bodies } => {
                self.publish(topic, Code::MultiPubFailed, None, bodies)
            }
            Command::DeferredPub { topic, delay_ms, body } => {
                let defer = (delay_ms > 0).then(|| Duration::from_millis(delay_ms));
                self.publish(topic, Code::DeferredPubFailed, defer, [body])
            }
            Command::Nop => Flow::Continue,
            Command::Rdy(count) => self.rdy(count),
            Command::Req { id, delay_ms } => self.req(id, delay_ms),
            Command::Touch(id) => self.touch(id),
            Command::Identify(body) => self.identify(body, watch),
            Command::Sub { topic, channel } => self.sub(topic, channel),
            Command::Cls => self.cls(),
            Command::Auth(_) => {
                self.commit();
                self.refuse(&ClientError::new(Code::AuthDisabled, "AUTH disabled"))
            }
        }
    }

    fn publish<'a>(
        &mut self,
        topic: &str,
        failure: Code,
        defer: Option<Duration>,
        bodies: impl IntoIterator<Item = &'a [u8]>,
    ) -> Flow {
        if !self.finished.is_empty() {
            // They came first, and so does the answer to one that is refused.
            self.commit_finished();
        }
        let same_topic =
            self.pending.topic.as_ref().is_some_and(|pending| pending.name.as_str() == topic);
        let full = self.pending.batch.bytes() >= BATCH_BYTES;
        if !same_topic || full || defer.is_some() {
            self.commit();
            if self.client.is_closing() {
                return Flow::Close;
            }
        }
        if !same_topic || self.pending.topic.as_ref().is_none_or(|topic| topic.is_exiting()) {
            match self.topic(topic) {
                Ok(topic) => self.pending.topic = Some(topic),
                Err(error) => return self.refuse(&publish_failed(failure, &error)),
            }
        }
        for body in bodies {
            self.pending.batch.push(body);
        }
        self.pending.answers.push(failure);
        if defer.is_some() { self.commit_deferred(defer) } else { Flow::Continue }
    }

    fn topic(&self, name: &str) -> Result<Arc<Topic>, PublishError> {
        if let Some(topic) = self.node.existing_topic(name) {
            return Ok(topic);
        }
        // The decoder has let valid names through only.
        let name = TopicName::new(name).map_err(|_| PublishError::Exiting)?;
        self.node.topic_or_create(&name)
    }

    /// Carries out what was gathered, which is publishes or FINs.
    pub(super) fn commit(&mut self) {
        if !self.pending.answers.is_empty() {
            self.commit_deferred(None);
        }
        if !self.finished.is_empty() {
            self.commit_finished();
        }
    }

    fn commit_deferred(&mut self, defer: Option<Duration>) -> Flow {
        let Some(topic) = self.pending.topic.clone() else { return Flow::Continue };
        let count = self.pending.batch.count() as u64;
        match self.node.publish(&topic, &mut self.pending.batch, defer) {
            Ok((topic, end)) => {
                self.client.count_published(topic.name.as_str(), count);
                for _ in self.pending.answers.drain(..) {
                    self.output.frame(FrameType::Response, OK);
                }
                if self.node.services.options.waits_for_sync() {
                    self.unsynced.push((topic, end));
                }
                Flow::Continue
            }
            Err(error) => {
                let failure = self.pending.answers.first().copied().unwrap_or(Code::PubFailed);
                self.pending.answers.clear();
                self.pending.batch.clear();
                self.pending.topic = None;
                self.refuse(&publish_failed(failure, &error));
                self.client.close();
                Flow::Close
            }
        }
    }

    fn fin(&mut self, id: MessageId) -> Flow {
        if !self.pending.answers.is_empty() {
            self.commit();
            if self.client.is_closing() {
                return Flow::Close;
            }
        }
        match self.locate(id) {
            Some(seq) => {
                self.finished.push(Finished { seq, order: self.finished.len(), id });
                Flow::Continue
            }
            None => {
                self.commit();
                self.refuse(&refused(Code::FinFailed, "FIN", id, Refusal::NotInFlight))
            }
        }
    }

    /// The sequence number an id stands for in the topic of this subscription.
    fn locate(&mut self, id: MessageId) -> Option<u64> {
        let log = &self.subscription.as_ref()?.topic.log;
        let parts = split_id(id)?;
        // Messages in flight nearly always lie in the segment of the one before.
        let remembered = self.segment.filter(|span| span.key == parts.segment);
        if let Some(seq) = remembered.and_then(|span| span.seq(parts.index)) {
            return Some(seq);
        }
        // Another segment, or this one has grown.
        self.segment.insert(log.segment_of(parts.segment)?).seq(parts.index)
    }

    fn commit_finished(&mut self) {
        let Some(Subscription { channel, .. }) = &self.subscription else { return };
        // Handlers finish nearly in order; sorted, what one read brought is a few runs.
        self.finished.sort_unstable();
        let mut refusals = Vec::new();
        let runs = self.finished.chunk_by(|a, b| a.seq + 1 == b.seq);
        let runs = runs.filter_map(|run| Some(run.first()?.seq..run.last()?.seq + 1));
        channel.finish(self.client.id, runs, &mut refusals);
        let mut finished = std::mem::take(&mut self.finished);
        if !refusals.is_empty() {
            self.refuse_finished(&finished, &refusals);
        }
        finished.clear();
        self.finished = finished;
    }

    /// Answers the FINs that were refused, in the order in which they came. Both lists are sorted.
    fn refuse_finished(&mut self, finished: &[Finished], refusals: &[(u64, Refusal)]) {
        let mut refused_fins = Vec::with_capacity(refusals.len());
        for refusals in refusals.chunk_by(|(a, _), (b, _)| a == b) {
            let Some((seq, why)) = refusals.first().copied() else { continue };
            let end = finished.partition_point(|fin| fin.seq <= seq);
            // Of a message that was finished more than once, it is the later ones that are refused.
            let same = &finished[end.saturating_sub(refusals.len())..end];
            refused_fins.extend(same.iter().map(|fin| (fin.order, fin.id, why)));
        }
        refused_fins.sort_unstable_by_key(|(order, ..)| *order);
        for (_, id, why) in refused_fins {
            self.refuse(&refused(Code::FinFailed, "FIN", id, why));
        }
    }

    fn req(&mut self, id: MessageId, delay_ms: u64) -> Flow {
        self.commit();
        let max = self.node.services.options.max_req_timeout;
        let mut delay = Duration::from_millis(delay_ms);
        if delay > max {
            self.node.services.logger.info(format_args!(
                "PROTOCOL(V2): [{}] REQ timeout {} out of range 0-{}. Setting to {}",
                self.client.remote,
                delay.as_nanos(),
                max.as_nanos(),
                max.as_nanos()
            ));
            delay = max;
        }
        let (client, now) = (self.client.id, self.node.services.clock.now());
        let requeued = match (self.locate(id), &self.subscription) {
            (Some(seq), Some(Subscription { channel, .. })) => {
                channel.requeue(client, seq, delay, now)
            }
            _ => Err(Refusal::NotInFlight),
        };
        self.requeued |= requeued.is_ok();
        self.answer(requeued, Code::ReqFailed, "REQ", id)
    }

    /// Writes down what the last read requeued, before anything that came after it is answered: from then on the
    /// client relies on attempts and due time, whatever becomes of nsqd.
    pub(super) fn keep_requeued(&mut self) {
        if std::mem::take(&mut self.requeued)
            && let Some(Subscription { topic, channel }) = &self.subscription
        {
            // A failure is retried in the background.
            let _ = topic.write_changes_of(channel);
        }
    }

    fn touch(&mut self, id: MessageId) -> Flow {
        self.commit();
        let (client, now) = (self.client.id, self.node.services.clock.now());
        let touched = match (self.locate(id), &self.subscription) {
            (Some(seq), Some(Subscription { channel, .. })) => channel.touch(client, seq, now),
            _ => Err(Refusal::NotInFlight),
        };
        self.answer(touched, Code::TouchFailed, "TOUCH", id)
    }

    fn answer(
        &mut self,
        result: Result<(), Refusal>,
        code: Code,
        command: &str,
        id: MessageId,
    ) -> Flow {
        match result {
            Ok(()) => Flow::Continue,
            Err(why) => self.refuse(&refused(code, command, id, why)),
        }
    }

    fn rdy(&mut self, count: u64) -> Flow {
        if let Some(Subscription { channel, .. }) = &self.subscription {
            channel.set_ready(self.client.id, count);
        }
        Flow::Continue
    }

    fn cls(&mut self) -> Flow {
        self.commit();
        self.rdy(0);
        self.phase = Phase::Closing;
        self.client.set_state(ClientState::Closing);
        self.output.frame(FrameType::Response, CLOSE_WAIT);
        Flow::Continue
    }

    fn sub(&mut self, topic: &str, channel: &str) -> Flow {
        self.commit();
        let subscribed = self.subscribe(topic, channel);
        match subscribed {
            Ok(subscription) => {
                self.subscription = Some(subscription);
                self.phase = Phase::Subscribed;
                self.client.set_state(ClientState::Subscribed);
                self.output.frame(FrameType::Response, OK);
                Flow::Continue
            }
            Err(error) => self.refuse(&error),
        }
    }

    fn subscribe(&self, topic_name: &str, channel_name: &str) -> Result<Subscription, ClientError> {
        let failed = |text: String| ClientError::new(Code::SubFailed, text);
        let (Ok(channel), Ok(topic)) = (ChannelName::new(channel_name), TopicName::new(topic_name))
        else {
            // The decoder has let valid names through only.
            return Err(failed("SUB failed exiting".to_owned()));
        };
        let limit = self.node.services.options.max_channel_consumers;
        // An ephemeral channel or topic may go away between being found and being joined.
        for _ in 0..JOIN_TRIES {
            let Ok((topic, channel)) = self.node.channel_or_create(&topic, &channel) else {
                continue;
            };
            match channel.join(&self.client, self.client_config(), limit) {
                Ok(()) => return Ok(Subscription { topic, channel }),
                Err(JoinError::Full) => {
                    let text = format!(
                        "SUB failed consumers for {topic_name}:{channel_name} exceeds limit of {limit}"
                    );
                    return Err(failed(text));
                }
                Err(JoinError::Exiting) => self.node.clear_away(&topic, &channel),
            }
        }
        Err(failed(
            if self.node.is_stopping() {
                "SUB failed exiting"
            } else {
                "SUB failed to deleted topic/channel"
            }
            .to_owned(),
        ))
    }

    fn client_config(&self) -> ClientConfig {
        let Identified { msg_timeout, sample_rate, .. } = self.identified;
        ClientConfig { msg_timeout, sample_rate: u8::try_from(sample_rate).unwrap_or(0) }
    }

    fn identify(&mut self, body: &[u8], watch: &mut Watch) -> Flow {
        self.commit();
        let options = &self.node.services.options;
        let identify = match Identify::parse(body, options) {
            Ok(identify) => identify,
            Err(error) => return self.refuse(&error),
        };
        self.identified.update(&identify);
        self.heartbeat_interval = identify.heartbeat_interval.over(self.heartbeat_interval);
        self.phase = if self.heartbeat_interval.is_some() {
            Phase::Init
        } else {
            Phase::InitWithoutHeartbeats
        };
        watch.heartbeat_at = self.next_heartbeat(Instant::now());
        self.client.describe(|about| {
            about.client_id.clone_from(&identify.client_id);
            about.hostname.clone_from(&identify.hostname);
            about.user_agent.clone_from(&identify.user_agent);
            about.sample_rate = identify.sample_rate;
            about.topology_region.clone_from(&identify.topology_region);
            about.topology_zone.clone_from(&identify.topology_zone);
        });
        if !identify.feature_negotiation {
            self.output.frame(FrameType::Response, OK);
            return Flow::Continue;
        }
        let options = &self.node.services.options;
        let Identified { msg_timeout, sample_rate, buffer_bytes, buffer_timeout } = self.identified;
        let negotiation = Negotiation {
            max_rdy_count: options.limits.rdy_count_max,
            version: VERSION,
            max_msg_timeout: options.max_msg_timeout.as_millis(),
            msg_timeout: msg_timeout.as_millis(),
            tls_v1: false,
            deflate: false,
            // What the client asks for would only count with compression.
            deflate_level: DEFLATE_LEVEL.min(options.max_deflate_level),
            max_deflate_level: options.max_deflate_level,
            snappy: false,
            sample_rate,
            auth_required: false,
            output_buffer_size: buffer_bytes.unwrap_or(1),
            output_buffer_timeout: buffer_timeout.map_or(0, |timeout| timeout.as_millis()),
            topology_region: "",
            topology_zone: "",
        };
        match serde_json::to_string(&negotiation) {
            Ok(json) => self.output.frame(FrameType::Response, json.as_bytes()),
            Err(error) => {
                let text = format!("IDENTIFY failed {error}");
                return self.refuse(&ClientError::new(Code::IdentifyFailed, text));
            }
        }
        Flow::Continue
    }
}

fn publish_failed(code: Code, error: &PublishError) -> ClientError {
    let command = match code {
        Code::MultiPubFailed => "MPUB",
        Code::DeferredPubFailed => "DPUB",
        _ => "PUB",
    };
    ClientError::new(code, format!("{command} failed {error}"))
}

fn refused(code: Code, command: &str, id: MessageId, why: Refusal) -> ClientError {
    let text = [command.as_bytes(), b" ", &id.0, b" failed ", why.to_string().as_bytes()].concat();
    ClientError::new(code, text)
}
