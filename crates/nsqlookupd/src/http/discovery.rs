//! Discovery for consumers and tools. Short answers are made at once, long ones when it is their turn.

use std::sync::Arc;

use nsq_broker::{
    Time,
    registry::{Peer, Place, Registry, Seen, Slice},
};
use nsq_daemon::http::{Error, Method, Request, Response, Route};

use super::{
    answer::{self, DebugRow, Node},
    long::{self, Gather},
    route::{route, topic_text},
};
use crate::directory::{Directory, STEP};

/// Stands for all topics in read-only requests.
const ALL_TOPICS: &str = "*";

/// The names, and the producers, of an answer that is short: one for which waiting behind long ones would be worse than
/// the millisecond that it takes.
const SHORT: usize = STEP;

pub(super) fn routes(directory: &Arc<Directory>) -> Vec<Route> {
    vec![
        route(directory, Method::GET, "/topics", topics),
        route(directory, Method::GET, "/channels", channels),
        route(directory, Method::GET, "/lookup", lookup),
        route(directory, Method::GET, "/nodes", nodes),
        route(directory, Method::GET, "/debug", debug),
    ]
}

async fn topics(directory: Arc<Directory>, _: Request) -> Result<Response, Error> {
    let slice = |registry: &Registry, from, at_most, _| registry.topics(from, at_most);
    names(directory, slice, answer::topics).await
}

async fn channels(directory: Arc<Directory>, request: Request) -> Result<Response, Error> {
    let query = request.query()?;
    let slice = channels_of(topic_text(&query)?.to_owned());
    names(directory, slice, answer::channels).await
}

/// The slices of the channels of a topic, or of all.
fn channels_of(
    topic: String,
) -> impl Fn(&Registry, Place, usize, Time) -> Slice<Box<str>> + Send + 'static {
    move |registry, from, at_most, _| match topic.as_str() {
        ALL_TOPICS => registry.all_channels(from, at_most),
        topic => registry.channels(topic, from, at_most),
    }
}

/// An answer that is a list of names.
async fn names(
    directory: Arc<Directory>,
    slice: impl Fn(&Registry, Place, usize, Time) -> Slice<Box<str>> + Send + 'static,
    format: impl Fn(&[Box<str>]) -> Result<Vec<u8>, Error> + Send + 'static,
) -> Result<Response, Error> {
    let first = directory.with(|registry, now| slice(registry, Place::default(), SHORT, now));
    if first.next.is_none() {
        return format(&sorted(first.items)).map(Response::json);
    }
    long::answer(directory, move |gather| format(&all_names(gather, slice)?)).await
}

async fn lookup(directory: Arc<Directory>, request: Request) -> Result<Response, Error> {
    let query = request.query()?;
    let topic = topic_text(&query)?.to_owned();
    if topic == ALL_TOPICS {
        return lookup_long(directory, topic).await;
    }
    let (producers, channels) = directory.with(|registry, now| {
        let channels = registry.channels(&topic, Place::default(), SHORT);
        (registry.lookup(&topic, now), channels)
    });
    let producers = known(producers)?;
    if channels.next.is_some() || producers.len() > SHORT {
        return lookup_long(directory, topic).await;
    }
    answer::lookup(&sorted(channels.items), &producers).map(Response::json)
}

async fn lookup_long(directory: Arc<Directory>, topic: String) -> Result<Response, Error> {
    let make = move |gather: &mut Gather<'_>| {
        let producers = gather.directory.with(|registry, now| match topic.as_str() {
            ALL_TOPICS => registry.lookup_all(now),
            topic => registry.lookup(topic, now),
        });
        let producers = known(producers)?;
        gather.take(producers.iter().map(|peer| answer::peer_bytes(peer)).sum())?;
        answer::lookup(&all_names(gather, channels_of(topic))?, &producers)
    };
    long::answer(directory, make).await
}

fn known(producers: Option<Vec<Arc<Peer>>>) -> Result<Vec<Arc<Peer>>, Error> {
    producers.ok_or_else(|| Error::not_found("TOPIC_NOT_FOUND"))
}

fn all_names(
    gather: &mut Gather<'_>,
    slice: impl Fn(&Registry, Place, usize, Time) -> Slice<Box<str>>,
) -> Result<Vec<Box<str>>, Error> {
    // A name stands between quotes, with a comma.
    gather.all(|name| name.len() + 3, slice).map(sorted)
}

fn sorted(mut names: Vec<Box<str>>) -> Vec<Box<str>> {
    names.sort_unstable();
    names
}

async fn nodes(directory: Arc<Directory>, _: Request) -> Result<Response, Error> {
    let make = |gather: &mut Gather<'_>| {
        let seen = gather.directory.with(|registry, now| registry.producers(now));
        let active = seen.into_iter().filter(|seen| seen.is_active);
        let nodes = active.map(|seen| node(gather, seen)).collect::<Result<Vec<_>, _>>()?;
        answer::nodes(&nodes)
    };
    long::answer(directory, make).await
}

fn node(gather: &mut Gather<'_>, seen: Seen) -> Result<Node, Error> {
    gather.take(answer::peer_bytes(&seen.peer))?;
    // A topic stands between quotes, with a comma, and has a `true` and a comma.
    let bytes = |(name, _): &(Box<str>, bool)| name.len() + 8;
    let slice =
        |registry: &Registry, from, at_most, now| registry.topics_of(seen.id, from, at_most, now);
    let mut topics = gather.all(bytes, slice)?;
    topics.sort_unstable();
    Ok(Node { peer: seen.peer, topics })
}

async fn debug(directory: Arc<Directory>, _: Request) -> Result<Response, Error> {
    let make = |gather: &mut Gather<'_>| {
        let producers = gather.directory.with(|registry, now| registry.producers(now));
        let mut rows = Vec::new();
        for (at, seen) in producers.iter().enumerate() {
            let peer_bytes = answer::peer_bytes(&seen.peer);
            gather.take(peer_bytes)?;
            rows.push(DebugRow::of_client(at));
            let slice = |registry: &Registry, from, at_most, _| {
                let slice = registry.registrations_of(seen.id, from, at_most);
                let row = |(registration, set_at)| DebugRow::new(&registration, at, set_at);
                Slice { items: slice.items.into_iter().map(row).collect(), next: slice.next }
            };
            rows.extend(gather.all(|_: &DebugRow| peer_bytes, slice)?);
        }
        answer::debug(rows, &producers)
    };
    long::debug_answer(directory, make).await
}
