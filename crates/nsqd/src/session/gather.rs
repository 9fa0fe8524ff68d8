//! The commands of one read that are carried out together: a batch of publishes, or the FINs of a channel.
//!
//! The two are never mixed: the session commits before every command that may not join the gathered ones, and at
//! the end of a read. So answers keep the order of the commands, and no command has to think of the others.

use std::{ops::Range, sync::Arc, time::Duration};

use nsq_broker::{ClientId, Refusal};
use nsq_log::BatchBuilder;
use nsq_protocol::{ClientError, Code, Command, MessageId};

use super::failure::failed;
use crate::{
    node::Node,
    topic::Topic,
    topic::{bulk::is_bulk, channel::Channel},
};

/// A batch is appended when it has grown to this, even if the read brought more.
const BATCH_BYTES: usize = 256 << 10;

/// The commands of one read that have not been carried out yet.
pub(super) struct Gathered {
    pub(super) publishes: Publishes,
    pub(super) finishes: Finishes,
    /// A REQ has taken effect whose attempts and due time the journal does not know yet.
    pub(super) requeued: bool,
}

impl Gathered {
    pub(super) fn new(batch: BatchBuilder) -> Self {
        Self { publishes: Publishes::new(batch), finishes: Finishes::default(), requeued: false }
    }

    /// Gives back the memory of a burst that is over.
    pub(super) fn shrink(&mut self) {
        if self.finishes.is_empty() {
            self.finishes = Finishes::default();
        }
    }

    /// Returns whether `command` may be handled before what is gathered has been carried out.
    pub(super) fn admits(&self, command: &Command<'_>) -> bool {
        match *command {
            Command::Fin(_) => self.publishes.is_empty(),
            Command::MultiPub { bodies, .. } if is_bulk(bodies.len(), bodies.bytes()) => {
                self.publishes.is_empty() && self.finishes.is_empty()
            }
            Command::Pub { topic, .. } | Command::MultiPub { topic, .. } => {
                self.finishes.is_empty() && self.publishes.admits(topic, None)
            }
            Command::DeferredPub { topic, delay_ms, .. } => {
                self.finishes.is_empty() && self.publishes.admits(topic, delay(delay_ms))
            }
            // Without an answer there is no order to keep.
            Command::Nop | Command::Rdy(_) => true,
            Command::Req { .. }
            | Command::Touch(_)
            | Command::Identify(_)
            | Command::Auth(_)
            | Command::Sub { .. }
            | Command::Cls => self.publishes.is_empty() && self.finishes.is_empty(),
        }
    }
}

/// Publishes to one topic, with one delay.
pub(super) struct Publishes {
    batch: BatchBuilder,
    /// Kept from batch to batch, so that a producer of one topic looks it up once.
    topic: Option<Arc<Topic>>,
    delay: Option<Duration>,
    /// How many commands the batch holds; each gets an answer.
    commands: usize,
    /// The error code of the first of them.
    failure: Code,
    /// The next batch need not wait for a large one again.
    has_waited: bool,
}

/// A batch that is in the log.
pub(super) struct Published {
    pub(super) topic: Arc<Topic>,
    /// The end of the log behind the batch.
    pub(super) end: u64,
    pub(super) messages: u64,
    pub(super) commands: usize,
}

impl Publishes {
    fn new(batch: BatchBuilder) -> Self {
        Self {
            batch,
            topic: None,
            delay: None,
            commands: 0,
            failure: Code::PubFailed,
            has_waited: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.commands == 0
    }

    fn admits(&self, topic: &str, delay: Option<Duration>) -> bool {
        self.is_empty()
            || self.delay == delay && self.batch.bytes() < BATCH_BYTES && self.are_for(topic)
    }

    /// Returns whether the topic need not be looked up: it is the one of the batch before, and still there.
    pub(super) fn are_for(&self, topic: &str) -> bool {
        let same = |known: &Arc<Topic>| known.name.as_str() == topic && !known.is_exiting();
        self.topic.as_ref().is_some_and(same)
    }

    /// Names the topic of the next batch.
    pub(super) fn begin(&mut self, topic: Arc<Topic>) {
        self.topic = Some(topic);
    }

    /// The topic of the next batch.
    pub(super) fn topic(&self) -> Option<&Arc<Topic>> {
        self.topic.as_ref()
    }

    /// Returns the topic if a large batch is being published to it, which the next batch has to wait for. Only once:
    /// others may come all the time.
    pub(super) fn topic_to_await(&mut self) -> Option<&Arc<Topic>> {
        let topic = self.topic.as_ref()?;
        self.has_waited = topic.bulk.are_taken() && !self.has_waited;
        self.has_waited.then_some(topic)
    }

    /// Adds the messages of one command; `failure` is the code of its error.
    pub(super) fn push<'a>(
        &mut self,
        bodies: impl IntoIterator<Item = &'a [u8]>,
        delay: Option<Duration>,
        failure: Code,
    ) {
        if self.is_empty() {
            (self.delay, self.failure) = (delay, failure);
        }
        for body in bodies {
            self.batch.push(body);
        }
        self.commands += 1;
    }

