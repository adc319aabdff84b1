//! The check that the pages' links to files of this repository lead somewhere.

#![cfg(test)]

use std::path::{Path, PathBuf};

/// The targets of a page's links, without anchors, web addresses and code blocks.
fn targets(page: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut in_code = false;
    for line in page.lines() {
        in_code ^= line.trim_start().starts_with("```");
        if in_code {
            continue;
        }
        for rest in line.split("](").skip(1) {
            let target = rest.split([')', '#']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:") {
                found.push(target);
            }
        }
    }
    found
}

/// Markdown files of the root folder and of `docs/`, at any depth.
fn pages(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() && (path.starts_with(root.join("docs"))) {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn links_between_pages_and_files_lead_somewhere() {
    let root = crate::root();
    let pages = pages(&root);
    assert!(pages.contains(&root.join("README.md")));
    let mut broken = Vec::new();
    for page in &pages {
        let text = std::fs::read_to_string(page).unwrap();
        let folder = page.parent().unwrap();
        let dead = targets(&text).into_iter().filter(|target| !folder.join(target).exists());
        broken.extend(dead.map(|target| format!("{}: {target}", page.display())));
    }
    assert_eq!(broken, Vec::<String>::new());
}

/// Links of the form [`name`](file.rs) that name a function: the name and the file.
fn named_functions(page: &str) -> Vec<(&str, &str)> {
    let links = page.split("[`").skip(1).filter_map(|rest| rest.split_once("`]("));
    links
        .filter_map(|(name, rest)| Some((name, rest.split_once(')')?.0)))
        .filter(|(_, file)| file.ends_with(".rs"))
        .collect()
}

#[test]
fn the_tests_that_the_architecture_page_names_exist() {
    let root = crate::root();
    let page = std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let named = named_functions(&page);
    assert!(named.len() >= 8, "the page names no tests any more: {named:?}");
    for (name, file) in named {
        let code = std::fs::read_to_string(root.join(file)).unwrap();
        assert!(code.contains(&format!("fn {name}(")), "{file} has no function {name}");
    }
}

#[test]
fn link_targets_are_read_from_text_and_not_from_code() {
    let page =
        "See [a](docs/a.md#part) and [b](https://example.org), [c](#here).\n```\n[d](d.md)\n```\n[e](e.md)";
    assert_eq!(targets(page), ["docs/a.md", "e.md"]);
}
