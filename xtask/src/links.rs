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

/// What a guide's last section lists: the paths of its links, from the repository's root.
fn listed(guide: &str) -> Vec<String> {
    let section = guide.split_once("\n## Files\n").map_or("", |(_, section)| section);
    let lines = section.lines().filter(|line| line.starts_with("- "));
    let links = lines.filter_map(|line| line.split_once("](../")?.1.split_once(')'));
    links.map(|(path, _)| path.to_owned()).collect()
}

#[test]
fn each_guide_lists_the_files_that_adding_touches() {
    let root = crate::root();
    let guides = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let guides: Vec<PathBuf> =
        guides.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("add-a")).collect();
    assert!(guides.len() >= 4, "{guides:?}");
    for guide in guides {
        let files = listed(&std::fs::read_to_string(&guide).unwrap());
        assert!(files.len() >= 3, "{} ends with no list of files", guide.display());
        for file in files {
            assert!(root.join(&file).exists(), "{} lists {file}, which is not there", guide.display());
        }
    }
}

/// Rust and WGSL files of the crates' sources and examples.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir()
            && !["target", "tests", "fuzz", "benches"].contains(&&*name)
            && !name.starts_with('.')
        {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "wgsl") {
            found.push(path);
        }
    }
}

/// One function stands for all: whatever names `expm1` is what a new one would have to name.
#[test]
fn a_function_of_one_operand_is_where_its_guide_says() {
    let root = crate::root();
    let guide = std::fs::read_to_string(root.join("docs/add-an-op.md")).unwrap();
    let mut expected = listed(guide.split("\nA composite").next().unwrap());
    expected.sort();
    let mut all = Vec::new();
    sources(&root, &mut all);
    let kind = ["Ex", "pm1"].concat();
    let function = kind.to_lowercase();
    let names = |text: &str| {
        let names = [
            kind.clone(),
            format!("fn {function}("),
            format!("fn {function}<"),
            format!("fn {function}_f32("),
        ];
        names.iter().any(|name| text.contains(name))
    };
    let found = all.iter().filter(|path| names(&std::fs::read_to_string(path).unwrap()));
    let found = found.map(|path| path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/"));
    let mut found: Vec<String> = found.filter(|path| !path.ends_with("_test.rs")).collect();
    found.sort();
    assert_eq!(found, expected, "what names {function}, and what docs/add-an-op.md lists");
}

/// The blocks of code of a page, and the names between backquotes, in their order.
fn code(page: &str) -> (Vec<&str>, std::collections::BTreeSet<&str>) {
    let (mut blocks, mut names) = (Vec::new(), std::collections::BTreeSet::new());
    for (at, part) in page.split("```").enumerate() {
        match at % 2 {
            1 => blocks.push(part),
            _ => names.extend(part.split('`').skip(1).step_by(2)),
        }
    }
    (blocks, names)
}

#[test]
fn the_guide_to_porting_says_the_same_in_chinese() {
    let page = |name: &str| std::fs::read_to_string(crate::root().join(name)).unwrap();
    let (english, chinese) = (page("docs/porting.md"), page("docs/porting.zh.md"));
    assert_eq!(code(&english), code(&chinese));
    let rows = |page: &str| page.lines().filter(|line| line.starts_with(['|', '#'])).count();
    assert_eq!(rows(&english), rows(&chinese), "headings and rows of tables");
    assert_eq!(targets(&english).len(), targets(&chinese).len(), "links");
}

#[test]
fn link_targets_are_read_from_text_and_not_from_code() {
    let page =
        "See [a](docs/a.md#part) and [b](https://example.org), [c](#here).\n```\n[d](d.md)\n```\n[e](e.md)";
    assert_eq!(targets(page), ["docs/a.md", "e.md"]);
}
