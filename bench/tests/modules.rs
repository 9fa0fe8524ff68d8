//! The modules of the bench form a staircase: each imports only those below it.

#![expect(clippy::unwrap_used, reason = "a test helper that fails fails the test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// Each module with the modules that it imports, tests left out.
type Graph = BTreeMap<String, BTreeSet<String>>;

fn sources(folder: &Path, prefix: &str, out: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{prefix}{}", path.file_stem().unwrap().to_str().unwrap());
        if path.is_dir() {
            sources(&path, &format!("{name}::"), out);
        } else {
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

fn imports(module: &str, code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for statement in code.split_inclusive(';') {
        let begins = |line: &&str| line.starts_with("use ") || line.starts_with("pub(crate) use ");
        let lines = statement.lines().skip_while(|line| !begins(line)).collect::<Vec<_>>().join("");
        if let Some((_, tree)) = lines.split_once("use ") {
            expand("", tree.strip_suffix(';').unwrap(), &mut paths);
        }
    }
    let absolute = |path: String| match path.split_once("::") {
        Some(("crate", path)) => Some(path.to_owned()),
        Some(("self", path)) if module == "main" => Some(path.to_owned()),
        Some(("self", path)) => Some(format!("{module}::{path}")),
        Some(("super", _)) => panic!("{module} imports from super; say crate:: instead"),
        _ => None,
    };
    paths.into_iter().filter_map(absolute).collect()
}

fn graph() -> Graph {
    let mut code = BTreeMap::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut code);
    let known = |mut path: &str| loop {
        if code.contains_key(path) {
            return Some(path.to_owned());
        }
        path = path.rsplit_once("::")?.0;
    };
    code.iter()
        .map(|(module, code)| {
            let imported = imports(module, code).iter().filter_map(|path| known(path)).collect();
            (module.clone(), imported)
        })
        .collect()
}

#[test]
fn modules_import_only_those_below_them() {
    let mut graph = graph();
    assert!(graph["client::rows"].contains("client::child"), "imports are found: {graph:?}");
    while !graph.is_empty() {
        let lowest: Vec<_> =
            graph.iter().filter(|(_, on)| on.is_empty()).map(|(name, _)| name.clone()).collect();
        assert!(!lowest.is_empty(), "these modules import each other in a circle: {graph:#?}");
        graph.retain(|name, _| !lowest.contains(name));
        graph.values_mut().for_each(|on| on.retain(|name| !lowest.contains(name)));
    }
}
