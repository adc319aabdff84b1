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
    ("graph", &[]),
    ("kernels", &["graph"]),
    ("hal", &["graph", "kernels"]),
    (BACKENDS, &["hal"]),
    ("modalities", &[]),
    ("model", &["hal", "modalities"]),
    ("infer", &["model"]),
    ("data", &["modalities"]),
    ("pull", &["data"]),
    ("train", &["infer", "data"]),
    ("eval", &["infer", "data"]),
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
