//! What the repository promises about itself.
#![expect(clippy::unwrap_used, reason = "a test helper that fails fails the test")]

mod layout;
mod modules;

use std::{collections::BTreeMap, path::Path, process::Command};

use serde_json::Value;

/// Our crates, each with those of ours it may depend on: the map of ARCHITECTURE.md, downward only.
const CRATE_GRAPH: &[(&str, &[&str])] = &[
    ("nsq-protocol", &[]),
    ("nsq-log", &["nsq-protocol"]),
    ("nsq-broker", &[]),
    ("nsq-options", &["nsq-protocol"]),
    ("nsq-tls", &[]),
    ("nsq-daemon", &["nsq-options", "nsq-tls"]),
    ("nsq-compression", &[]),
    (
        "nsqd",
        &["nsq-broker", "nsq-compression", "nsq-daemon", "nsq-log", "nsq-options", "nsq-protocol"],
    ),
    ("nsqlookupd", &["nsq-broker", "nsq-daemon", "nsq-options", "nsq-protocol"]),
    ("nsq-client", &["nsq-compression", "nsq-options", "nsq-protocol", "nsq-tls"]),
    ("nsq-tools", &["nsq-client", "nsq-daemon", "nsq-options"]),
    ("nsq-bench", &["nsq-client", "nsq-daemon", "nsq-log", "nsq-options", "nsqd"]),
    (
        "nsq",
        &[
            "nsq-client",
            "nsq-daemon",
            "nsq-options",
            "nsq-protocol",
            "nsq-tools",
            "nsqd",
            "nsqlookupd",
        ],
    ),
];

/// Crates that must stay usable without a runtime.
const NO_TOKIO: &[&str] = &["nsq-protocol", "nsq-log", "nsq-broker"];

const LICENCES: &[&str] = &[
    "MIT",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Unicode-3.0",
    "Zlib",
    "Unlicense",
    "0BSD",
];

/// Two versions of a crate that dependencies force on us, with the reason.
const DUPLICATES: &[&str] = &[
    // ring 0.17 stays at 0.2, tempfile (tests only) is at 0.4.
    "getrandom",
];

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--locked",
            "--format-version",
            "1",
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn ours(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata["packages"].as_array().unwrap().iter().filter(|package| package["source"].is_null())
}

#[test]
fn our_crates_depend_on_each_other_downward_only() {
    let metadata = metadata();
    let graph: BTreeMap<_, _> = CRATE_GRAPH.iter().copied().collect();
    for package in ours(&metadata) {
        let name = text(package, "name");
        let allowed = graph.get(name).unwrap_or_else(|| panic!("{name} is not on the map"));
        for dependency in package["dependencies"].as_array().unwrap() {
            let on = text(dependency, "name");
            if dependency["path"].is_string() && dependency["kind"].is_null() {
                assert!(allowed.contains(&on), "{name} must not depend on {on}");
            }
            let runtime = on.starts_with("tokio") && dependency["kind"].is_null();
            assert!(!(runtime && NO_TOKIO.contains(&name)), "{name} must not know {on}");
        }
    }
}

#[test]
fn every_dependency_has_a_licence_we_accept() {
    let metadata = metadata();
    for package in metadata["packages"].as_array().unwrap() {
        let licence = text(package, "license").replace('/', " OR ").replace(['(', ')'], "");
        // Of alternatives one has to be acceptable, of a conjunction all.
        let accepted = licence.split(" OR ").any(|choice| {
            choice.split(" AND ").all(|part| {
                LICENCES.contains(&part.trim().split(" WITH ").next().unwrap_or_default())
            })
        });
        assert!(accepted, "{} is under {licence:?}", text(package, "name"));
    }
}

#[test]
fn there_is_one_version_of_each_dependency() {
    let metadata = metadata();
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in metadata["packages"].as_array().unwrap() {
        versions.entry(text(package, "name")).or_default().push(text(package, "version"));
    }
    versions.retain(|name, versions| versions.len() > 1 && !DUPLICATES.contains(name));
    assert!(versions.is_empty(), "{versions:?}");
}

#[test]
fn architecture_names_every_crate() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let architecture = std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    for package in ours(&metadata()) {
        let manifest = Path::new(text(package, "manifest_path"));
        let folder = manifest.parent().unwrap().strip_prefix(root).unwrap().display().to_string();
        let named = folder.is_empty() || architecture.contains(&format!("`{folder}`"));
        assert!(named, "ARCHITECTURE.md does not name {folder}");
    }
}

#[test]
fn the_program_in_the_readme_is_the_example() {
    let read = |path: &str| {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
    };
    let readme = read("README.md");
    let program =
        readme.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert!(read("crates/client/examples/readme.rs").ends_with(program));
}
