//! An asynchronous client for NSQ: [`Consumer`] and [`Producer`], on tokio.
//!
//! # Consuming
//!
//! ```no_run
//! use nsq_client::{Config, Consumer, Message};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let consumer = Consumer::builder("orders", "billing")
//!     .config(Config { max_in_flight: 200, ..Config::default() })
//!     .concurrent_handlers(8, async |message: Message| {
//!         println!("{}", std::str::from_utf8(message.body())?);
//!         Ok::<_, std::str::Utf8Error>(())
//!     })
//!     .build()?;
//! consumer.connect_to_nsqlookupds(["10.0.0.1:4161", "10.0.0.2:4161"]).await?;
//! tokio::signal::ctrl_c().await?;
//! consumer.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! The life of a consumer:
//!
//! 1. [`Consumer::builder`] takes the names of topic and channel, a [`Config`], and handlers: any [`Handler`], which a
//!    closure that takes a [`Message`] and returns a future is. [`ConsumerBuilder::build`] checks all of it.
//! 2. [`Consumer::connect_to_nsqd`] dials, introduces the client by IDENTIFY, subscribes by SUB, and comes back when
//!    nsqd has accepted. From then on the connection is kept: when it is lost, it is made anew.
//!    [`Consumer::connect_to_nsqlookupd`] does this with every nsqd that an nsqlookupd knows to have the topic, and asks
//!    again every `lookupd_poll_interval` and when a connection was lost.
//! 3. `max_in_flight` is shared out over the connections, and each nsqd is told its share by RDY. It sends that many
//!    messages ahead; they wait in one queue for the handlers of all connections. When there are more connections than
//!    messages allowed, they take turns.
//! 4. A handler's result is the answer: `Ok` is FIN, an error or a panic is REQ, to come again after a delay that grows
//!    with the attempts. Beyond `max_attempts` a message is handed to [`ConsumerBuilder::on_give_up`] and finished. A
//!    handler may also answer itself, with [`Message::finish`] or [`Message::requeue`], or take the message elsewhere
//!    with [`Message::disable_auto_response`].
//! 5. After a failure the consumer backs off: RDY 0 on all connections, a pause of `backoff_multiplier` × 2^level up to
//!    `max_backoff_duration`, then a single message to try. Its failure makes the next pause longer, its success
//!    shorter, and after as many successes as failures everything is as before. [`Message::requeue_without_backoff`]
//!    is for messages that come too early rather than fail; `max_backoff_duration` 0 switches all of it off.
//! 6. [`Consumer::stop`] asks every nsqd for no more (CLS), lets what is in flight be handled, and closes. It always
//!    comes to an end.
//!
//! Instead of handlers there is [`ConsumerBuilder::into_stream`], for messages to be pulled. [`Consumer::events`] tells
//! what happens meanwhile, [`Consumer::stats`] how much.
//!
//! # Publishing
//!
//! ```no_run
//! use nsq_client::{Config, Producer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let producer = Producer::new("10.0.0.1:4150", Config::default())?;
//! producer.publish("orders", b"one").await?;
//! producer.multi_publish("orders", &["two", "three"]).await?;
//! # Ok(())
//! # }
//! ```
//!
//! A publish that comes back without an error is in nsqd's hands. [`PublishError`] says of any other whether it was not
//! sent, was refused, or may have been carried out although the answer was lost. Publish from many tasks, or with
//! [`Producer::enqueue`], to have many on their way at once.
//!
//! A [`ProducerPool`] publishes to whichever of several nsqds works. A [`BatchingProducer`], over either, gathers single
//! messages into multi-publishes, for many small messages from many tasks.
//!
//! # Encryption, compression, authorization
//!
//! All are asked for in the [`Config`], and agreed on with nsqd when a connection is made.
//!
//! - TLS: `tls_v1` asks for it; anything set in `tls_config` requires it, so that an nsqd without it is an error. See
//!   [`Config::tls_mode`]. TLS 1.2 and 1.3; the authorities trusted are those of the operating system, or those in
//!   [`TlsConfig::root_ca_file`]; the name in nsqd's certificate has to be the host that was dialed.
//! - Compression: `snappy` or `deflate`, inside TLS. An nsqd that does not offer it is used without.
//! - Authorization: `auth_secret` is sent to an nsqd that asks for it, and never in the clear when TLS was asked for.
//!   `Debug` does not show it. [`identify()`] tells who one is to an nsqd.
//!
//! The cargo features `tls` and `compression`, both on by default, leave out what is not needed; a configuration that
//! needs it is an error then.
//!
//! # What can be relied on
//!
//! - Delivery is at least once: a message may come again, for example when its answer was lost with a connection.
//! - A message is answered once, because answering takes it. Dropping it unanswered requeues it.
//! - Heartbeats are answered while all handlers wait: reading never waits for handlers.
//! - Futures can be dropped at any point without breaking a connection.
//! - What comes from the network is never trusted to be well-formed, and makes nothing panic.
//!
//! # Logging
//!
//! Events go to [`tracing`], with the fields `nsqd`, `topic`, `channel`, `id`, `attempts` and `error`: connections come
//! and go at INFO, what is unexpected is WARN, failed handlers are ERROR. Message bodies are never logged.
#![forbid(unsafe_code)]

mod backoff;
#[cfg(feature = "compression")]
mod compression;
mod config;
mod connection;
mod consumer;
mod error;
mod handler;
mod identify;
mod lookup;
mod message;
mod millis;
mod producer;
mod random;
mod retry;
mod sync;
mod tls;

pub use nsq_protocol::{ChannelName, Code, FrameError, InvalidName, MessageId, TopicName};

pub use crate::{
    backoff::{Backoff, BackoffStrategy},
    config::{Config, ConfigError, ConfigOption, OptionValue, Secret},
    connection::handshake::identify,
    consumer::{
        Consumer, ConsumerBuilder, DRAIN_LIMIT_DEFAULT, Event, Events, Messages, Stats, StopMode,
        StopReport,
    },
    error::{
        ConnectError, ConnectionError, DisconnectLookupdError, DiscoveryError, NotConnected,
        PublishError, ServerError,
    },
    handler::Handler,
    identify::{AuthResponse, IdentifyResponse},
    lookup::{Discovered, LookupError},
    message::{Delay, Message, OnDrop},
    producer::{
        BatchTarget, Batching, BatchingProducer, Producer, ProducerPool, Published, Receipt,
    },
    tls::{TlsConfig, TlsConfigError, TlsMode, TlsVersion},
};
