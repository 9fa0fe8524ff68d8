//! `/pub` and `/mpub`.

use std::{sync::Arc, time::Duration};

use nsq_daemon::http::{BodyError, Error, Query, Request, Response, StatusCode};
use nsq_log::BatchBuilder;
use nsq_protocol::Limits;

use super::{args, blocking, too_many};
use crate::{
    meters::Limit,
    node::Node,
    options::Options,
    topic::{PublishError, Topic},
};

/// Publishes the body as one message.
pub(super) async fn one(node: Arc<Node>, mut request: Request) -> Result<Response, Error> {
    let options = &node.services.options;
    let body = request.body_up_to(options.limits.message_bytes_max as usize).await;
    let body = body.map_err(|error| unread(&node, error, "MSG_TOO_BIG"))?;
    if body.is_empty() {
        return Err(Error::bad_request("MSG_EMPTY"));
    }
    let query = request.query()?;
    let topic = topic_or_create(&node, &query).await?;
    let defer = query.get("defer").map(|text| delay(text, options)).transpose()?;
    let mut batch = node.batch();
    batch.push(&body);
    publish(&node, &topic, batch, defer.filter(|defer| !defer.is_zero())).await
}

/// Publishes all messages of the body or none.
pub(super) async fn many(node: Arc<Node>, mut request: Request) -> Result<Response, Error> {
    let limits = &node.services.options.limits;
    if request.content_length().is_some_and(|length| length > u64::from(limits.body_bytes_max)) {
        return Err(too_large("BODY_TOO_BIG"));
    }
    let query = request.query()?;
    let topic = topic_or_create(&node, &query).await?;
    let binary = query.get("binary").is_some_and(|value| {
        args::boolean(value).unwrap_or_else(|| {
            let line = format_args!("deprecated value '{value}' used for /mpub binary param");
            node.services.clients_log.warn("deprecated values", line);
            true
        })
    });
    let body = request.body_up_to(limits.body_bytes_max as usize).await;
    let body = body.map_err(|error| match error {
        BodyError::Read(_) if binary => too_large("BAD_MESSAGE"),
        error => unread(&node, error, "BODY_TOO_BIG"),
    })?;
    let mut batch = node.batch();
    if binary {
        push_counted(&body, limits, &mut batch)?;
    } else {
        push_lines(&body, limits, &mut batch)?;
    }
    if batch.is_empty() {
        return Ok(Response::text("OK"));
    }
    publish(&node, &topic, batch, None).await
}

async fn publish(
    node: &Arc<Node>,
    topic: &Arc<Topic>,
    mut batch: BatchBuilder,
    defer: Option<Duration>,
) -> Result<Response, Error> {
    let (topic, end) = node.publish(topic, &mut batch, defer).map_err(|error| refused(&error))?;
    // An ephemeral topic has no file to flush.
    if node.services.options.waits_for_sync() && !topic.name.is_ephemeral() {
        topic.synced(end).await.map_err(|_| exiting())?;
    }
    Ok(Response::text("OK"))
}

/// Returns the topic of the query. One that exists, which is the common case, is found without leaving the thread.
async fn topic_or_create(node: &Arc<Node>, query: &Query) -> Result<Arc<Topic>, Error> {
    let name = args::topic(query)?;
    if let Some(topic) = node.live_topic(name.as_str()) {
        return Ok(topic);
    }
    let created = blocking(node, move |node| node.topic_or_create(&name)).await?;
    created.map_err(|error| refused(&error))
}

fn delay(text: &str, options: &Options) -> Result<Duration, Error> {
    let ms = text.parse::<i64>().ok().and_then(|ms| u64::try_from(ms).ok());
    ms.map(Duration::from_millis)
        .filter(|delay| *delay <= options.max_req_timeout)
        .ok_or_else(|| Error::bad_request("INVALID_DEFER"))
}

/// Adds every line that is not empty. Lines end with `\n` alone.
fn push_lines(body: &[u8], limits: &Limits, batch: &mut BatchBuilder) -> Result<(), Error> {
    for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        if line.len() > limits.message_bytes_max as usize {
            return Err(too_large("MSG_TOO_BIG"));
        }
        batch.push(line);
    }
    Ok(())
}

/// Adds the messages of a body that is laid out like that of MPUB without the leading size: the number of messages,
/// then each with its size. Bytes behind the last message are ignored.
fn push_counted(body: &[u8], limits: &Limits, batch: &mut BatchBuilder) -> Result<(), Error> {
    // Each message takes four bytes for its size and at least one for its body.
    let count_max = limits.body_bytes_max.saturating_sub(4) / 5;
    let (count, mut rest) = split_number(body)
        .filter(|(count, _)| (1..=count_max).contains(count))
        .ok_or_else(|| too_large("BAD_BODY"))?;
    for _ in 0..count {
        let message = split_number(rest)
            .filter(|(bytes, _)| (1..=limits.message_bytes_max).contains(bytes))
            .and_then(|(bytes, rest)| rest.split_at_checked(bytes as usize));
        let (body, tail) = message.ok_or_else(|| too_large("BAD_MESSAGE"))?;
        batch.push(body);
        rest = tail;
    }
    Ok(())
}

/// Splits a 32-bit number off the front. Numbers that are negative in NSQ are above every limit here.
fn split_number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u32::from_be_bytes(*number), rest))
}

fn unread(node: &Node, error: BodyError, too_big: &'static str) -> Error {
    match error {
        BodyError::TooBig { .. } => return too_large(too_big),
        BodyError::NoRoom => node.services.meters.reached(Limit::NetworkMemory),
        _ => {}
    }
    error.into()
}

fn too_large(message: &'static str) -> Error {
    Error::new(StatusCode::PAYLOAD_TOO_LARGE, message)
}

fn refused(error: &PublishError) -> Error {
    match error {
        PublishError::TooManyTopics => too_many("TOO_MANY_TOPICS"),
        _ => exiting(),
    }
}

/// The answer whenever the topic refuses messages, because it is being deleted or because of the disk. nsqd logs
/// which of the two it was.
fn exiting() -> Error {
    Error::new(StatusCode::SERVICE_UNAVAILABLE, "EXITING")
}
