//! The rule that the crates import one way only, and the test that holds them to it.
//!
//! A crate may import what its row names and, transitively, what those may import. ARCHITECTURE.md
//! shows the same table; a test compares the two.

#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::command::Line;

/// The row of the backends: each is a crate in a folder of `hal/`, which the workspace's manifest alone lists.
const BACKENDS: &str = "hal/*";

/// Each crate's folder and the folders it may import directly.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("files", &[]),
    ("graph", &[]),
    ("kernels", &["graph"]),
    ("hal", &["graph", "kernels"]),
    (BACKENDS, &["hal", "files"]),
    ("signal", &[]),
    ("modalities", &["signal"]),
    ("model", &["hal", "modalities", "files"]),
    ("infer", &["model"]),
    ("data", &["modalities", "files"]),
    ("pull", &["data"]),
    ("train", &["infer", "data"]),
    ("eval", &["infer", "data"]),
    ("serve", &["infer"]),
];

/// The facade and command line, in the repository's root: it alone may import everything.
const FACADE: &str = "";

/// The chores: they start the other crates as programs and import none.
const XTASK: &str = "xtask";

/// Crates that are a GPU's interface. Only the backends may depend on them.
const GPU_INTERFACES: [&str; 9] =
    ["ash", "cudarc", "d3d12", "glow", "metal", "objc2-metal", "vulkano", "wgpu", "wgpu-hal"];

/// A workspace member: its folder, the folders of ours it depends on, and other people's crates.
#[derive(Clone, Debug, Default)]
struct Member {
    folder: String,
    ours: BTreeSet<String>,
    others: BTreeSet<String>,
}

/// The folders that `folder` may import, transitively; none if it has no row.
fn allowed(folder: &str) -> Option<BTreeSet<&'static str>> {
    let rows: BTreeMap<&str, &[&str]> = MAY_IMPORT.iter().copied().collect();
    let mut reached = BTreeSet::new();
    let mut next = rows.get(if is_backend(folder) { BACKENDS } else { folder })?.to_vec();
    while let Some(name) = next.pop() {
        if reached.insert(name) {
            next.extend(rows.get(name).copied().unwrap_or_default());
        }
    }
    Some(reached)
}

/// Whether a folder is a backend's.
fn is_backend(folder: &str) -> bool {
    folder.strip_prefix("hal/").is_some_and(|name| !name.contains('/'))
}

/// One sentence for each import that breaks the rule, development dependencies included.
fn violations(members: &[Member]) -> Vec<String> {
    let mut found = Vec::new();
    for Member { folder, ours, others } in members {
        if folder != FACADE && !is_backend(folder) {
            let interfaces = others.iter().filter(|name| GPU_INTERFACES.contains(&name.as_str()));
            found.extend(interfaces.map(|name| format!("{folder} names the GPU interface {name}")));
        }
        if folder == FACADE {
            continue;
        }
        let allowed = if folder == XTASK { Some(BTreeSet::new()) } else { allowed(folder) };
        let Some(allowed) = allowed else {
            found.push(format!("{folder} has no row in the table of imports: give it one"));
            continue;
        };
        for import in ours.iter().filter(|import| !allowed.contains(import.as_str())) {
            let import = if import == FACADE { "the facade" } else { import };
            found.push(format!("{folder} imports {import}, which is not below it"));
        }
    }
    found
}

/// The workspace's members as cargo sees them.
fn members(root: &Path) -> Vec<Member> {
    let line = Line::of("cargo metadata --format-version 1 --no-deps --offline");
    let output = line.command(root).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let base = metadata["workspace_root"].as_str().expect("metadata has a root");
    let relative = |path: &str| {
        let path = Path::new(path).strip_prefix(base).unwrap_or(Path::new(path));
        path.to_string_lossy().replace('\\', "/")
    };
    let packages = metadata["packages"].as_array().expect("metadata lists packages");
    packages.iter().map(|package| member(package, &relative)).collect()
}

fn member(package: &Value, relative: &dyn Fn(&str) -> String) -> Member {
    let manifest = relative(package["manifest_path"].as_str().expect("a package has a manifest"));
    let folder = manifest.trim_end_matches("Cargo.toml").trim_end_matches('/').to_owned();
    let mut member = Member { folder, ..Member::default() };
    for dependency in package["dependencies"].as_array().expect("a package lists dependencies") {
        match dependency["path"].as_str() {
            // A crate may name itself, so that its documentation's examples can.
            Some(path) if relative(path) == member.folder => {}
            Some(path) => {
                member.ours.insert(relative(path));
            }
            None => {
                member.others.insert(dependency["name"].as_str().unwrap_or_default().to_owned());
            }
        }
    }
    member
}

fn planted(folder: &str, ours: &[&str], others: &[&str]) -> Vec<String> {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    violations(&[Member { folder: folder.into(), ours: set(ours), others: set(others) }])
}

#[test]
fn the_workspace_imports_one_way_only() {
    let members = members(&crate::root());
    for folder in ["graph", "kernels", "hal", XTASK] {
        assert!(members.iter().any(|member| member.folder == folder), "{folder} was not looked at");
    }
    assert!(members.iter().filter(|member| is_backend(&member.folder)).count() >= 2, "backends are not seen");
    let hal = members.iter().find(|member| member.folder == "hal").unwrap();
    assert!(hal.ours.contains("graph"), "imports are not seen: {hal:?}");
    assert_eq!(violations(&members), Vec::<String>::new());
}

