//! How fast and in how much memory a large corpus is built: reading, validating, perceptual hashes, MinHash,
//! writing.
//!
//! ```text
//! cargo run --release -p percept-data --example scale -- make DIR SAMPLES
//! cargo run --release -p percept-data --example scale -- build DIR OUT [THREADS]
//! ```
//!
//! `benches/peers/data_bench.py DIR OUT` takes the same steps in Python.

#[allow(dead_code)]
#[path = "../tests/it/synthetic.rs"]
mod synthetic;

use std::error::Error;
use std::path::Path;

use percept_data::format::webdataset::Writer;
use percept_data::{Blob, BuildOptions, Kind, Recipe, Sample, build};
use rayon::prelude::*;
use synthetic::{caption, image};

/// Samples of a shard.
const SHARD: u64 = 5000;
/// Pixels of each side.
const SIDE: usize = 160;
/// Of so many samples one has the image, and the one after it the caption, of an earlier one.
const EVERY: u64 = 50;

const RECIPE: &str = r#"
[[read]]
path = "*.tar"

[[stage]]
run = "validate"

[[stage]]
run = "deduplicate-perceptual"

[[stage]]
run = "deduplicate-captions"
"#;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["make", folder, samples] => make(Path::new(folder), samples.parse()?),
        ["build", folder, out] => run(Path::new(folder), Path::new(out), 2),
        ["build", folder, out, threads] => run(Path::new(folder), Path::new(out), threads.parse()?),
        _ => Err("usage: scale make DIR SAMPLES | scale build DIR OUT [THREADS]".into()),
    }
}

/// Write synthetic shards.
fn make(folder: &Path, samples: u64) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(folder)?;
    let shard = |shard: u64| -> Result<u64, String> {
        let mut writer =
            Writer::create(&folder.join(format!("{shard:05}.tar"))).map_err(|e| e.to_string())?;
        for at in shard * SHARD..(shard * SHARD + SHARD).min(samples) {
            let again = |offset: u64| if at % EVERY == offset { at - EVERY / 2 } else { at };
            let (pixels, text) = (image(again(EVERY - 2), SIDE, SIDE), caption(again(EVERY - 1)));
            let image = turbojpeg::Image {
                pixels: pixels.rgb.as_slice(),
                width: SIDE,
                pitch: 3 * SIDE,
                height: SIDE,
                format: turbojpeg::PixelFormat::RGB,
            };
            let quality = 88 + (at % 8) as i32;
            let bytes =
                turbojpeg::compress(image, quality, turbojpeg::Subsamp::Sub2x2).map_err(|e| e.to_string())?;
            let medium = Blob { kind: Kind::Image, extension: "jpg".into(), bytes: bytes.to_vec().into() };
            let key = format!("{at:09}");
            let sample = Sample { key, media: vec![medium], text: Some(text), ..Sample::default() };
            writer.push(&sample).map_err(|e| e.to_string())?;
        }
        writer.finish().map(|written| written.bytes).map_err(|e| e.to_string())
    };
    let written: Result<Vec<u64>, String> = (0..samples.div_ceil(SHARD)).into_par_iter().map(shard).collect();
    println!("{samples} samples, {:.2} GB", written?.iter().sum::<u64>() as f64 / 1e9);
    Ok(())
}

/// Build a corpus of them, and say what it took.
fn run(folder: &Path, out: &Path, threads: usize) -> Result<(), Box<dyn Error>> {
    let recipe = Recipe::parse(&folder.join("recipe.toml"), RECIPE)?;
    let options = BuildOptions { threads, ..BuildOptions::default() };
    let built = build(recipe.corpus(&options)?, out, &options)?;
    let timings = built.timings.ok_or("the folder holds the corpus already; remove it")?;
    for (stage, count) in timings.stages.iter().zip(&built.manifest.stages) {
        println!(
            "{:24} {:8} in {:8} out {:8.2} s {:10.0} samples/s",
            stage.stage, count.taken, count.given, stage.seconds, stage.samples_per_second
        );
    }
    println!("{:.2} s, {:.0} samples/s on {threads} threads", timings.seconds, timings.samples_per_second);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().filter(|line| line.starts_with("VmHWM")).for_each(|line| println!("peak memory {line}"));
    Ok(())
}
