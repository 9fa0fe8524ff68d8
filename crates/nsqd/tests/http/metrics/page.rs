//! A page of metrics, read as strictly as its format is.

use std::collections::{BTreeMap, BTreeSet};

/// Names and values of labels.
pub(super) type Labels = BTreeMap<String, String>;

/// A family: its description and its samples.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) help: String,
    samples: Vec<Sample>,
}

#[derive(Debug)]
struct Sample {
    /// The name of the family, for histograms with a suffix.
    name: String,
    labels: Labels,
    value: f64,
}

/// A whole page.
#[derive(Debug)]
pub(crate) struct Page {
    pub(super) families: Vec<Family>,
}

impl Page {
    /// Reads a page; whatever breaks a rule of the format fails the test.
    pub(super) fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line ends");
        let mut families: Vec<Family> = Vec::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                let family = Family {
                    name: name.to_owned(),
                    kind: String::new(),
                    help: help.to_owned(),
                    samples: Vec::new(),
                };
                families.push(family);
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let family = families.last_mut().unwrap();
                let kind = rest.strip_prefix(&format!("{} ", family.name)).expect(line);
                assert!(family.kind.is_empty() && family.samples.is_empty(), "{line}");
                kind.clone_into(&mut family.kind);
            } else {
                let family = families.last_mut().unwrap();
                family.samples.push(Sample::parse(line));
            }
        }
        families.iter().for_each(Family::check);
        let names: BTreeSet<_> = families.iter().map(|family| &family.name).collect();
        assert_eq!(names.len(), families.len(), "each family is there once");
        Self { families }
    }

    /// The value of a sample, such as `name` or `name{label="value"}` with the labels in their order.
    pub(super) fn value(&self, sample: &str) -> Option<f64> {
        let wanted = Sample::parse(&format!("{sample} 0"));
        let mut samples = self.families.iter().flat_map(|family| &family.samples);
        let found = samples.find(|it| it.name == wanted.name && it.labels == wanted.labels);
        found.map(|sample| sample.value)
    }

    /// As [`Page::value`], of a sample that must be there.
    #[track_caller]
    pub(super) fn get(&self, sample: &str) -> f64 {
        self.value(sample).unwrap_or_else(|| panic!("{sample} is missing"))
    }

    /// The label sets of all samples of this name, with the suffix of a histogram if it has one.
    pub(super) fn label_sets(&self, name: &str) -> Vec<&Labels> {
        let samples = self.families.iter().flat_map(|family| &family.samples);
        samples.filter(|sample| sample.name == name).map(|sample| &sample.labels).collect()
    }
}

impl Family {
    /// The names of its labels, in order; those of a histogram without the bounds.
    pub(super) fn labels(&self) -> BTreeSet<&str> {
        let labels = self.samples.iter().flat_map(|sample| sample.labels.keys());
        labels.map(String::as_str).filter(|label| *label != "le").collect()
    }

    fn check(&self) {
        let name = &self.name;
        let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(name.chars().all(valid), "{name}");
        assert!(self.help.ends_with('.') && self.help.len() > 5, "{name}: {}", self.help);
        match self.kind.as_str() {
            "counter" => assert!(name.ends_with("_total"), "{name}"),
            "histogram" => self.check_histogram(),
            "summary" => {
                let mut samples = self.samples.iter();
                assert!(samples.all(|it| it.labels.contains_key("quantile")), "{name}");
            }
            kind => assert!(kind == "gauge" && !name.ends_with("_total"), "{kind} {name}"),
        }
        let suffixes: &[&str] =
            if self.kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        let mut seen = BTreeSet::new();
        for Sample { name: sample, labels, .. } in &self.samples {
            assert!(suffixes.iter().any(|suffix| *sample == format!("{name}{suffix}")), "{sample}");
            assert!(seen.insert((sample, labels)), "{sample} {labels:?} is there twice");
        }
    }

    fn check_histogram(&self) {
        assert!(self.name.ends_with("_seconds"), "{}", self.name);
        let bucket = format!("{}_bucket", self.name);
        let buckets: Vec<_> = self.samples.iter().filter(|it| it.name == bucket).collect();
        let bound = |sample: &&Sample| sample.labels["le"].replace("+Inf", "inf").parse().unwrap();
        let bounds: Vec<f64> = buckets.iter().map(bound).collect();
        let counts: Vec<f64> = buckets.iter().map(|sample| sample.value).collect();
        assert!(bounds.is_sorted() && counts.is_sorted(), "{buckets:?}");
        let count = self.samples.iter().find(|it| it.name == format!("{}_count", self.name));
        assert_eq!(bounds.last(), Some(&f64::INFINITY));
        assert_eq!(counts.last(), count.map(|count| &count.value));
    }
}

impl Sample {
    fn parse(line: &str) -> Self {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, parse_labels(labels.strip_suffix('}').expect(line))),
            None => (series, Labels::new()),
        };
        let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
        Self { name: name.to_owned(), labels, value }
    }
}

/// Reads `a="x",b="y"`. No value of ours has anything to escape.
pub(super) fn parse_labels(text: &str) -> Labels {
    let label = |text: &str| {
        let (name, value) = text.split_once("=\"").expect(text);
        let value = value.strip_suffix('"').expect(text);
        assert!(!value.contains(['"', '\\']), "{text}");
        (name.to_owned(), value.to_owned())
    };
    text.split(',').map(label).collect()
}
