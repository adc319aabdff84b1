//! The check that the page about data names every key of a recipe. The keys of training have a page that is
//! made from their doc comments; its test is beside them, in `train/src/keys.rs`.

#![cfg(test)]

use std::path::Path;

/// The fields of the structs of a source that refuse unknown keys, under the names that a file gives them.
fn keys(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let (mut refuses, mut inside, mut renamed) = (false, false, None);
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[") {
            refuses |= line.contains("deny_unknown_fields");
            renamed = line.split_once("rename = \"").and_then(|(_, r)| r.split('"').next()).or(renamed);
        } else if line == "}" {
            (refuses, inside, renamed) = (false, false, None);
        } else if refuses && line.contains("struct ") {
            inside = true;
        } else if inside && !line.starts_with("//") {
            let bare = ["pub(crate) ", "pub "].iter().find_map(|v| line.strip_prefix(v)).unwrap_or(line);
            if let Some((name, _)) = bare.split_once(": ") {
                found.push(renamed.take().unwrap_or(name).to_string());
            }
        }
    }
    found
}

#[test]
fn the_page_about_data_names_every_key_of_a_recipe() {
    let root = crate::root();
    let page = std::fs::read_to_string(root.join("docs/data.md")).unwrap();
    let read = |file: &Path| std::fs::read_to_string(file).unwrap();
    let mut files = ["format/read.rs", "format/write.rs", "recipe/mod.rs"]
        .map(|f| root.join("data/src").join(f))
        .to_vec();
    let stages = std::fs::read_dir(root.join("data/src/stage")).unwrap();
    files.extend(stages.map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "rs")));
    let mut all = 0;
    for file in files {
        for key in keys(&read(&file)) {
            all += 1;
            let named = [format!("`{key}`"), format!("`{key} = ")].iter().any(|n| page.contains(n));
            assert!(named, "docs/data.md does not say what `{key}` of {} does", file.display());
        }
    }
    assert!(all > 60, "only {all} keys were found");
}

#[test]
fn keys_are_the_fields_of_structs_that_refuse_others() {
    let source = "#[serde(deny_unknown_fields, default)]\npub(crate) struct Length {\n    /// The: fewest.\n    min: usize,\n    \
                  #[serde(rename = \"match\")]\n    pub names: Vec<String>,\n}\n\nstruct Other {\n    lost: bool,\n}\n";
    assert_eq!(keys(source), ["min", "match"]);
}
