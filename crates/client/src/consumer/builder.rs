//! The builder of consumers.

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

/// Configures and builds a [`Consumer`].
///
/// ```
/// use nsq_client::{Config, Consumer, Message};
///
/// let consumer = Consumer::builder("orders", "billing")
///     .config(Config { max_in_flight: 200, ..Config::default() })
///     .concurrent_handlers(8, async |message: Message| {
///         println!("{:?}", message.body());
///         Ok::<_, std::convert::Infallible>(())
///     })
///     .on_give_up(async |message: Message| eprintln!("gave up on {}", message.id()))
///     .build()?;
/// # Ok::<(), nsq_client::ConfigError>(())
/// ```
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

    /// Sets the configuration; [`Config::default`] if not called.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Adds a handler that is called with one message at a time.
    pub fn handler(self, handler: impl Handler) -> Self {
        self.concurrent_handlers(1, handler)
    }

    /// Adds a handler that is called with up to `concurrency` messages at a time. If there are several handlers, each
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

    /// Sets a hook that is called, instead of a handler, with each message whose attempts exceed `max_attempts`.
    ///
    /// Unless the hook has answered the message, it is finished afterwards, or requeued if the hook panics.
    pub fn on_give_up<F, R>(mut self, hook: F) -> Self
    where
        F: Fn(Message) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.on_give_up = Some(Arc::new(move |message| Box::pin(hook(message))));
        self
    }

    /// Sets the treatment of a message that is dropped without an answer. By default it is requeued with
    /// [`Delay::Auto`].
    pub fn on_drop(mut self, on_drop: OnDrop) -> Self {
        self.on_drop = on_drop;
        self
    }

    /// Sets a filter for the nsqds found through nsqlookupds, which may remove, reorder and rewrite them.
    ///
    /// The filter is called with each answer of an nsqlookupd and must not block. It does not apply to nsqds that the
    /// consumer connects to by their address.
    pub fn discovery_filter<F>(mut self, filter: F) -> Self
    where
        F: Fn(Vec<Discovered>) -> Vec<Discovered> + Send + Sync + 'static,
    {
        self.discovery_filter = Some(Box::new(filter));
        self
    }

    /// Builds the consumer, which does nothing until it is told to connect.
    ///
    /// # Errors
    /// Returns [`ConfigError`] for an invalid topic or channel name, or if [`Config::validate`] fails.
    pub fn build(self) -> Result<Consumer, ConfigError> {
        self.build_with(false)
    }

    /// Builds a consumer whose messages are pulled. If there are handlers too, they share the messages with the stream.
    ///
    /// # Errors
    /// Returns the same errors as [`ConsumerBuilder::build`].
    pub fn into_stream(self) -> Result<Messages, ConfigError> {
        self.build_with(true).map(Messages::new)
    }

    fn build_with(self, is_pulled: bool) -> Result<Consumer, ConfigError> {
        self.config.validate()?;
        if self.config.low_rdy_timeout < self.config.low_rdy_idle_timeout {
            tracing::warn!(
                "low_rdy_idle_timeout has no effect because it is longer than low_rdy_timeout"
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
