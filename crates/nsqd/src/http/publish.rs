//! `/pub` and `/mpub`.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use nsq_daemon::http::{BodyError, Error, Query, Request, Response, StatusCode};
use nsq_log::BatchBuilder;
use nsq_protocol::Limits;

use super::{args, blocking, panicked, too_many};
use crate::{
    meters::Limit,
    node::Node,
    options::Options,
    topic::{PublishError, Topic, bulk::is_bulk},
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
    let bodies = Bodies { bytes: body, binary };
    if is_bulk(bodies.count(), bodies.bytes.len()) {
        return publish_in_bulk(&node, &topic, bodies).await;
    }
    let batch = bodies.encode(&node)?;
    if batch.is_empty() {
        return Ok(Response::text("OK"));
    }
    publish(&node, &topic, batch, None).await
}

/// The messages of an `/mpub`, as they came.
struct Bodies {
    bytes: Bytes,
    /// They are counted; otherwise each is a line.
    binary: bool,
}

impl Bodies {
    /// About how many there are.
    fn count(&self) -> usize {
        if self.binary {
            split_number(&self.bytes).map_or(0, |(count, _)| count as usize)
        } else {
            self.bytes.iter().filter(|byte| **byte == b'\n').count()
        }
    }

    fn encode(&self, node: &Node) -> Result<BatchBuilder, Error> {
        let (limits, mut batch) = (&node.services.options.limits, node.batch());
        let push = if self.binary { push_counted } else { push_lines };
        push(&self.bytes, limits, &mut batch)?;
        Ok(batch)
    }
}

/// Publishes more than a thread that serves connections should do at once.
async fn publish_in_bulk(
    node: &Arc<Node>,
    topic: &Arc<Topic>,
    bodies: Bodies,
) -> Result<Response, Error> {
    let publish = move |node: &Arc<Node>, topic: &Arc<Topic>| {
        let mut batch = bodies.encode(node)?;
        if batch.is_empty() {
            return Ok(None);
        }
        node.publish(topic, &mut batch, None).map(Some).map_err(|error| refused(&error))
    };
    let published =
        node.in_bulk(topic, publish).await.map_err(|panic| panicked(node, &panic))??;
    match published {
        Some((topic, end)) => answer(node, &topic, end).await,
        None => Ok(Response::text("OK")),
    }
}

async fn publish(
    node: &Arc<Node>,
    topic: &Arc<Topic>,
    mut batch: BatchBuilder,
    defer: Option<Duration>,
) -> Result<Response, Error> {
    if topic.bulk.are_taken() {
        topic.bulk.passed().await;
    }
    let (topic, end) = node.publish(topic, &mut batch, defer).map_err(|error| refused(&error))?;
    answer(node, &topic, end).await
}

/// The answer to a publish that is in the log before `end`.
async fn answer(node: &Node, topic: &Topic, end: u64) -> Result<Response, Error> {
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
