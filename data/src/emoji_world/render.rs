//! Samples made from jobs.

use std::io::Cursor;

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use percept_modalities::image::Image;
use percept_modalities::{Content, Message};
use serde_json::{Map, Value, json};

use super::paint::{Placement, background, blur, noise, paint};
use super::sheet::Emoji;
use super::sound::{self, Tone};
use super::tasks::{HELD_OUT, Job, Make, Task, stream};
use crate::augment::{Augmentation, tint};
use crate::chance::Chance;
use crate::error::{Error, Result};
use crate::sample::{Blob, Kind, Sample};
use crate::video;

/// Pixels of a side of an image.
const IMAGE_SIDE: usize = 48;

/// Pixels of a side of a clip's frame, and how many frames it has, all in a second.
const FRAME: usize = 32;
const FRAMES: usize = 6;

/// Sample `number` of a task.
pub(super) fn sample(task: &Task, number: usize, job: &Job, emoji: &[Emoji], seed: u64) -> Result<Sample> {
    let mut chance = Chance::new(seed, stream(task.folder, task.split), number as u64);
    let subject = job.emoji.map(|at| &emoji[at]);
    let (medium, question, answer) = make(job.make, subject, task.split == HELD_OUT, &mut chance)?;
    let content = Content::Text(question.to_string()).after([medium.kind.into()]);
    let mut meta = Map::new();
    meta.insert("task".into(), json!(if matches!(job.make, Make::Pitch(_)) { "pitch" } else { task.folder }));
    meta.insert("answer".into(), json!(answer));
    if let Some(subject) = subject {
        meta.insert("emoji".into(), json!(subject.name));
        if !subject.also.is_empty() {
            meta.insert("also".into(), Value::from(subject.also.clone()));
        }
        meta.insert("split_key".into(), json!(subject.split_key()));
    }
    Ok(Sample {
        key: match task.split == HELD_OUT {
            true => format!("{}-{HELD_OUT}-{number:05}", task.folder),
            false => format!("{}-{number:05}", task.folder),
        },
        media: vec![medium],
        text: None,
        messages: vec![Message::new("user", content), Message::new("assistant", Content::Text(answer))],
        meta,
    })
}

/// The medium, the question about it and the answer.
fn make(
    make: Make,
    subject: Option<&Emoji>,
    is_held_out: bool,
    chance: &mut Chance,
) -> Result<(Blob, &'static str, String)> {
    let Some(emoji) = subject else {
        let (tone, question) = match make {
            Make::Sound(tone) => (tone, "Is the sound rising, falling or steady?"),
            Make::Pitch(tone) => (tone, "Is the sound high or low?"),
            _ => return Err(Error::Config(format!("{make:?} needs an emoji"))),
        };
        let answer = match tone {
            Tone::Rising => "rising",
            Tone::Falling => "falling",
            Tone::Steady => "steady",
            Tone::High => "high",
            Tone::Low => "low",
        };
        let bytes = sound::wav(tone, chance).into();
        return Ok((Blob { kind: Kind::Audio, extension: "wav".into(), bytes }, question, answer.into()));
    };
    let (question, answer) = match make {
        Make::Category => ("Which category is this?", emoji.category.to_string()),
        Make::Colour(name) => ("What colour is most of it?", name.to_string()),
        Make::Name => ("What is this?", emoji.name.clone()),
        Make::Flag => ("Which country is this flag?", emoji.name.clone()),
        Make::Direction(direction) => {
            let (answer, right, down) = direction.step();
            return Ok((moving(emoji, (right, down), chance)?, "Which way does it move?", answer.into()));
        }
        Make::Count(count) => {
            let answer = ["one", "two", "three", "four"][count.clamp(1, 4) - 1];
            return Ok((crowd(emoji, count, chance)?, "How many are there?", answer.into()));
        }
        Make::Sound(_) | Make::Pitch(_) => return Err(Error::Config(format!("{make:?} needs no emoji"))),
    };
    let image = match make {
        Make::Flag if is_held_out => flag_held_out(emoji, chance)?,
        _ => view(emoji, chance)?,
    };
    Ok((png(&image)?, question, answer))
}

/// An emoji, nearly upright, on a background.
fn view(emoji: &Emoji, chance: &mut Chance) -> Result<Image> {
    let mut image = canvas(IMAGE_SIDE, chance)?;
    let side = IMAGE_SIDE as f64 * chance.between(0.82, 1.0);
    let middle = [(); 2].map(|()| IMAGE_SIDE as f64 / 2.0 + chance.between(-2.0, 2.0));
    let angle = chance.between(-5.0, 5.0).to_radians();
    let placement = Placement { angle, ..Placement::upright((middle[0], middle[1]), side) };
    paint(&mut image, emoji, &placement);
    Ok(image)
}

