//! Every format is read as its writers mean it, and what is wrong with a file is one reject, not the end.

mod conversations;
mod hostile;
mod published;
mod read;

use std::fs;
use std::path::{Path, PathBuf};

use percept_data::build::{MANIFEST, Rejected};
use percept_data::format::webdataset;
use percept_data::{BuildOptions, Manifest, Recipe, Sample, build};
use percept_modalities::{Content, Part};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Builds a recipe in a folder; the samples in their order, the manifest, and the rejects.
fn run(folder: &Path, recipe: &str) -> (Vec<Sample>, Manifest, Vec<Rejected>) {
    let out = folder.join("out");
    let _ = fs::remove_dir_all(&out);
    let recipe = Recipe::parse(&folder.join("recipe.toml"), recipe).unwrap();
    let options = BuildOptions { threads: 2, ..BuildOptions::default() };
    let log = |path: &Path| -> Vec<Rejected> {
        let rejects = fs::read_to_string(path).unwrap();
        rejects.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let built = match build(recipe.corpus(&options).unwrap(), &out, &options) {
        Ok(built) => built,
        // Nothing has passed, which ends a build: what there is to see are the rejects.
        Err(percept_data::Error::Empty { rejects, .. }) => {
            let rejects = log(&rejects);
            let manifest = serde_json::json!({
                "name": "", "version": "", "seed": 0, "recipe": "", "inputs": {}, "read": rejects.len(), "written": 0,
                "stages": [], "shards": []
            });
            return (Vec::new(), serde_json::from_value(manifest).unwrap(), rejects);
        }
        Err(error) => panic!("{error}"),
    };
    assert!(out.join(MANIFEST).exists());
    let shards = built.manifest.shards.iter().map(|shard| out.join(&shard.file));
    let samples = shards.filter(|path| path.extension().is_some_and(|e| e == "tar"));
    let samples =
        samples.flat_map(|path| webdataset::read(&path, 1 << 20).unwrap()).map(Result::unwrap).collect();
    (samples, built.manifest, log(&out.join("rejects.jsonl")))
}

fn parts(content: &Content) -> Vec<String> {
    match content {
        Content::Nothing => Vec::new(),
        Content::Text(text) => vec![text.clone()],
        Content::Parts(parts) => parts
            .iter()
            .map(|part| match part {
                Part::Text { text } => text.clone(),
                Part::Image { .. } => "[image]".into(),
                other => format!("{other:?}"),
            })
            .collect(),
    }
}

fn turns(sample: &Sample) -> Vec<(String, Vec<String>)> {
    sample.messages.iter().map(|m| (m.role.clone(), parts(&m.content))).collect()
}

fn turn(role: &str, parts: &[&str]) -> (String, Vec<String>) {
    (role.into(), parts.iter().map(|part| (*part).into()).collect())
}

fn published(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/published").join(name)
}

/// A file that the decoders are tested with.
fn media(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../modalities/tests").join(name)).unwrap()
}

/// A tar of these files, without the blocks that end it if it is `open`.
fn tar_of(files: &[(&str, &[u8])], open: bool) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, *bytes).unwrap();
    }
    let mut bytes = tar.into_inner().unwrap();
    bytes.truncate(bytes.len() - if open { 1024 } else { 0 });
    bytes
}

/// The error of a recipe that is refused before anything is built.
fn refusal(folder: &Path, read: &str) -> String {
    let recipe = Recipe::parse(&folder.join("recipe.toml"), &format!("[[read]]\n{read}")).unwrap();
    recipe.corpus(&BuildOptions::default()).err().unwrap_or_else(|| panic!("{read} is taken")).to_string()
}

fn counted<'m>(manifest: &'m Manifest, what: &str) -> Vec<(&'m str, u64)> {
    let found = manifest.left_out.iter().filter(|(name, _)| name.contains(what));
    found.map(|(name, count)| (name.as_str(), *count)).collect()
}
