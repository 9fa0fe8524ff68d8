//! `/topic/*` and `/channel/*`: what administrators do.

use std::{fmt::Display, sync::Arc};

use nsq_daemon::http::{Error, Query, Request, Response, StatusCode};
use nsq_protocol::TopicName;

use super::{args, blocking};
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
        Err(error) => Err(failure(node, &path, &error)),
    })
    .await?
}

pub(super) async fn delete_topic(node: Arc<Node>, request: Request) -> Answer {
    // A name that no topic can have is the name of none.
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
    let name = args::topic(&request.query()?)?;
    let topic = node.existing_topic(name.as_str()).ok_or_else(no_topic)?;
    let path = request.path().to_owned();
    blocking(&node, move |node| {
        let emptied = topic.empty();
        // Frees the segments that are not needed any more.
        topic.keep_soon();
        emptied.map(|()| Response::empty()).map_err(|error| failure(node, &path, &error))
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
    let topic = node.existing_topic(args::topic_text(&request.query()?)?).ok_or_else(no_topic)?;
    blocking(node, move |node| written(node, &topic, change(&topic))).await
}

pub(super) async fn create_channel(node: Arc<Node>, request: Request) -> Answer {
    let (topic, channel) = args::channel(&request.query()?)?;
    let topic = node.existing_topic(topic.as_str()).ok_or_else(no_topic)?;
    let path = request.path().to_owned();
    blocking(&node, move |node| match node.channel_of(&topic, &channel) {
        Ok(_) => Ok(Response::empty()),
        // It is being deleted.
        Err(PublishError::Exiting) => Err(no_topic()),
        Err(error) => Err(failure(node, &path, &error)),
    })
    .await?
}

pub(super) async fn delete_channel(node: Arc<Node>, request: Request) -> Answer {
    let (topic, channel) = existing_channel(&node, &request.query()?)?;
    let path = request.path().to_owned();
    blocking(&node, move |node| match node.delete_channel(&topic, &channel) {
        Ok(true) => Ok(Response::empty()),
        Ok(false) => Err(no_channel()),
        Err(error) => Err(failure(node, &path, &error)),
    })
    .await?
}

pub(super) async fn empty_channel(node: Arc<Node>, request: Request) -> Answer {
    let (topic, channel) = existing_channel(&node, &request.query()?)?;
    let path = request.path().to_owned();
    blocking(&node, move |node| {
        let emptied = topic.empty_channel(&channel);
        topic.keep_soon();
        emptied.map(|()| Response::empty()).map_err(|error| failure(node, &path, &error))
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
    let (topic, channel) = existing_channel(node, &request.query()?)?;
    blocking(node, move |node| written(node, &topic, topic.pause_channel(&channel, paused))).await
}

/// Ends a pause or its end: it has taken effect, and must not be forgotten by a crash. Where that cannot be
/// written down now, it is written as soon as the disk takes it, and holds until then.
fn written(node: &Node, topic: &Arc<Topic>, persisted: Result<(), nsq_log::Error>) -> Response {
    if let Err(error) = persisted {
        node.services
            .logger
            .error(format_args!("TOPIC({}): failed to persist a pause - {error}", topic.name));
    }
    node.write_metadata();
    Response::empty()
}

fn existing_channel(node: &Node, query: &Query) -> Result<(Arc<Topic>, Arc<Channel>), Error> {
    let (topic, channel) = args::channel(query)?;
    let topic = node.existing_topic(topic.as_str()).ok_or_else(no_topic)?;
    let channel = topic.existing_channel(channel.as_str()).ok_or_else(no_channel)?;
    Ok((topic, channel))
}

fn no_topic() -> Error {
    Error::not_found("TOPIC_NOT_FOUND")
}

fn no_channel() -> Error {
    Error::not_found("CHANNEL_NOT_FOUND")
}

fn failure(node: &Node, path: &str, error: &dyn Display) -> Error {
    node.services.logger.error(format_args!("failure in {path} - {error}"));
    Error::internal()
}
