//! `/topic/*` and `/channel/*`: the calls of administrators.

use std::{fmt::Display, sync::Arc};

use nsq_daemon::http::{Error, Query, Request, Response, StatusCode};
use nsq_protocol::TopicName;

use super::{args, blocking, too_many};
use crate::{
    node::Node,
    topic::channel::Channel,
    topic::{PublishError, Topic},
};

type Answer = Result<Response, Error>;

pub(super) async fn create_topic(node: Arc<Node>, request: Request) -> Answer {
    let name = args::topic(&request.query()?)?;
    let path = request.path().to_owned();
    blocking(&node, move |node| match node.topic_or_create(&name) {
        Ok(_) => Ok(Response::empty()),
        Err(PublishError::Exiting) => Err(Error::new(StatusCode::SERVICE_UNAVAILABLE, "EXITING")),
        Err(PublishError::TooManyTopics) => Err(too_many("TOO_MANY_TOPICS")),
        Err(error) => Err(failure(node, &path, &error)),
    })
    .await?
}

pub(super) async fn delete_topic(node: Arc<Node>, request: Request) -> Answer {
    // Nothing can have a name that is not valid.
    let name = TopicName::new(args::topic_text(&request.query()?)?).map_err(|_| no_topic())?;
    let path = request.path().to_owned();
    blocking(&node, move |node| match node.delete_topic(&name) {
        Ok(true) => Ok(Response::empty()),
        Ok(false) => Err(no_topic()),
        Err(error) => Err(failure(node, &path, &error)),
    })
    .await?
}

pub(super) async fn empty_topic(node: Arc<Node>, request: Request) -> Answer {
    let target = Target::topic(&node, args::topic(&request.query()?)?.as_str())?;
    let path = request.path().to_owned();
    blocking(&node, move |node| {
        let emptied = target.topic.empty();
        // Frees the segments that are not needed any more.
        target.topic.keep_soon();
        target.done(node, &path, emptied)
    })
    .await?
}

pub(super) async fn pause_topic(node: Arc<Node>, request: Request) -> Answer {
    change_topic(&node, &request, Topic::pause).await
}

pub(super) async fn unpause_topic(node: Arc<Node>, request: Request) -> Answer {
    change_topic(&node, &request, Topic::unpause).await
}

async fn change_topic(
    node: &Arc<Node>,
    request: &Request,
    change: fn(&Topic) -> Result<(), nsq_log::Error>,
) -> Answer {
    let target = Target::topic(node, args::topic_text(&request.query()?)?)?;
    blocking(node, move |node| target.paused(node, change(&target.topic))).await?
}

pub(super) async fn create_channel(node: Arc<Node>, request: Request) -> Answer {
    let (topic, channel) = args::channel(&request.query()?)?;
    let target = Target::topic(&node, topic.as_str())?;
    let path = request.path().to_owned();
    blocking(&node, move |node| match node.channel_of(&target.topic, &channel) {
        Ok(_) => Ok(Response::empty()),
        Err(PublishError::Exiting) => Err(no_topic()),
        Err(PublishError::TooManyChannels) => Err(too_many("TOO_MANY_CHANNELS")),
        Err(PublishError::Journal(error)) => Err(target.refusal(node, &path, &error)),
        Err(error) => Err(failure(node, &path, &error)),
    })
    .await?
}

pub(super) async fn delete_channel(node: Arc<Node>, request: Request) -> Answer {
    let (target, channel) = Target::channel(&node, &request.query()?)?;
    let path = request.path().to_owned();
    blocking(&node, move |node| match node.delete_channel(&target.topic, &channel) {
        Ok(true) => Ok(Response::empty()),
        Ok(false) => Err(no_channel()),
        Err(nsq_log::Error::Deleted(_)) => Err(no_topic()),
        Err(error) => Err(failure(node, &path, &error)),
    })
    .await?
}

pub(super) async fn empty_channel(node: Arc<Node>, request: Request) -> Answer {
    let (target, channel) = Target::channel(&node, &request.query()?)?;
    let path = request.path().to_owned();
    blocking(&node, move |node| {
        let emptied = target.topic.empty_channel(&channel);
        target.topic.keep_soon();
        target.done(node, &path, emptied)
    })
    .await?
}

pub(super) async fn pause_channel(node: Arc<Node>, request: Request) -> Answer {
    change_channel(&node, &request, true).await
}

pub(super) async fn unpause_channel(node: Arc<Node>, request: Request) -> Answer {
    change_channel(&node, &request, false).await
}

async fn change_channel(node: &Arc<Node>, request: &Request, paused: bool) -> Answer {
    let (target, channel) = Target::channel(node, &request.query()?)?;
    blocking(node, move |node| target.paused(node, target.topic.pause_channel(&channel, paused)))
        .await?
}

/// The topic or channel that a call changes. It was there when the call came and may be deleted meanwhile.
struct Target {
    topic: Arc<Topic>,
    channel: Option<Arc<Channel>>,
}

impl Target {
    fn topic(node: &Node, name: &str) -> Result<Self, Error> {
        let topic = node.existing_topic(name).ok_or_else(no_topic)?;
        Ok(Self { topic, channel: None })
    }

    fn channel(node: &Node, query: &Query) -> Result<(Self, Arc<Channel>), Error> {
        let (topic, channel) = args::channel(query)?;
        let topic = node.existing_topic(topic.as_str()).ok_or_else(no_topic)?;
        let channel = topic.existing_channel(channel.as_str()).ok_or_else(no_channel)?;
        Ok((Self { topic, channel: Some(channel.clone()) }, channel))
    }

    /// The answer to a change that has been written to the journal, or could not be.
    fn done(&self, node: &Node, path: &str, recorded: Result<(), nsq_log::Error>) -> Answer {
        match recorded {
            Ok(()) => Ok(Response::empty()),
            Err(error) => Err(self.refusal(node, path, &error)),
        }
    }

    /// The answer to a pause or unpause. It has taken effect in any case, and the topic's journal gets it as soon as
    /// the disk allows.
    fn paused(&self, node: &Node, recorded: Result<(), nsq_log::Error>) -> Answer {
        if let Err(error) = recorded {
            if let Some(gone) = self.gone(&error) {
                return Err(gone);
            }
            let topic = &self.topic.name;
            node.services
                .logger
                .error(format_args!("TOPIC({topic}): failed to persist a pause - {error}"));
        }
        node.write_metadata();
        Ok(Response::empty())
    }

    fn refusal(&self, node: &Node, path: &str, error: &nsq_log::Error) -> Error {
        self.gone(error).unwrap_or_else(|| failure(node, path, error))
    }

    /// The answer when a change failed because its target was deleted meanwhile.
    fn gone(&self, error: &nsq_log::Error) -> Option<Error> {
        if matches!(error, nsq_log::Error::Deleted(_)) || self.topic.is_exiting() {
            Some(no_topic())
        } else {
            self.channel.as_ref().filter(|channel| channel.is_exiting()).map(|_| no_channel())
        }
    }
}

fn no_topic() -> Error {
    Error::not_found("TOPIC_NOT_FOUND")
}

fn no_channel() -> Error {
    Error::not_found("CHANNEL_NOT_FOUND")
}

fn failure(node: &Node, path: &str, error: &dyn Display) -> Error {
    let line = format_args!("failure in {path} - {error}");
    node.services.clients_log.error("failures over HTTP", line);
    Error::internal()
}
