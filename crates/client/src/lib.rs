//! An asynchronous NSQ client: Consumer and Producer.
#![forbid(unsafe_code)]

mod config;
mod connection;
mod consumer;
mod error;
mod handler;
mod identify;
mod message;
mod millis;
mod producer;
mod sync;

pub use nsq_protocol::{ChannelName, Code, FrameError, InvalidName, MessageId, TopicName};

pub use crate::{
    config::{Config, ConfigError, ConfigOption, OptionValue},
    consumer::{
        Consumer, ConsumerBuilder, DRAIN_LIMIT_DEFAULT, Messages, Stats, StopMode, StopReport,
    },
    error::{ConnectError, ConnectionError, NotConnected, PublishError, ServerError},
    handler::Handler,
    identify::IdentifyResponse,
    message::{Delay, Message, OnDrop},
    producer::{Producer, Receipt},
};
