//! Administration: topics and channels that precede or outlive their producers, and tombstones.

use std::{fmt, sync::Arc};

use nsq_broker::registry::{Registration, Registry};
use nsq_daemon::http::{Error, Method, Query, Request, Response, Route, StatusCode};
use nsq_protocol::{ChannelName, TopicName};

use super::route::{blocking, route, topic_text};
use crate::{
    directory::{Directory, STEP},
    limit::Limit,
};

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
    directory.with(|registry, now| registry.create_topic(topic.as_str(), now));
    Ok(Response::empty())
}

async fn create_channel(directory: Arc<Directory>, request: Request) -> Result<Response, Error> {
    let (topic, channel) = channel(&request.query()?)?;
    log_change(&directory, format_args!("adding channel({channel}) in topic({topic})"));
    log_change(&directory, format_args!("adding topic({topic})"));
    directory.with(|registry, now| {
        registry.create_channel(topic.as_str(), channel.as_str(), now);
    });
    Ok(Response::empty())
}

/// Deletes a topic; an unknown one counts as deleted. `*` stands for all topics in read-only requests and is refused
/// here like any other invalid name, because it would delete everything.
async fn delete_topic(directory: Arc<Directory>, request: Request) -> Result<Response, Error> {
    let topic = topic(&request.query()?)?;
    // Off the runtime, and to the end even if the client goes away.
    blocking(move || {
        let step = |registry: &mut Registry, now| registry.delete_topic(topic.as_str(), now, STEP);
        directory.in_steps_blocking(step, |deleted| match deleted {
            Registration::Channel(_, channel) => {
                log_change(
                    &directory,
                    format_args!("removing channel({channel}) from topic({topic})"),
                );
            }
            _ => log_change(&directory, format_args!("removing topic({topic})")),
        });
        Ok(Response::empty())
    })
    .await
}

async fn delete_channel(directory: Arc<Directory>, request: Request) -> Result<Response, Error> {
    let (topic, channel) = channel(&request.query()?)?;
    let deleted = directory
        .with(|registry, now| registry.delete_channel(topic.as_str(), channel.as_str(), now));
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
    let set = directory.with(|registry, now| registry.tombstone(topic.as_str(), node, now));
    if let Err(error) = set {
        directory.metrics.reached.count(Limit::Tombstones, 1);
        let line = format_args!("DB: no tombstone for topic({topic}): {error}");
        directory.clients_log.warn("refused tombstones", line);
        return Err(Error::new(StatusCode::SERVICE_UNAVAILABLE, "TOO_MANY_TOMBSTONES"));
    }
    Ok(Response::empty())
}

fn log_change(directory: &Directory, change: fmt::Arguments<'_>) {
    directory.clients_log.info("changes over HTTP", format_args!("DB: {change}"));
}