    /// Appends the batch; returns `None` when there is nothing to append.
    ///
    /// # Errors
    /// When the messages are not in the log and will not be delivered.
    pub(super) fn commit(&mut self, node: &Arc<Node>) -> Result<Option<Published>, ClientError> {
        let Some(topic) = self.topic.as_ref().filter(|_| self.commands > 0) else {
            return Ok(None);
        };
        let (messages, commands) = (self.batch.count() as u64, std::mem::take(&mut self.commands));
        match node.publish(topic, &mut self.batch, self.delay) {
            Ok((topic, end)) => {
                self.topic = Some(topic.clone());
                Ok(Some(Published { topic, end, messages, commands }))
            }
            Err(error) => {
                self.batch.clear();
                self.topic = None;
                Err(failed(self.failure, error))
            }
        }
    }
}

/// The FINs of one read, in any order.
#[derive(Default)]
pub(super) struct Finishes {
    known: Vec<Finish>,
    /// FINs with an id that belongs to no message, by their place among all.
    unknown: Vec<(usize, MessageId)>,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finish {
    seq: u64,
    /// Its place among all FINs that are gathered.
    place: usize,
    id: MessageId,
}

impl Finishes {
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty() && self.unknown.is_empty()
    }

    /// Adds a FIN; `seq` is the message that its id stands for.
    pub(super) fn push(&mut self, id: MessageId, seq: Option<u64>) {
        let place = self.known.len() + self.unknown.len();
        match seq {
            Some(seq) => self.known.push(Finish { seq, place, id }),
            None => self.unknown.push((place, id)),
        }
    }

    /// Finishes the messages. Returns the FINs that were refused, in the order in which they came.
    pub(super) fn commit(
        &mut self,
        channel: &Arc<Channel>,
        client: ClientId,
    ) -> Vec<(MessageId, Refusal)> {
        if self.is_empty() {
            return Vec::new();
        }
        // Handlers finish nearly in order: sorted, the FINs of one read are a few runs.
        self.known.sort_unstable();
        let mut refusals = Vec::new();
        channel.finish(client, self.runs(), &mut refusals);
        let refused = self.refused(&refusals);
        self.known.clear();
        self.unknown.clear();
        refused
    }

    fn runs(&self) -> impl Iterator<Item = Range<u64>> {
        let runs = self.known.chunk_by(|a, b| a.seq + 1 == b.seq);
        runs.filter_map(|run| Some(run.first()?.seq..run.last()?.seq + 1))
    }

    /// The FINs that `refusals` and `unknown` are about. `known` and `refusals` are sorted.
    fn refused(&self, refusals: &[(u64, Refusal)]) -> Vec<(MessageId, Refusal)> {
        let not_in_flight = |&(place, id)| (place, id, Refusal::NotInFlight);
        let mut refused: Vec<_> = self.unknown.iter().map(not_in_flight).collect();
        for refusals in refusals.chunk_by(|(a, _), (b, _)| a == b) {
            let Some((seq, why)) = refusals.first().copied() else { continue };
            let end = self.known.partition_point(|fin| fin.seq <= seq);
            // Of a message that was finished more than once, the later FINs are refused.
            let same = &self.known[end.saturating_sub(refusals.len())..end];
            refused.extend(same.iter().map(|fin| (fin.place, fin.id, why)));
        }
        refused.sort_unstable_by_key(|(place, ..)| *place);
        refused.into_iter().map(|(_, id, why)| (id, why)).collect()
    }
}

/// The delay that a DPUB asks for.
pub(super) fn delay(ms: u64) -> Option<Duration> {
    (ms > 0).then(|| Duration::from_millis(ms))
}