#[test]
fn planted_violations_are_named() {
    let one = |sentence: &str| vec![sentence.to_owned()];
    assert_eq!(planted("graph", &["kernels"], &[]), one("graph imports kernels, which is not below it"));
    assert_eq!(planted("hal", &["hal/cpu"], &[]), one("hal imports hal/cpu, which is not below it"));
    assert_eq!(planted("model", &["hal/wgpu"], &[]), one("model imports hal/wgpu, which is not below it"));
    assert_eq!(
        planted("hal/cpu", &["hal/wgpu"], &[]),
        one("hal/cpu imports hal/wgpu, which is not below it")
    );
    assert_eq!(planted("data", &["model"], &[]), one("data imports model, which is not below it"));
    assert_eq!(planted("infer", &[""], &[]), one("infer imports the facade, which is not below it"));
    assert_eq!(planted("xtask", &["graph"], &[]), one("xtask imports graph, which is not below it"));
    assert_eq!(planted("kernels", &[], &["wgpu"]), one("kernels names the GPU interface wgpu"));
    assert_eq!(planted("hal/new", &["model"], &[]), one("hal/new imports model, which is not below it"));
    assert_eq!(planted("infer", &["hal/new"], &[]), one("infer imports hal/new, which is not below it"));
    assert_eq!(planted("tools", &[], &[]), one("tools has no row in the table of imports: give it one"));
}

#[test]
fn what_the_table_allows_is_accepted_transitively() {
    for (folder, ours) in [
        ("kernels", vec!["graph"]),
        ("hal/wgpu", vec!["hal", "kernels", "graph"]),
        ("eval", vec!["infer", "data", "model", "hal", "graph", "modalities"]),
        ("hal/new", vec!["hal", "kernels", "graph"]),
        ("", vec!["hal/cpu", "hal/wgpu", "hal/new", "eval"]),
    ] {
        assert_eq!(planted(folder, &ours, &[]), Vec::<String>::new());
    }
    for backend in ["hal/wgpu", "hal/new"] {
        assert!(planted(backend, &[], &["wgpu"]).is_empty());
    }
}

/// Calls that make or move files, which only `files` makes, and the sources that may: what they make is no document that
/// is read as a whole.
const MAKES_FILES: [&str; 5] = ["File::create(", "fs::write(", "fs::rename(", ".sync_all(", ".persist("];
const MAY_MAKE_FILES: [(&str, &str); 5] = [
    (
        "data/src/build/output_folder.rs",
        "locks, and moves the files of a finished build with its manifest last",
    ),
    ("pull/src/lib.rs", "a lock"),
    ("pull/src/model.rs", "a lock"),
    ("train/src/checkpoints.rs", "renames a damaged checkpoint"),
    ("train/src/log.rs", "a log, which grows line by line"),
];

/// The production code of the crates that run on a user's machine: path from the root, and text.
fn sources(root: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for Member { folder, .. } in members(root) {
        let mut next = if folder == XTASK { Vec::new() } else { vec![root.join(&folder).join("src")] };
        while let Some(path) = next.pop() {
            if path.is_dir() {
                next.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                continue;
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let own = path.strip_prefix(root).unwrap();
            let is_test =
                name == "tests.rs" || name.ends_with("_test.rs") || own.iter().any(|part| part == "tests");
            if name.ends_with(".rs") && !is_test {
                let relative = own.to_string_lossy().replace('\\', "/");
                let text = std::fs::read_to_string(&path).unwrap();
                let own = text.split("\nmod tests {").next().unwrap_or_default();
                let own = if text.contains("#![cfg(test)]") { String::new() } else { own.to_owned() };
                found.push((relative, own));
            }
        }
    }
    found
}

#[test]
fn one_crate_writes_files() {
    let sources = sources(&crate::root());
    let calls = |text: &str| -> Vec<&str> {
        let text = text.replace("AtomicFile::create(", "");
        MAKES_FILES.into_iter().filter(|call| text.contains(call)).collect()
    };
    let (own, others): (Vec<_>, Vec<_>) = sources.iter().partition(|(path, _)| path.starts_with("files/"));
    assert!(own.iter().any(|(_, text)| calls(text).len() == 3), "the writer is not seen");
    for (path, text) in others {
        let may = MAY_MAKE_FILES.iter().any(|(listed, _)| listed == path);
        let calls = calls(text);
        assert!(may || calls.is_empty(), "{path} calls {calls:?}; a whole file is written through files/");
        assert!(!may || !calls.is_empty(), "{path} makes no files any more; take it off the list");
    }
}

#[test]
fn the_architecture_page_shows_this_table() {
    let page = std::fs::read_to_string(crate::root().join("ARCHITECTURE.md")).unwrap();
    for &(folder, imports) in MAY_IMPORT {
        let imports: Vec<String> = imports.iter().map(|name| format!("`{name}`")).collect();
        let cell = if imports.is_empty() { "nothing of ours".to_owned() } else { imports.join(", ") };
        let row = format!("| `{folder}` | {cell} |");
        assert!(page.lines().any(|line| line == row), "ARCHITECTURE.md lacks the row {row}");
    }
}
