//! The modules of our crates form staircases: each imports only those below it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Each module with the modules that it imports, tests left out.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// The floors of nsqd, from the ground up. A module imports from floors below its own, and within itself.
const NSQD_FLOORS: &[&[&str]] = &[
    &["birth", "clock", "lock", "memory", "meters", "options"],
    &["auth", "chores", "latency", "tls", "world"],
    &["topic"],
    &["node"],
    &["lookup", "session", "statsd"],
    &["http"],
    &["daemon"],
    &["cli"],
];

/// Crates whose modules may not import each other in a circle.
const STAIRCASES: &[&str] = &[
    "bench",
    "crates/broker",
    "crates/compression",
    "crates/daemon",
    "crates/log",
    "crates/nsqd",
    "crates/nsqlookupd",
    "crates/options",
    "crates/protocol",
    "crates/tls",
    "crates/tools",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The modules in a folder by path, with their code; `name.rs` and what is in `name/` as in the language.
fn sources(folder: &Path, prefix: &str, out: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let name = format!("{prefix}{stem}");
        if path.is_dir() {
            sources(&path, &format!("{name}::"), out);
        } else if !["lib", "main", "tests", "testing"].contains(&stem) {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap().to_owned();
            out.insert(name, code);
        }
    }
}

/// Expands `a::{b, c::{d}}` into `a::b` and `a::c::d`.
fn expand(prefix: &str, tree: &str, out: &mut Vec<String>) {
    let (mut depth, mut item) = (0, String::new());
    for c in tree.chars().chain([',']) {
        match c {
            ',' if depth == 0 => {
                let path = std::mem::take(&mut item);
                match path.split_once('{') {
                    Some((head, rest)) => {
                        let inner = rest.trim_end().strip_suffix('}').unwrap();
                        expand(&format!("{prefix}{}", head.trim()), inner, out);
                    }
                    // A comma may end a list.
                    None if path.trim().is_empty() => {}
                    None => out.push(format!("{prefix}{}", path.trim())),
                }
                continue;
            }
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        item.push(c);
    }
}

/// The paths that a module imports, from the root of its crate.
fn imports(module: &str, code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    let begins = |line: &str| {
        let line = line.trim_start_matches("pub ").trim_start_matches("pub(crate) ");
        line.trim_start_matches("pub(super) ").starts_with("use ")
    };
    for statement in code.split_inclusive(';') {
        let lines: Vec<_> = statement.lines().skip_while(|line| !begins(line)).collect();
        if let Some((_, tree)) = lines.join("").split_once("use ") {
            expand("", tree.strip_suffix(';').unwrap_or(tree), &mut paths);
        }
    }
    paths.iter().filter_map(|path| absolute(module, path)).collect()
}

fn absolute(module: &str, path: &str) -> Option<String> {
    let (first, rest) = path.split_once("::")?;
    match first {
        "crate" => Some(rest.to_owned()),
        "self" => Some(format!("{module}::{rest}")),
        "super" => {
            let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
            if rest.starts_with("super::") {
                absolute(parent, rest)
            } else if parent.is_empty() {
                Some(rest.to_owned())
            } else {
                Some(format!("{parent}::{rest}"))
            }
        }
        _ => None,
    }
}

/// The modules of a crate. What a module imports from one that contains it is part of that one, and no import.
fn graph(package: &str) -> Graph {
    let mut code = BTreeMap::new();
    sources(&root().join(package).join("src"), "", &mut code);
    let known = |mut path: &str| loop {
        if code.contains_key(path) {
            return Some(path.to_owned());
        }
        path = path.rsplit_once("::")?.0;
    };
    let contains = |outer: &str, inner: &str| {
        outer == inner || inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with("::"))
    };
    code.iter()
        .map(|(module, code)| {
            let imported = imports(module, code);
            let imported = imported.iter().filter_map(|path| known(path));
            (module.clone(), imported.filter(|on| !contains(on, module)).collect())
        })
        .collect()
}

#[test]
fn modules_import_only_those_below_them() {
    for package in STAIRCASES {
        let mut graph = graph(package);
        // A crate without modules of its own has nothing to import.
        let found = graph.is_empty() || graph.values().any(|on| !on.is_empty());
        assert!(found, "{package}: no imports found");
        while !graph.is_empty() {
            let lowest: Vec<_> = graph
                .iter()
                .filter(|(_, on)| on.is_empty())
                .map(|(name, _)| name.clone())
                .collect();
            assert!(!lowest.is_empty(), "{package}: a circle of modules: {graph:#?}");
            graph.retain(|name, _| !lowest.contains(name));
            graph.values_mut().for_each(|on| on.retain(|name| !lowest.contains(name)));
        }
    }
}

#[test]
fn the_floors_of_nsqd_import_from_below_only() {
    let room = |module: &str| module.split("::").next().unwrap().to_owned();
    let floor = |module: &str| {
        let room = room(module);
        let floor = NSQD_FLOORS.iter().position(|rooms| rooms.contains(&room.as_str()));
        floor.unwrap_or_else(|| panic!("{room} is on no floor"))
    };
    for (module, imported) in graph("crates/nsqd") {
        for on in imported.iter().filter(|on| room(on) != room(&module)) {
            assert!(floor(on) < floor(&module), "{module} must not know {on}");
        }
    }
}
