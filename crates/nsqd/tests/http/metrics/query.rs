//! The series and labels that a PromQL query names.

use std::collections::{BTreeMap, BTreeSet};

/// The words of PromQL that our queries use, besides the names of series and labels.
const WORDS: &[&str] = &[
    "and",
    "changes",
    "count",
    "histogram_quantile",
    "increase",
    "max",
    "min",
    "or",
    "predict_linear",
    "rate",
    "sum",
    "vector",
];

/// A series selector: a name, and the labels it asks for with their values; `None` where any of several would do.
#[derive(Debug)]
pub(super) struct Selector {
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, Option<String>>,
}

/// The names in a query.
#[derive(Debug, Default)]
pub(super) struct Query {
    pub(super) selectors: Vec<Selector>,
    /// The labels that results are grouped by, or whose values are asked for.
    pub(super) labels: BTreeSet<String>,
}

impl Query {
    /// Reads the names in `text`. A word that is neither a series of ours nor known fails the test.
    pub(super) fn parse(text: &str) -> Self {
        let mut query = Self::default();
        let mut rest = text;
        if let Some(inner) = text.strip_prefix("label_values(") {
            let (series, label) = inner.trim_end_matches(')').rsplit_once(", ").expect(text);
            query.labels.insert(label.to_owned());
            rest = series;
        }
        while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '[') {
            rest = &rest[start..];
            if rest.starts_with('[') {
                rest = rest.split_once(']').expect(text).1;
                continue;
            }
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
            rest = match word {
                "by" => query.take_labels(after, text),
                "up" => query.take_selector(word, after, text),
                _ if word.starts_with("nsqd_") || word.starts_with("process_") => {
                    query.take_selector(word, after, text)
                }
                _ => {
                    assert!(WORDS.contains(&word), "what is {word} in {text}");
                    after
                }
            };
        }
        assert!(!query.selectors.is_empty(), "{text} asks for nothing");
        query
    }

    fn take_selector<'a>(&mut self, name: &str, rest: &'a str, text: &str) -> &'a str {
        let mut selector = Selector { name: name.to_owned(), labels: BTreeMap::new() };
        let Some(matchers) = rest.strip_prefix('{') else {
            self.selectors.push(selector);
            return rest;
        };
        let (matchers, rest) = matchers.split_once('}').expect(text);
        for matcher in matchers.split(',') {
            let (label, value) = matcher.split_once('=').expect(text);
            let exact = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            selector.labels.insert(label.to_owned(), exact.map(str::to_owned));
        }
        self.selectors.push(selector);
        rest
    }

    fn take_labels<'a>(&mut self, rest: &'a str, text: &str) -> &'a str {
        let list = rest.trim_start().strip_prefix('(').expect(text);
        let (list, rest) = list.split_once(')').expect(text);
        self.labels.extend(list.split(',').map(|label| label.trim().to_owned()));
        rest
    }
}
