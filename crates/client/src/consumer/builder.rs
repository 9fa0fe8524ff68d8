//! Building a consumer.

use std::{
    fmt,
    future::Future,
    sync::{Arc, atomic::AtomicU64},
};

use nsq_protocol::{ChannelName, TopicName};

use super::{
    Consumer, Messages,
    discovery::{Discovery, DiscoveryFilter},
    engine::{Engine, StartWorkers},
    event::Emitter,
    queue::Queue,
    subscriber::AnswerRules,
    worker::{GiveUp, Work, run_worker},
};
use crate::{
    config::{Config, ConfigError},
    handler::Handler,
    lookup::Discovered,
    message::{Delay, Message, OnDrop},
};

/// What a [`Consumer`] is made of.
#[must_use]
pub struct ConsumerBuilder {
    topic: String,
    channel: String,
    config: Config,
    on_drop: OnDrop,
    on_give_up: Option<GiveUp>,
    discovery_filter: Option<DiscoveryFilter>,
    handlers: Vec<(usize, StartWorkers)>,
}

impl ConsumerBuilder {
    pub(super) fn new(topic: &str, channel: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            channel: channel.to_owned(),
            config: Config::default(),
            on_drop: OnDrop::Requeue(Delay::Auto),
            on_give_up: None,
            discovery_filter: None,
            handlers: Vec::new(),
        }
    }

    /// Sets the configuration.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Adds a handler that gets one message at a time.
    pub fn handler(self, handler: impl Handler) -> Self {
        self.concurrent_handlers(1, handler)
    }

    /// Adds a handler that gets up to `concurrency` messages at a time. Several handlers share the messages: each
    /// message goes to one of them.
    pub fn concurrent_handlers<H: Handler>(mut self, concurrency: usize, handler: H) -> Self {
        let start: StartWorkers = Box::new(move |workers, work| {
            let handler = Arc::new(handler);
            for _ in 0..concurrency {
                workers.spawn(run_worker(Arc::clone(work), Arc::clone(&handler)));
            }
        });
        if concurrency > 0 {
            self.handlers.push((concurrency, start));
        }
        self
    }

    /// Sets what is done with a message whose attempts exceed `max_attempts`, instead of handling it. The message is
    /// finished afterwards, or requeued if `hook` panics, unless the hook has answered it.
    pub fn on_give_up<F, R>(mut self, hook: F) -> Self
    where
        F: Fn(Message) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.on_give_up = Some(Arc::new(move |message| Box::pin(hook(message))));
        self
    }

    /// Sets what happens to a message that its owner drops without an answer; at first it is requeued with
    /// [`Delay::Auto`].
    pub fn on_drop(mut self, on_drop: OnDrop) -> Self {
        self.on_drop = on_drop;
        self
    }

    /// Sets what chooses among the nsqds that an nsqlookupd knows: it may leave out, reorder and rewrite them. nsqds that
    /// are connected to by their address are not concerned. `filter` is called with each answer and must not block.
    pub fn discovery_filter<F>(mut self, filter: F) -> Self
    where
        F: Fn(Vec<Discovered>) -> Vec<Discovered> + Send + Sync + 'static,
    {
        self.discovery_filter = Some(Box::new(filter));
        self
    }

    /// Checks everything and builds the consumer, which does nothing until it is connected.
    ///
    /// # Errors
    /// [`ConfigError`] for a name that breaks the rules, and as [`Config::validate`].
    pub fn build(self) -> Result<Consumer, ConfigError> {
        self.build_with(false)
    }

    /// As [`ConsumerBuilder::build`], for messages to be pulled. Handlers, if there are any, get their share.
    ///
    /// # Errors
    /// As [`ConsumerBuilder::build`].
    pub fn into_stream(self) -> Result<Messages, ConfigError> {
        self.build_with(true).map(Messages::new)
    }

    fn build_with(self, is_pulled: bool) -> Result<Consumer, ConfigError> {
        self.config.validate()?;
        if self.config.low_rdy_timeout < self.config.low_rdy_idle_timeout {
            tracing::warn!(
                "low_rdy_timeout is below low_rdy_idle_timeout, which has no effect then"
            );
        }
        let names = (TopicName::new(&self.topic)?, ChannelName::new(&self.channel)?);
        let queue = Queue::new(self.handlers.iter().map(|(concurrency, _)| concurrency).sum());
        let work = Work {
            queue: Arc::new(queue),
            attempts_max: self.config.max_attempts,
            on_give_up: self.on_give_up,
            given_up: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            events: Emitter::new(),
        };
        let rules = AnswerRules::new(&self.config, self.on_drop);
        let workers = self.handlers.into_iter().map(|(_, start)| start).collect();
        let discovery = Discovery::new(self.discovery_filter);
        let work = Arc::new(work);
        let engine = Engine::new(names, self.config, rules, work, discovery, workers, is_pulled);
        Ok(Consumer::new(Arc::new(engine)))
    }
}

impl fmt::Debug for ConsumerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerBuilder")
            .field("topic", &self.topic)
            .field("channel", &self.channel)
            .field("config", &self.config)
            .field("handlers", &self.handlers.len())
            .finish_non_exhaustive()
    }
}
