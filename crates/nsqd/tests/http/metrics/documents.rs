//! The documents that name metrics: each name in them is one that nsqd has.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

use super::{measuring, page::Page, query::Query};

/// Reads a file of the repository.
fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::read_to_string(root.join(path)).unwrap()
}

/// The metrics of an nsqd that has all there are.
async fn metrics() -> Page {
    let nsqd = measuring("0.5").await;
    nsqd.create_channel("t", "c").await;
    nsqd.post("/pub?topic=t", "x").await;
    nsqd.drain("t", "c", 1).await;
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

/// Fails for what a query names and nsqd does not have.
fn check(page: &Page, text: &str) {
    // Prometheus itself adds these.
    let mut labels: BTreeSet<&str> = ["instance", "job"].into();
    let query = Query::parse(text);
    for selector in query.selectors.iter().filter(|selector| selector.name != "up") {
        let sets = page.label_sets(&selector.name);
        assert!(!sets.is_empty(), "there is no {} for {text}", selector.name);
        labels.extend(sets.iter().flat_map(|labels| labels.keys().map(String::as_str)));
        for (label, value) in &selector.labels {
            let known = match value {
                _ if ["instance", "job"].contains(&label.as_str()) => true,
                Some(value) => sets.iter().any(|labels| labels.get(label) == Some(value)),
                None => sets.iter().all(|labels| labels.contains_key(label)),
            };
            assert!(known, "{label} of {} in {text}", selector.name);
        }
    }
    for label in &query.labels {
        assert!(labels.contains(label.as_str()), "{label} in {text}");
    }
}

/// The texts under a key, wherever it is.
fn texts_under<'a>(value: &'a Value, key: &str, out: &mut Vec<&'a str>) {
    match value {
        Value::Object(entries) => {
            for (name, value) in entries {
                out.extend(value.as_str().filter(|_| name == key));
                texts_under(value, key, out);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| texts_under(value, key, out)),
        _ => {}
    }
}

#[tokio::test]
async fn the_dashboard_asks_for_series_that_exist() {
    let page = metrics().await;
    let dashboard: Value = serde_json::from_str(&read("packaging/grafana/nsqd.json")).unwrap();
    let mut queries = Vec::new();
    texts_under(&dashboard, "expr", &mut queries);
    texts_under(&dashboard, "definition", &mut queries);
    assert!(queries.len() > 50, "{}", queries.len());
    queries.iter().for_each(|query| check(&page, query));
    let asked: BTreeSet<_> =
        queries.iter().flat_map(|query| Query::parse(query).selectors).map(|it| it.name).collect();
    let shown = |name: &str| asked.iter().any(|asked| asked.starts_with(name));
    for family in page.families.iter().filter(|family| family.name.starts_with("nsqd_")) {
        let about_the_past = family.name.starts_with("nsqd_recovery_");
        let unseen = ["nsqd_incarnation", "nsqd_message_bytes_published_total"];
        let exempt = about_the_past || unseen.contains(&family.name.as_str());
        assert!(exempt || shown(&family.name), "no panel shows {}", family.name);
    }
}

#[test]
fn every_panel_of_the_dashboard_is_placed_and_described() {
    let dashboard: Value = serde_json::from_str(&read("packaging/grafana/nsqd.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let number = |panel: &Value, key: &str| panel["gridPos"][key].as_u64().unwrap();
    let mut taken = BTreeSet::new();
    for panel in panels {
        let (x, y) = (number(panel, "x"), number(panel, "y"));
        for column in x..x + number(panel, "w") {
            for line in y..y + number(panel, "h") {
                assert!(column < 24 && taken.insert((column, line)), "{panel}");
            }
        }
        if panel["type"] != "row" {
            assert!(panel["description"].as_str().is_some_and(|text| text.ends_with('.')));
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{panel}");
        }
    }
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has a number of its own");
}

#[tokio::test]
async fn the_alerts_are_about_series_that_exist() {
    let page = metrics().await;
    let text = read("packaging/prometheus/nsq.rules.yml");
    let alerts = text.split("- alert: ").skip(1);
    assert!(alerts.clone().count() > 10);
    for alert in alerts {
        let field = |name: &str| {
            let mut values = alert.lines().filter_map(|line| line.trim().strip_prefix(name));
            values.next().unwrap_or_else(|| panic!("no {name} in {alert}")).to_owned()
        };
        check(&page, &field("expr: "));
        assert!(["critical", "warning", "info"].contains(&field("severity: ").as_str()), "{alert}");
        assert!(field("summary: ").ends_with(".\""), "{alert}");
    }
}
