//! The answer of nsqlookupd to `/channels`.

use std::{borrow::Cow, collections::BTreeSet, fmt};

use nsq_protocol::ChannelName;
use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};

/// The names that are kept of one answer.
const NAMES_MAX: usize = 100_000;

/// The valid names of durable channels in an answer; those beyond the first 100,000 are left out.
///
/// # Errors
/// When it is not JSON of the expected shape.
pub(super) fn durable_channels(answer: &[u8]) -> serde_json::Result<BTreeSet<ChannelName>> {
    serde_json::from_slice(answer).map(|Answer { channels }| channels.0)
}

#[derive(Deserialize)]
struct Answer {
    channels: Names,
}

/// Names that are checked as they are read, so that an answer never takes more memory than the names that are kept.
struct Names(BTreeSet<ChannelName>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(NamesVisitor)
    }
}

struct NamesVisitor;

impl<'de> Visitor<'de> for NamesVisitor {
    type Value = Names;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of names")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Names, A::Error> {
        let mut names = BTreeSet::new();
        while let Some(name) = list.next_element::<Text<'de>>()? {
            let name = ChannelName::new(&name.0).ok().filter(|name| !name.is_ephemeral());
            if names.len() < NAMES_MAX {
                names.extend(name);
            }
        }
        Ok(Names(names))
    }
}

/// A string, borrowed from the answer if it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_valid_names_of_durable_channels_are_kept() {
        let answer =
            br#"{"other":[1],"channels":["b","a","a","\u0063","d#ephemeral","","no spaces"]}"#;
        let names = durable_channels(answer).unwrap();
        assert_eq!(names.iter().map(ChannelName::as_str).collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[test]
    fn an_answer_of_another_shape_is_an_error() {
        for answer in ["", "[]", "{}", r#"{"channels":7}"#, r#"{"channels":[7]}"#] {
            durable_channels(answer.as_bytes()).unwrap_err();
        }
    }

    #[test]
    fn of_too_many_names_the_first_are_kept() {
        let names: Vec<_> = (0..NAMES_MAX + 7).map(|number| number.to_string()).collect();
        let answer = serde_json::json!({ "channels": names }).to_string();
        assert_eq!(durable_channels(answer.as_bytes()).unwrap().len(), NAMES_MAX);
    }
}