/// A flag as a poor photograph has it: cropped, turned, too bright or too dark, blurred, with noise.
fn flag_held_out(emoji: &Emoji, chance: &mut Chance) -> Result<Image> {
    let mut image = canvas(IMAGE_SIDE, chance)?;
    // Larger than the image: its edges are cropped.
    let side = IMAGE_SIDE as f64 * chance.between(0.9, 1.2);
    let middle = [(); 2].map(|()| IMAGE_SIDE as f64 / 2.0 + chance.between(-3.0, 3.0));
    let angle = chance.between(-12.0, 12.0).to_radians();
    paint(&mut image, emoji, &Placement { angle, ..Placement::upright((middle[0], middle[1]), side) });
    tint(&mut image, &Augmentation { gains: 0.04, contrast: 0.2, ..Augmentation::none() }, chance);
    let brightness = chance.between(0.75, 1.2);
    for value in &mut image.rgb {
        *value = crate::augment::to_byte(f64::from(*value) * brightness);
    }
    blur(&mut image, chance.between(0.0, 1.0));
    let deviation = chance.between(1.0, 6.0);
    noise(&mut image, deviation, chance);
    Ok(image)
}

/// One emoji that crosses the frame.
fn moving(emoji: &Emoji, (right, down): (f64, f64), chance: &mut Chance) -> Result<Blob> {
    let canvas = canvas(FRAME, chance)?;
    let side = chance.between(12.0, 17.0);
    let speed = chance.between(2.0, 3.4);
    let across = chance.between(-6.0, 6.0);
    let along = chance.between(-2.0, 2.0);
    let middle = FRAME as f64 / 2.0;
    let flipped = chance.coin();
    let frames: Vec<Image> = (0..FRAMES)
        .map(|at| {
            let way = along + speed * (at as f64 - (FRAMES - 1) as f64 / 2.0);
            let place = (middle + right * way + down * across, middle + down * way + right * across);
            let mut frame = canvas.clone();
            paint(&mut frame, emoji, &Placement { flipped, ..Placement::upright(place, side) });
            frame
        })
        .collect();
    clip(&frames)
}

/// Some of an emoji, side by side, which drift together.
fn crowd(emoji: &Emoji, count: usize, chance: &mut Chance) -> Result<Blob> {
    let canvas = canvas(FRAME, chance)?;
    let side = chance.between(9.0, 12.0);
    let drift = [(); 2].map(|()| chance.between(-0.5, 0.5));
    let mut quarters = [(8.5, 8.5), (23.5, 8.5), (8.5, 23.5), (23.5, 23.5)];
    for at in (1..4).rev() {
        quarters.swap(at, chance.below(at + 1));
    }
    let places: Vec<_> = quarters[..count.min(4)]
        .iter()
        .map(|&(x, y)| (x + chance.between(-1.0, 1.0), y + chance.between(-1.0, 1.0)))
        .collect();
    let frames: Vec<Image> = (0..FRAMES)
        .map(|at| {
            let since = at as f64 - (FRAMES - 1) as f64 / 2.0;
            let mut frame = canvas.clone();
            for &(x, y) in &places {
                let place = (x + drift[0] * since, y + drift[1] * since);
                paint(&mut frame, emoji, &Placement::upright(place, side));
            }
            frame
        })
        .collect();
    clip(&frames)
}

fn canvas(side: usize, chance: &mut Chance) -> Result<Image> {
    Image::filled(side, side, background(chance)).map_err(|e| Error::Config(e.to_string()))
}

fn clip(frames: &[Image]) -> Result<Blob> {
    let bytes = video::encode(frames, FRAMES as u32).map_err(|e| Error::Config(e.to_string()))?;
    Ok(Blob { kind: Kind::Video, extension: "mp4".into(), bytes: bytes.into() })
}

fn png(image: &Image) -> Result<Blob> {
    let mut bytes = Cursor::new(Vec::new());
    let encoder = PngEncoder::new_with_quality(&mut bytes, CompressionType::Default, FilterType::Adaptive);
    let (width, height) = (image.width as u32, image.height as u32);
    let written = encoder.write_image(&image.rgb, width, height, ExtendedColorType::Rgb8);
    written.map_err(|e| Error::Config(format!("an image cannot be encoded: {e}")))?;
    Ok(Blob { kind: Kind::Image, extension: "png".into(), bytes: bytes.into_inner().into() })
}
