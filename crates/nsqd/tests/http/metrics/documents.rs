//! The documents that name metrics: each name in them is one that nsqd has.

use std::{fs, path::Path};

use super::page::Page;
use crate::harness::TestNsqd;

/// Reads a file of the repository.
fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::read_to_string(root.join(path)).unwrap()
}

/// The metrics of an nsqd with a topic and a channel.
async fn metrics() -> Page {
    let nsqd = TestNsqd::start().await;
    nsqd.create_channel("t", "c").await;
    let page = nsqd.metrics().await;
    nsqd.stop().await;
    page
}

#[tokio::test]
async fn the_documentation_lists_every_metric() {
    let page = metrics().await;
    let rows = page.families.iter().map(|family| {
        let labels: Vec<_> = family.labels().iter().map(|label| format!("`{label}`")).collect();
        format!("| `{}` | {} | {} | {} |", family.name, family.kind, labels.join(", "), family.help)
    });
    let expected: Vec<String> = rows.map(|row| row.replace("|  |", "| |")).collect();
    let text = read("docs/metrics.md");
    let is_row = |line: &&str| line.starts_with("| `") && !line.starts_with("| `nsqlookupd_");
    let documented: Vec<&str> = text.lines().filter(is_row).collect();
    assert!(documented == expected, "docs/metrics.md should have\n{}", expected.join("\n"));
}
