//! Samples as cards: pictures, the first frames of videos, and the waveforms of sounds.

use std::fmt::Write as _;
use std::io::Cursor;
use std::sync::Arc;

use image::{ExtendedColorType, ImageEncoder as _};
use percept_modalities::audio::{self, Waveform};
use percept_modalities::image::{Filter, Image, Limits, decode, resize};
use percept_modalities::video::{self, Sampling};

use super::escape;

/// Pixels of a picture's longer side on a card.
const SIDE: usize = 320;

/// What a card shows, a title and a text below it.
pub struct Card {
    figure: String,
    title: String,
    text: String,
}

impl Card {
    /// A card without a figure.
    pub fn new(title: &str, text: &str) -> Self {
        Self { figure: String::new(), title: title.to_owned(), text: text.to_owned() }
    }

    /// The same card with another's figure before its own.
    pub fn with(mut self, other: Card) -> Self {
        self.figure = other.figure + &self.figure;
        self
    }

    pub(super) fn html(&self) -> String {
        let (title, text) = (escape(&self.title), escape(&self.text).replace('\n', "<br>"));
        format!("<div class=\"card\">{}<div class=\"key\">{title}</div>{text}</div>", self.figure)
    }
}

/// A picture's card.
pub fn image_card(title: &str, text: &str, picture: &Image) -> Card {
    Card { figure: image_tag(picture), ..Card::new(title, text) }
}

/// A video's card: its first frame, its middle and its last.
///
/// # Errors
/// In words, when it does not decode.
pub fn video_card(title: &str, text: &str, bytes: &Arc<[u8]>) -> Result<Card, String> {
    let limits = video::Limits::default();
    let all = video::sample_bytes(title, Arc::clone(bytes), &Sampling::Indices(vec![0]), &limits);
    let last = all.map_err(|e| e.to_string())?.total_frames.saturating_sub(1);
    let some = Sampling::Indices(vec![0, last / 2, last]);
    let clip = video::sample_bytes(title, Arc::clone(bytes), &some, &limits).map_err(|e| e.to_string())?;
    Ok(Card { figure: clip.frames.iter().map(image_tag).collect(), ..Card::new(title, text) })
}

/// A sound's card: its loudest and softest sample in each of 240 columns.
///
/// # Errors
/// In words, when it does not decode.
pub fn sound_card(title: &str, text: &str, bytes: &[u8]) -> Result<Card, String> {
    let limits = audio::Limits { samples: 16_000 * 3600 };
    let sound = audio::decode_bytes(title, bytes, 16_000, &limits).map_err(|e| e.to_string())?;
    Ok(Card { figure: waveform(&sound), ..Card::new(title, text) })
}

/// A picture in the page itself.
fn image_tag(picture: &Image) -> String {
    let longest = picture.width.max(picture.height);
    let side = |length: usize| (length * SIDE / longest).max(1);
    let small = match longest > SIDE {
        true => resize(picture, side(picture.width), side(picture.height), Filter::Lanczos).ok(),
        false => None,
    };
    let picture = small.as_ref().unwrap_or(picture);
    let mut png = Vec::new();
    let (width, height) = (picture.width as u32, picture.height as u32);
    let encoder = image::codecs::png::PngEncoder::new(Cursor::new(&mut png));
    if encoder.write_image(&picture.rgb, width, height, ExtendedColorType::Rgb8).is_err() {
        return String::new();
    }
    let class = if longest <= 64 { " class=\"small\"" } else { "" };
    format!("<img{class} alt=\"\" src=\"data:image/png;base64,{}\">", base64(&png))
}

/// A picture of any format in the page itself; nothing where it does not decode.
pub(crate) fn encoded_image_card(title: &str, text: &str, bytes: &[u8]) -> Card {
    match decode(bytes, &Limits::default()) {
        Ok(picture) => image_card(title, text, &picture),
        Err(error) => Card::new(title, &format!("{text}\n{error}")),
    }
}

fn waveform(sound: &Waveform) -> String {
    const COLUMNS: usize = 240;
    const HALF: f32 = 40.0;
    let per_column = sound.samples.len().div_ceil(COLUMNS).max(1);
    let mut path = String::new();
    for (x, samples) in sound.samples.chunks(per_column).enumerate() {
        let most = samples.iter().copied().fold(-1.0, f32::max).clamp(-1.0, 1.0);
        let least = samples.iter().copied().fold(1.0, f32::min).clamp(-1.0, 1.0);
        // Writing into a string cannot fail.
        let _ = write!(path, "M{x} {:.1}V{:.1}", HALF - HALF * most, HALF - HALF * least + 0.5);
    }
    let seconds = sound.samples.len() as f64 / f64::from(sound.rate.max(1));
    format!(
        "<svg viewBox=\"0 0 {COLUMNS} 81\" role=\"img\"><title>{seconds:.2} s</title><path d=\"{path}\" stroke=\"#1f66b8\" \
         stroke-width=\"1\" fill=\"none\"/></svg>"
    )
}

/// Bytes in the alphabet of RFC 4648.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let number = group.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - group.len()));
        for at in 0..4 {
            let is_there = at <= group.len();
            let digit = ALPHABET[(number >> (18 - 6 * at)) as usize & 63];
            out.push(if is_there { char::from(digit) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        // RFC 4648, section 10.
        let vectors = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
        ];
        for (text, expected) in vectors {
            assert_eq!(base64(text.as_bytes()), expected);
        }
    }

    #[test]
    fn a_waveform_has_a_stroke_for_each_column() {
        let samples = (0..16_000).map(|at| (at as f32 / 40.0).sin()).collect();
        let svg = waveform(&Waveform { samples, rate: 16_000 });
        assert!(svg.matches('M').count() > 200 && svg.contains("1.00 s"), "{svg}");
    }
}
