//! One layout of imports and of doc sections in all crates.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
}

/// Every source file of the workspace with its text.
fn all() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["bench", "crates", "src", "tests"] {
        sources(&root.join(folder), &mut files);
    }
    files.sort();
    files.into_iter().map(|file| (file.clone(), fs::read_to_string(file).unwrap())).collect()
}

#[test]
fn each_crate_is_imported_by_one_statement() {
    let mut wrong = Vec::new();
    for (file, text) in all() {
        let mut statements: BTreeMap<&str, usize> = BTreeMap::new();
        let lines = text.lines().take_while(|line| !line.starts_with("mod tests {"));
        for (before, line) in std::iter::once("").chain(text.lines()).zip(lines) {
            let Some(path) = line.strip_prefix("use ") else { continue };
            // An import that depends on a feature has to stand apart.
            if before.starts_with("#[cfg(") {
                continue;
            }
            *statements.entry(path.split([':', ';']).next().unwrap()).or_default() += 1;
        }
        let twice = statements.iter().filter(|(_, count)| **count > 1).map(|(name, _)| *name);
        wrong.extend(twice.map(|name| format!("{}: use {name}", file.display())));
    }
    assert!(wrong.is_empty(), "imported by several statements:\n{}", wrong.join("\n"));
}

#[test]
fn the_text_of_a_doc_section_follows_its_heading() {
    let mut wrong = Vec::new();
    for (file, text) in all() {
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        for (number, pair) in lines.windows(2).enumerate() {
            if pair[0].starts_with("/// # ") && pair[1] == "///" {
                wrong.push(format!("{}:{}", file.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "an empty line after a heading:\n{}", wrong.join("\n"));
}
