//! The parameters that handlers take from the query.

use nsq_daemon::http::{Error, Query};
use nsq_protocol::{ChannelName, TopicName};

/// Returns the topic's name as it was sent, for handlers that only look a topic up.
pub(super) fn topic_text(query: &Query) -> Result<&str, Error> {
    query.get("topic").ok_or_else(|| Error::bad_request("MISSING_ARG_TOPIC"))
}

/// The topic's name, where a topic is created or published to.
pub(super) fn topic(query: &Query) -> Result<TopicName, Error> {
    TopicName::new(topic_text(query)?).map_err(|_| Error::bad_request("INVALID_TOPIC"))
}

/// The names of a channel and its topic. The words for an invalid topic differ from those of [`topic`].
pub(super) fn channel(query: &Query) -> Result<(TopicName, ChannelName), Error> {
    let topic =
        TopicName::new(topic_text(query)?).map_err(|_| Error::bad_request("INVALID_ARG_TOPIC"))?;
    let channel = query.get("channel").ok_or_else(|| Error::bad_request("MISSING_ARG_CHANNEL"))?;
    let channel =
        ChannelName::new(channel).map_err(|_| Error::bad_request("INVALID_ARG_CHANNEL"))?;
    Ok((topic, channel))
}

/// The four spellings that are a truth value.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}
