//! The fuzz targets of this crate on their seeds.

#[path = "../../../fuzz/entries/audio.rs"]
mod audio;
#[path = "../../../fuzz/each_seed.rs"]
mod each_seed;
#[path = "../../../fuzz/entries/image.rs"]
mod image;
#[path = "../../../fuzz/entries/template.rs"]
mod template;
#[path = "../../../fuzz/entries/tokenizer.rs"]
mod tokenizer;
#[path = "../../../fuzz/entries/video.rs"]
mod video;

use each_seed::{run, spoiled};

#[test]
fn audio() {
    run("audio", spoiled(audio::run));
}

#[test]
fn video() {
    run("video", spoiled(video::run));
}

#[test]
fn image() {
    run("image", spoiled(image::run));
}

#[test]
fn template() {
    run("template", spoiled(template::run));
}

#[test]
fn tokenizer() {
    run("tokenizer", tokenizer::run);
}
