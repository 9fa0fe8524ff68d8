//! Administration: topics and channels that precede or outlive their producers, and tombstones.

use std::{fmt, sync::Arc};

use nsq_broker::registry::Registration;
use nsq_daemon::http::{Error, Method, Query, Request, Response, Route};
use nsq_protocol::{ChannelName, TopicName};

use super::route::{route, topic_text};
use crate::directory::Directory;

pub(super) fn routes(directory: &Arc<Directory>) -> Vec<Route> {
    vec![
        route(directory, Method::POST, "/topic/create", create_topic),
        route(directory, Method::POST, "/topic/delete", delete_topic),
        route(directory, Method::POST, "/topic/tombstone", tombstone),
        route(directory, Method::POST, "/channel/create", create_channel),
        route(directory, Method::POST, "/channel/delete", delete_channel),
    ]
}

fn topic(query: &Query) -> Result<TopicName, Error> {
    TopicName::new(topic_text(query)?).map_err(|_| Error::bad_request("INVALID_ARG_TOPIC"))
}

fn channel(query: &Query) -> Result<(TopicName, ChannelName), Error> {
    let topic = topic(query)?;
    let channel = query.get("channel").ok_or_else(|| Error::bad_request("MISSING_ARG_CHANNEL"))?;
    let channel =
        ChannelName::new(channel).map_err(|_| Error::bad_request("INVALID_ARG_CHANNEL"))?;
    Ok((topic, channel))
}

async fn create_topic(directory: Arc<Directory>, request: Request) -> Result<Response, Error> {
    let topic = topic(&request.query()?)?;
    log_change(&directory, format_args!("adding topic({topic})"));
    directory.with(|registry, _| registry.create_topic(topic.as_str()));
    Ok(Response::empty())
}

async fn create_channel(directory: Arc<Directory>, request: Request) -> Result<Response, Error> {
    let (topic, channel) = channel(&request.query()?)?;
    log_change(&directory, format_args!("adding channel({channel}) in topic({topic})"));
    log_change(&directory, format_args!("adding topic({topic})"));
    directory.with(|registry, _| registry.create_channel(topic.as_str(), channel.as_str()));
    Ok(Response::empty())
}

/// Deletes a topic; an unknown one counts as deleted. `*` stands for all topics in read-only requests and is refused
/// here like any other invalid name, because it would delete everything.
async fn delete_topic(directory: Arc<Directory>, request: Request) -> Result<Response, Error> {
    let topic = topic(&request.query()?)?;
    let deleted = directory.with(|registry, _| registry.delete_topic(topic.as_str()));
    for registration in deleted {
        if let Registration::Channel(_, channel) = registration {
            log_change(&directory, format_args!("removing channel({channel}) from topic({topic})"));
        } else {
            log_change(&directory, format_args!("removing topic({topic})"));
        }
    }
    Ok(Response::empty())
}

async fn delete_channel(directory: Arc<Directory>, request: Request) -> Result<Response, Error> {
    let (topic, channel) = channel(&request.query()?)?;
    let deleted =
        directory.with(|registry, _| registry.delete_channel(topic.as_str(), channel.as_str()));
    if !deleted {
        return Err(Error::not_found("CHANNEL_NOT_FOUND"));
    }
    log_change(&directory, format_args!("removing channel({channel}) from topic({topic})"));
    Ok(Response::empty())
}

async fn tombstone(directory: Arc<Directory>, request: Request) -> Result<Response, Error> {
    let query = request.query()?;
    let topic = topic(&query)?;
    let node = query.get("node").ok_or_else(|| Error::bad_request("MISSING_ARG_NODE"))?;
    log_change(&directory, format_args!("setting tombstone for producer@{node} of topic({topic})"));
    directory.with(|registry, now| registry.tombstone(topic.as_str(), node, now));
    Ok(Response::empty())
}

fn log_change(directory: &Directory, change: fmt::Arguments<'_>) {
    directory.clients_log.info("changes over HTTP", format_args!("DB: {change}"));
}
