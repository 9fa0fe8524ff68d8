//! The option `--e2e-processing-latency-percentile`: a list of shares.

use nsq_options::{Kind, Setting, Value};

/// Shares above 0 and up to 1, largest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Percentiles(Vec<f64>);

impl Percentiles {
    /// The shares, largest first.
    pub fn as_slice(&self) -> &[f64] {
        &self.0
    }
}

/// Splits a text with commas into its words.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty())
}

impl Setting for Percentiles {
    const KIND: Kind = Kind::List;

    fn check(text: &str) -> Result<(), String> {
        for word in words(text) {
            match word.parse::<f64>() {
                Ok(share) if share > 0.0 && share <= 1.0 => {}
                Ok(_) => return Err(format!("invalid E2E processing latency percentile: {word}")),
                Err(_) => return Err(format!("Could not parse: {word}")),
            }
        }
        Ok(())
    }

    fn into_value(self) -> Value {
        Value::List(self.0.iter().map(f64::to_string).collect())
    }

    fn from_value(value: Value) -> Option<Self> {
        let Value::List(texts) = value else { return None };
        let shares = texts.iter().flat_map(|text| words(text)).map(str::parse::<f64>);
        let mut shares = shares.collect::<Result<Vec<_>, _>>().ok()?;
        shares.sort_by(|a, b| b.total_cmp(a));
        Some(Self(shares))
    }
}
