//! An asynchronous client for the NSQ message platform: [`Consumer`] and [`Producer`], on tokio.
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
//! 1. **Build.** [`Consumer::builder`] takes a topic, a channel, a [`Config`] and one or more handlers. A handler is
//!    any [`Handler`], such as a closure that takes a [`Message`] and returns a future. [`ConsumerBuilder::build`]
//!    checks everything.
//! 2. **Connect.** [`Consumer::connect_to_nsqd`] connects to one nsqd, subscribes, and returns when nsqd has accepted
//!    the subscription. From then on a lost connection is re-established. [`Consumer::connect_to_nsqlookupd`] connects
//!    to every nsqd that an nsqlookupd knows to have the topic. It asks again every `lookupd_poll_interval` and after a
//!    connection is lost.
//! 3. **Receive.** `max_in_flight` is divided among the connections, and each nsqd is told its share by RDY. It sends
//!    that many messages ahead; they wait in one queue for the handlers. When there are more connections than messages
//!    allowed, the connections take turns.
//! 4. **Handle.** A handler's result answers the message: `Ok` sends FIN; an error or a panic sends REQ, with a delay
//!    that grows with each attempt. After `max_attempts` a message is passed to [`ConsumerBuilder::on_give_up`] and
//!    finished. A handler may also answer itself, with [`Message::finish`] or [`Message::requeue`], or keep the message
//!    for later with [`Message::disable_auto_response`].
//! 5. **Back off.** After a failure the consumer sets RDY to 0 on all connections, pauses for `backoff_multiplier` ×
//!    2^level (at most `max_backoff_duration`), and then tries a single message. If that fails the next pause is
//!    longer, otherwise it is shorter; after as many successes as failures the consumer runs at full speed again. Use
//!    [`Message::requeue_without_backoff`] for messages that have merely come too early. A `max_backoff_duration` of 0
//!    disables backing off.
//! 6. **Stop.** [`Consumer::stop`] asks every nsqd to send no more messages (CLS), lets messages in flight be handled,
//!    and closes the connections. It always completes.
//!
//! To pull messages instead of handling them in callbacks, use [`ConsumerBuilder::into_stream`]. [`Consumer::events`]
//! reports connections, failures and backing off; [`Consumer::stats`] returns counters.
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
//! When a publish returns `Ok`, nsqd has accepted the messages. Otherwise [`PublishError`] tells whether the messages
//! were not sent, were refused, or may have been accepted although the answer was lost. To have many publishes in
//! flight at once, call [`Producer::publish`] from many tasks, or [`Producer::enqueue`] from one.
//!
//! A [`ProducerPool`] publishes to whichever of several nsqds is available. A [`BatchingProducer`], on top of either,
//! gathers single messages into batches; use it for many small messages from many tasks.
//!
//! # Encryption, compression, authorization
//!
//! All three are configured in [`Config`] and negotiated with nsqd when a connection is made.
//!
//! - **TLS** is requested by `tls_v1` and required by any setting in `tls_config`: an nsqd without TLS is then an
//!   error. See [`Config::tls_mode`]. TLS 1.2 and 1.3 are supported. By default the certificate authorities of the
//!   operating system are trusted; [`TlsConfig::root_ca_file`] names others. nsqd's certificate must match the host
//!   that was dialed.
//! - **Compression** is `snappy` or `deflate`, inside TLS. If nsqd does not support it, the connection is uncompressed.
//! - **Authorization**: `auth_secret` is sent to an nsqd that asks for it, but never in the clear when TLS was
//!   requested. It does not appear in `Debug` output. [`identify()`] returns nsqd's answers, including the identity
//!   behind the secret.
//!
//! The cargo features `tls` and `compression` are both on by default. Without them, a configuration that needs them is
//! refused.
//!
//! # Guarantees
//!
//! - Delivery is at least once: a message may be delivered again, for example when its answer was lost with a
//!   connection.
//! - A message is answered only once, because answering consumes it. A message dropped without an answer is requeued.
//! - Heartbeats are answered even while all handlers are busy, because reading never waits for handlers.
//! - All futures are cancel-safe: dropping one never breaks a connection.
//! - Input from the network is never trusted to be well-formed and never causes a panic.
//!
//! # Logging
//!
//! The crate logs to [`tracing`] with the fields `nsqd`, `topic`, `channel`, `id`, `attempts` and `error`. Connections
//! are logged at INFO, unexpected conditions at WARN, and failed handlers at ERROR. Message bodies are never logged.
#![forbid(unsafe_code)]

mod backoff;
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
