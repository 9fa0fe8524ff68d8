//! Query parameters.

use super::path::{BadEscape, unescape};

/// A query string that cannot be read: a malformed escape, or a `;`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidQuery {
    /// A `%` is not followed by two hexadecimal digits.
    #[error("invalid URL escape in query")]
    Escape,
    /// Some clients mean it as a separator, others as a part of the value: so it is neither.
    #[error("invalid semicolon separator in query")]
    Semicolon,
}

/// The parameters of a query string. Keys are case-sensitive.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Reads a query string, without its question mark.
    ///
    /// # Errors
    /// When any part of it is malformed.
    pub fn parse(text: &str) -> Result<Self, InvalidQuery> {
        let mut pairs = Vec::new();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            if part.contains(';') {
                return Err(InvalidQuery::Semicolon);
            }
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let unescape = |text| unescape(text, true).map_err(|BadEscape| InvalidQuery::Escape);
            pairs.push((unescape(key)?, unescape(value)?));
        }
        Ok(Self { pairs })
    }

    /// The first value of a parameter. `?a` and `?a=` both have an empty one.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.get_all(key).next()
    }

    /// All values of a parameter, in order.
    pub fn get_all<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(k, _)| k == key).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_wins_and_keys_are_case_sensitive() {
        let query = Query::parse("topic=a&topic=b&&Topic=c&empty=&bare&x=1=2").unwrap();
        assert_eq!(query.get("topic"), Some("a"));
        assert_eq!(query.get_all("topic").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(query.get("Topic"), Some("c"));
        assert_eq!(query.get("empty"), Some(""));
        assert_eq!(query.get("bare"), Some(""));
        assert_eq!(query.get("x"), Some("1=2"));
        assert_eq!(query.get("none"), None);
    }

    #[test]
    fn escapes_and_plus_signs_are_replaced_in_keys_and_values() {
        let query = Query::parse("to%70ic=x%23ephemeral&a+b=c+d%2B").unwrap();
        assert_eq!(query.get("topic"), Some("x#ephemeral"));
        assert_eq!(query.get("a b"), Some("c d+"));
    }

    #[test]
    fn a_malformed_query_is_refused_as_a_whole() {
        assert_eq!(Query::parse("topic=a&b=%zz"), Err(InvalidQuery::Escape));
        assert_eq!(Query::parse("topic=a&%=b"), Err(InvalidQuery::Escape));
        assert_eq!(Query::parse("topic=a;b"), Err(InvalidQuery::Semicolon));
    }
}
