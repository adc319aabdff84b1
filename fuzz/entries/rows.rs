//! What a recipe reads of a file.

use percept_data::{BuildOptions, Recipe, Sample};

/// Bytes of one medium that are read at most.
const MOST: u64 = 1 << 20;

/// The samples that a file of this name and content gives; those that are wrong are left out.
pub fn read(name: &str, content: &[u8]) -> Vec<Sample> {
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    std::fs::write(folder.path().join(name), content).expect("there is room for temporary files");
    let recipe = format!("max_bytes = {MOST}\n[[read]]\npath = \"{name}\"\nlimit = 10000\n");
    let recipe = Recipe::parse(&folder.path().join("recipe.toml"), &recipe).expect("the recipe is sound");
    let Ok(corpus) = recipe.corpus(&BuildOptions::default()) else { return Vec::new() };
    let samples: Vec<Sample> = corpus.draws.filter_map(|draw| draw.make().ok()).collect();
    for medium in samples.iter().flat_map(|sample| &sample.media) {
        assert!(medium.bytes.len() as u64 <= MOST, "a medium is larger than what the recipe lets through");
    }
    samples
}
