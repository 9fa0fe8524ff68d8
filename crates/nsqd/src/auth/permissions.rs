//! The permissions of a client, as an auth server gives them.

use std::time::Duration;

use serde_json::{Map, Value};

use super::pattern::Pattern;

/// The longest time that permissions are kept for, however long the server says.
const TTL_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The answer of an auth server: who a client is, and what it may do for how long.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Permissions {
    pub(crate) ttl: Duration,
    pub(crate) identity: String,
    pub(crate) identity_url: String,
    authorizations: Vec<Authorization>,
}

#[derive(Debug, PartialEq, Eq)]
struct Authorization {
    topic: Pattern,
    channels: Vec<Pattern>,
    may_subscribe: bool,
    may_publish: bool,
}

/// Why an answer cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum InvalidPermissions {
    #[error("invalid JSON at line {line} column {column}")]
    Json { line: usize, column: usize },
    #[error("{0} has the wrong type")]
    Type(&'static str),
    #[error("unknown permission {0}")]
    Permission(String),
    #[error("unable to compile {what} {text:?} {source}")]
    Pattern { what: &'static str, text: String, source: regex::Error },
    #[error("invalid TTL {0} (must be >0)")]
    Ttl(i64),
}

impl Permissions {
    /// Reads the answer of an auth server.
    pub(super) fn parse(answer: &[u8]) -> Result<Self, InvalidPermissions> {
        let json = serde_json::from_str(&String::from_utf8_lossy(answer));
        let json: Value = json.map_err(|error| InvalidPermissions::Json {
            line: error.line(),
            column: error.column(),
        })?;
        let fields = Fields::of(&json, "answer")?;
        let authorizations = fields.list("authorizations")?.iter().map(Authorization::parse);
        let authorizations = authorizations.collect::<Result<_, _>>()?;
        let ttl = fields.number("ttl")?;
        let seconds = u64::try_from(ttl).ok().filter(|seconds| *seconds > 0);
        let seconds = seconds.ok_or(InvalidPermissions::Ttl(ttl))?;
        Ok(Self {
            ttl: Duration::from_secs(seconds).min(TTL_MAX),
            identity: fields.text("identity")?.to_owned(),
            identity_url: fields.text("identity_url")?.to_owned(),
            authorizations,
        })
    }

    /// The number of authorizations.
    pub(crate) fn count(&self) -> usize {
        self.authorizations.len()
    }

    pub(crate) fn may_subscribe(&self, topic: &str, channel: &str) -> bool {
        let allows = |it: &Authorization| it.may_subscribe && it.matches(topic, channel);
        self.authorizations.iter().any(allows)
    }

    /// Publishing is for a channel without a name, which a pattern of a channel has to match.
    pub(crate) fn may_publish(&self, topic: &str) -> bool {
        let allows = |it: &Authorization| it.may_publish && it.matches(topic, "");
        self.authorizations.iter().any(allows)
    }
}

impl Authorization {
    fn parse(json: &Value) -> Result<Self, InvalidPermissions> {
        let fields = Fields::of(json, "authorization")?;
        let (mut may_subscribe, mut may_publish) = (false, false);
        for permission in fields.texts("permissions")? {
            match permission {
                "subscribe" => may_subscribe = true,
                "publish" => may_publish = true,
                unknown => return Err(InvalidPermissions::Permission(unknown.to_owned())),
            }
        }
        let topic = pattern("topic", fields.text("topic")?)?;
        let channels = fields.texts("channels")?.into_iter().map(|text| pattern("channel", text));
        Ok(Self {
            topic,
            channels: channels.collect::<Result<_, _>>()?,
            may_subscribe,
            may_publish,
        })
    }

    fn matches(&self, topic: &str, channel: &str) -> bool {
        self.topic.matches(topic) && self.channels.iter().any(|pattern| pattern.matches(channel))
    }
}

fn pattern(what: &'static str, text: &str) -> Result<Pattern, InvalidPermissions> {
    let unusable = |source| InvalidPermissions::Pattern { what, text: text.to_owned(), source };
    Pattern::new(text).map_err(unusable)
}

/// A JSON object, read as NSQ does: keys match in any case, and a value that is absent or `null` is empty.
struct Fields<'a>(Option<&'a Map<String, Value>>);

impl<'a> Fields<'a> {
    fn of(json: &'a Value, what: &'static str) -> Result<Self, InvalidPermissions> {
        match json {
            Value::Object(fields) => Ok(Self(Some(fields))),
            Value::Null => Ok(Self(None)),
            _ => Err(InvalidPermissions::Type(what)),
        }
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        let same = |(name, _): &(&String, _)| name.eq_ignore_ascii_case(key);
        let (_, value) = self.0?.iter().find(same)?;
        Some(value).filter(|value| !value.is_null())
    }

    fn number(&self, key: &'static str) -> Result<i64, InvalidPermissions> {
        self.get(key).map_or(Ok(0), |value| value.as_i64().ok_or(InvalidPermissions::Type(key)))
    }

