//! Topics and channels as a scheduler of sequence numbers: fan-out, in flight, deferred, fair
//! hand-out.
//!
//! A topic is one append-only log of messages with dense sequence numbers. A channel is a position
//! in it and the messages it has not finished. This crate decides which client gets which sequence
//! numbers and when; it knows no bodies, sockets, files, threads or clocks. Ranges and the time are
//! arguments, and the same calls always have the same outcome.
//!
//! - [`Topic`] decides when published messages go to the channels.
//! - [`Channel`] hands them to clients: [`Channel::offer`] and [`Channel::take`], then
//!   [`Channel::finish`], [`Channel::requeue`] or [`Channel::touch`].
//! - [`Changes`] and [`ChannelState`] are the records of a channel that a journal keeps.
//! - [`registry`] is nsqlookupd's database of topics, channels and their producers.
//!
//! ```
//! use std::time::Duration;
//!
//! use nsq_broker::{Channel, ChannelConfig, ClientConfig, ClientId, Distance, Time, Topic};
//!
//! let mut topic = Topic::new(0);
//! let config = ChannelConfig { depth_max: None, max_msg_timeout: Duration::from_secs(900), seed: 1 };
//! let mut channel = Channel::new(config, topic.add_channel().start);
//!
//! // A client that finds nothing parks, and is woken when there is something.
//! let client = ClientId(7);
//! let distance = Distance::Global;
//! channel.add_client(client, ClientConfig { msg_timeout: Duration::from_secs(60), sample_rate: 0, distance });
//! channel.set_ready(client, 100);
//! assert!(channel.offer(client).is_none() && channel.park(client));
//! let fan_out = topic.publish(0..3, None).expect("the topic has a channel and is not paused");
//! channel.publish(&fan_out, Time(1_000));
//! assert!(channel.drain_woken().eq([client]));
//!
//! // It takes the offer and finishes two of the three.
//! let offer = channel.offer(client).expect("three messages are ready");
//! assert_eq!((offer.range.clone(), offer.attempts), (0..3, 1));
//! channel.take(client, &offer, 3, Time(2_000));
//! let mut failed = Vec::new();
//! assert_eq!(channel.finish(client, 0..2, &mut failed), 2);
//! assert_eq!(channel.low(), 2);
//!
//! // The third times out and is delivered again.
//! let deadline = channel.next_deadline().expect("a message is in flight");
//! channel.expire(deadline);
//! let offer = channel.offer(client).expect("it is ready again");
//! assert_eq!((offer.range, offer.attempts), (2..3, 2));
//! ```

#![cfg_attr(
    test,
    expect(clippy::single_range_in_vec_init, reason = "lists of ranges are what is compared here")
)]

mod aside;
mod changes;
mod channel;
mod client;
mod hand_out;
mod in_flight;
mod pending;
mod range_set;
mod refusal;
pub mod registry;
mod run;
mod stamp;
mod state;
mod time;
mod topic;

pub use changes::{Changes, Outstanding};
pub use channel::{Channel, ChannelConfig, Counters, Offer};
pub use client::{ClientConfig, ClientId, ClientStats, Distance};
pub use refusal::Refusal;
pub use stamp::Stamp;
pub use state::{ChannelState, Replay};
pub use time::Time;
pub use topic::{ChannelStart, FanOut, Topic, TopicState};
