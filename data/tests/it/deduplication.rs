//! How many planted duplicates are found, and how many samples are wrongly taken for one.

use std::collections::HashSet;
use std::path::Path;

use crate::synthetic::{caption, image, reworded};
use percept_data::chance::Chance;
use percept_data::format::webdataset::{self, Writer};
use percept_data::{Blob, BuildOptions, Kind, Recipe, Sample, build};
use percept_modalities::image::{Filter, Image, Limits, crop, decode, resize};

fn jpeg(image: &Image, quality: i32) -> Vec<u8> {
    let pixels = turbojpeg::Image {
        pixels: image.rgb.as_slice(),
        width: image.width,
        pitch: 3 * image.width,
        height: image.height,
        format: turbojpeg::PixelFormat::RGB,
    };
    turbojpeg::compress(pixels, quality, turbojpeg::Subsamp::Sub2x2).unwrap().to_vec()
}

fn sample(key: String, bytes: Vec<u8>, extension: &str, text: String) -> Sample {
    let medium = Blob { kind: Kind::Image, extension: extension.into(), bytes: bytes.into() };
    Sample { key, media: vec![medium], text: Some(text), ..Sample::default() }
}

/// Images of all sorts: drawn ones, and squares cut from the photographs of `PERCEPT_PHOTOGRAPHS`, if that
/// names a folder.
fn originals(count: usize) -> Vec<Image> {
    let mut cuts = Vec::new();
    for path in
        std::env::var("PERCEPT_PHOTOGRAPHS").iter().flat_map(|folder| std::fs::read_dir(folder).unwrap())
    {
        let Ok(photograph) = decode(&std::fs::read(path.unwrap().path()).unwrap(), &Limits::default()) else {
            continue;
        };
        for (row, column) in
            (0..photograph.height / 96).flat_map(|y| (0..photograph.width / 96).map(move |x| (y, x)))
        {
            cuts.push(crop(&photograph, 96 * column, 96 * row, 96, 96).unwrap());
        }
    }
    let missing = count.saturating_sub(cuts.len());
    let draw = |at: usize| {
        let mut chance = Chance::new(at as u64, 2, 0);
        image(at as u64, 90 + chance.below(110), 90 + chance.below(110))
    };
    cuts.extend((0..missing).map(draw));
    cuts.truncate(count);
    cuts
}

const ORIGINALS: usize = 1200;
const PLANTED: usize = 150;

const RECIPE: &str = r#"
[[read]]
path = "in.tar"

[[stage]]
run = "validate"

[[stage]]
run = "deduplicate-exact"

[[stage]]
run = "deduplicate-perceptual"

[[stage]]
run = "deduplicate-captions"
"#;

/// Writes originals, and after them copies that are exact, re-encoded, a tenth smaller or larger, or have one word of the
/// caption changed and another image.
fn plant(path: &Path) {
    let images = originals(ORIGINALS + PLANTED);
    let mut shard = Writer::create(path).unwrap();
    let files: Vec<Vec<u8>> = images.iter().map(|image| jpeg(image, 92)).collect();
    for at in 0..ORIGINALS {
        shard.push(&sample(format!("original{at}"), files[at].clone(), "jpg", caption(at as u64))).unwrap();
    }
    // Captions of their own for copies of images, so that images alone betray them.
    let other = |at: usize| caption(1_000_000 + at as u64);
    for at in 0..PLANTED {
        let mut chance = Chance::new(at as u64, 3, 0);
        let of = chance.below(ORIGINALS);
        shard.push(&sample(format!("exact{at}"), files[of].clone(), "jpg", caption(of as u64))).unwrap();

        let of = chance.below(ORIGINALS);
        let bytes = jpeg(&images[of], 40 + chance.below(50) as i32);
        shard.push(&sample(format!("reencoded{at}"), bytes, "jpg", other(at))).unwrap();

        let of = chance.below(ORIGINALS);
        let scale = if chance.coin() { 1.1 } else { 0.9 };
        let side = |length: usize| (length as f64 * scale).round() as usize;
        let (width, height) = (side(images[of].width), side(images[of].height));
        let resized = resize(&images[of], width, height, Filter::Bicubic).unwrap();
        shard.push(&sample(format!("resized{at}"), jpeg(&resized, 85), "jpg", other(PLANTED + at))).unwrap();

        let of = chance.below(ORIGINALS);
        let text = reworded(&caption(of as u64), &mut chance);
        let bytes = files[ORIGINALS + at].clone();
        shard.push(&sample(format!("reworded{at}"), bytes, "jpg", text)).unwrap();
    }
    shard.finish().unwrap();
}

#[test]
fn planted_duplicates_are_found_and_others_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    plant(&folder.join("in.tar"));
    let recipe = Recipe::parse(&folder.join("recipe.toml"), RECIPE).unwrap();
    let options = BuildOptions { threads: 2, ..BuildOptions::default() };
    let built = build(recipe.corpus(&options).unwrap(), &folder.join("out"), &options).unwrap();
    assert_eq!(built.manifest.read as usize, ORIGINALS + 4 * PLANTED);
    let mut kept = HashSet::new();
    for shard in &built.manifest.shards {
        let samples = webdataset::read(&folder.join("out").join(&shard.file), 1 << 20).unwrap();
        kept.extend(samples.map(|sample| sample.unwrap().key));
    }
    let found = |what: &str| {
        let left = (0..PLANTED).filter(|at| kept.contains(&format!("{what}{at}"))).count();
        1.0 - left as f64 / PLANTED as f64
    };
    let wrong = (0..ORIGINALS).filter(|at| !kept.contains(&format!("original{at}"))).count();
    let wrong = wrong as f64 / ORIGINALS as f64;
    let shares = ["exact", "reencoded", "resized", "reworded"].map(|what| (what, found(what)));
    let stages: Vec<_> = built.manifest.stages.iter().map(|s| (s.stage.as_str(), &s.rejects)).collect();
    println!("{stages:?}");
    println!("found {shares:?}, wrongly taken for a duplicate {wrong:.4}");
    for (what, share) in shares {
        let least = if what == "exact" { 0.99 } else { 0.95 };
        assert!(share >= least, "{what}: {share} of the planted ones were found");
    }
    assert!(wrong < 0.005, "{wrong} of the originals were taken for duplicates");
}