    fn text(&self, key: &'static str) -> Result<&'a str, InvalidPermissions> {
        self.get(key).map_or(Ok(""), |value| value.as_str().ok_or(InvalidPermissions::Type(key)))
    }

    fn list(&self, key: &'static str) -> Result<&'a [Value], InvalidPermissions> {
        match self.get(key) {
            None => Ok(&[]),
            Some(Value::Array(values)) => Ok(values),
            Some(_) => Err(InvalidPermissions::Type(key)),
        }
    }

    fn texts(&self, key: &'static str) -> Result<Vec<&'a str>, InvalidPermissions> {
        let text = |value: &'a Value| match value {
            Value::Null => Ok(""),
            value => value.as_str().ok_or(InvalidPermissions::Type(key)),
        };
        self.list(key)?.iter().map(text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(answer: &str) -> Permissions {
        Permissions::parse(answer.as_bytes()).unwrap()
    }

    fn refusal(answer: &str) -> String {
        Permissions::parse(answer.as_bytes()).unwrap_err().to_string()
    }

    /// Permissions with one authorization.
    fn one(authorization: &str) -> Permissions {
        parse(&format!(r#"{{"ttl":1,"authorizations":[{authorization}]}}"#))
    }

    #[test]
    fn an_answer_is_read_as_nsq_reads_it() {
        let answer =
            r#"{"TTL":60,"identity":null,"Identity_URL":"u","authorizations":[null],"more":{}}"#;
        let permissions = parse(answer);
        assert_eq!(permissions.ttl, Duration::from_secs(60));
        assert_eq!((permissions.identity.as_str(), permissions.identity_url.as_str()), ("", "u"));
        assert_eq!(permissions.count(), 1);
        assert!(!permissions.may_publish("t") && !permissions.may_subscribe("t", "c"));
        assert_eq!(parse(r#"{"ttl":9223372036854775807}"#).ttl, TTL_MAX);
    }

    #[test]
    fn unusable_answers_are_refused_with_a_reason() {
        for (answer, reason) in [
            ("", "invalid JSON at line 1 column 0"),
            ("{} {}", "invalid JSON at line 1 column 4"),
            ("[]", "answer has the wrong type"),
            ("null", "invalid TTL 0 (must be >0)"),
            (r#"{"ttl":-1}"#, "invalid TTL -1 (must be >0)"),
            (r#"{"ttl":1.5}"#, "ttl has the wrong type"),
            (r#"{"ttl":"1"}"#, "ttl has the wrong type"),
            (r#"{"ttl":1,"identity":1}"#, "identity has the wrong type"),
            (r#"{"ttl":1,"authorizations":{}}"#, "authorizations has the wrong type"),
            (r#"{"ttl":1,"authorizations":[1]}"#, "authorization has the wrong type"),
            (r#"{"ttl":1,"authorizations":[{"channels":[1]}]}"#, "channels has the wrong type"),
            (
                r#"{"ttl":1,"authorizations":[{"permissions":["admin"]}]}"#,
                "unknown permission admin",
            ),
        ] {
            assert_eq!(refusal(answer), reason, "{answer}");
        }
        let reason = refusal(r#"{"ttl":1,"authorizations":[{"topic":"a("}]}"#);
        assert!(reason.starts_with("unable to compile topic \"a(\" "), "{reason}");
        let reason = refusal(r#"{"ttl":1,"authorizations":[{"channels":["c","["]}]}"#);
        assert!(reason.starts_with("unable to compile channel \"[\" "), "{reason}");
    }

    #[test]
    fn a_permission_is_for_its_topics_and_channels() {
        let both =
            r#"{"topic":"^t$","channels":["^a$","b"],"permissions":["subscribe","publish"]}"#;
        let both = one(both);
        assert!(both.may_subscribe("t", "a") && both.may_subscribe("t", "xbx"));
        assert!(!both.may_subscribe("t", "c") && !both.may_subscribe("tt", "a"));
        assert!(!both.may_publish("t"), "no pattern matches a channel without a name");
        let publish = one(r#"{"topic":"t","channels":[".*"],"permissions":["publish"]}"#);
        assert!(publish.may_publish("xtx") && !publish.may_publish("x"));
        assert!(!publish.may_subscribe("t", "c"));
        let subscribe = one(r#"{"topic":"t","channels":[""],"permissions":["subscribe"]}"#);
        assert!(subscribe.may_subscribe("t", "c") && !subscribe.may_publish("t"));
    }

    #[test]
    fn one_of_several_authorizations_is_enough_but_it_has_to_fit_as_a_whole() {
        let split = one(concat!(
            r#"{"topic":"^a$","channels":["^x$"],"permissions":["subscribe"]},"#,
            r#"{"topic":"^b$","channels":["^y$"],"permissions":["subscribe"]}"#
        ));
        assert!(split.may_subscribe("a", "x") && split.may_subscribe("b", "y"));
        assert!(!split.may_subscribe("a", "y") && !split.may_subscribe("b", "x"));
    }
}
