//! Samples as cards: images, videos and audio that play, waveforms and spectrograms.

use std::fmt::Write as _;
use std::io::Cursor;
use std::sync::Arc;

use image::{ExtendedColorType, ImageEncoder as _};
use percept_modalities::Values;
use percept_modalities::audio::{self, LogMel, Waveform};
use percept_modalities::image::{Filter, Image, Limits, decode, resize};
use percept_modalities::video::{self, Sampling};
use serde_json::json;

use super::escape;
use crate::format::sniff;

/// Pixels of an image's longer side on a card.
const SIDE: usize = 320;

/// Bytes of a file that the page holds whole, so that it plays.
const LARGEST: usize = 4 << 20;

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

    /// The card as HTML, for a page that puts more around it.
    pub fn html(&self) -> String {
        let (title, text) = (escape(&self.title), escape(&self.text).replace('\n', "<br>"));
        format!("<div class=\"card\">{}<div class=\"key\">{title}</div>{text}</div>", self.figure)
    }
}

/// A card that shows an image.
pub fn image_card(title: &str, text: &str, image: &Image) -> Card {
    Card { figure: image_tag(image), ..Card::new(title, text) }
}

/// A video's card: it plays, unless it is large or in a form that browsers do not know; then its first frame,
/// its middle and its last are shown.
///
/// # Errors
/// In words, when it does not decode.
pub fn video_card(title: &str, text: &str, bytes: &Arc<[u8]>) -> Result<Card, String> {
    let limits = video::Limits::default();
    let all = video::sample_bytes(title, Arc::clone(bytes), &Sampling::Indices(vec![0]), &limits);
    let all = all.map_err(|e| e.to_string())?;
    if let (Some(data), Some(first)) = (embedded(bytes), all.frames.first()) {
        let class = if first.width.max(first.height) <= 64 { " class=\"small\"" } else { "" };
        let poster = image_data(first).map(|data| format!(" poster=\"{data}\"")).unwrap_or_default();
        let figure = format!(
            "<video{class} controls loop muted playsinline preload=\"metadata\"{poster} src=\"{data}\"></video>"
        );
        return Ok(Card { figure, ..Card::new(title, text) });
    }
    let last = all.total_frames.saturating_sub(1);
    let some = Sampling::Indices(vec![0, last / 2, last]);
    let clip = video::sample_bytes(title, Arc::clone(bytes), &some, &limits).map_err(|e| e.to_string())?;
    Ok(Card { figure: clip.frames.iter().map(image_tag).collect(), ..Card::new(title, text) })
}

/// An audio file's card: it plays, unless it is large; its waveform, the loudest and softest sample in each
/// of 240 columns; and its spectrogram, time from left to right and pitch from bottom to top.
///
/// # Errors
/// In words, when it does not decode.
pub fn audio_card(title: &str, text: &str, bytes: &[u8]) -> Result<Card, String> {
    let limits = audio::Limits { samples: 16_000 * 3600 };
    let audio = audio::decode_bytes(title, bytes, 16_000, &limits).map_err(|e| e.to_string())?;
    let player =
        embedded(bytes).map(|data| format!("<audio controls preload=\"metadata\" src=\"{data}\"></audio>"));
    let figure = player.unwrap_or_default() + &waveform(&audio) + &spectrogram(&audio).unwrap_or_default();
    Ok(Card { figure, ..Card::new(title, text) })
}

/// An image in the page itself.
fn image_tag(image: &Image) -> String {
    let longest = image.width.max(image.height);
    let side = |length: usize| (length * SIDE / longest).max(1);
    let small = match longest > SIDE {
        true => resize(image, side(image.width), side(image.height), Filter::Lanczos).ok(),
        false => None,
    };
    let image = small.as_ref().unwrap_or(image);
    let class = if longest <= 64 { " class=\"small\"" } else { "" };
    image_data(image).map(|data| format!("<img{class} alt=\"\" src=\"{data}\">")).unwrap_or_default()
}

/// An image as an address that holds it.
fn image_data(image: &Image) -> Option<String> {
    let mut png = Vec::new();
    let (width, height) = (image.width as u32, image.height as u32);
    let encoder = image::codecs::png::PngEncoder::new(Cursor::new(&mut png));
    encoder.write_image(&image.rgb, width, height, ExtendedColorType::Rgb8).ok()?;
    Some(format!("data:image/png;base64,{}", base64(&png)))
}

/// A file as an address that holds it, if it is small and browsers play its kind.
fn embedded(bytes: &[u8]) -> Option<String> {
    let found = sniff(bytes)?;
    let kind = match found.extension_as(found.kind()) {
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        "mkv" if bytes.windows(4).take(64).any(|w| w == b"webm") => "video/webm",
        "m4a" => "audio/mp4",
        "wav" => "audio/wav",
        "flac" => "audio/flac",
        "ogg" => "audio/ogg",
        "mp3" => "audio/mpeg",
        "aac" => "audio/aac",
        _ => return None,
    };
    (bytes.len() <= LARGEST).then(|| format!("data:{kind};base64,{}", base64(bytes)))
}

/// An image of any format in the page itself; nothing where it does not decode.
pub(crate) fn encoded_image_card(title: &str, text: &str, bytes: &[u8]) -> Card {
    match decode(bytes, &Limits::default()) {
        Ok(image) => image_card(title, text, &image),
        Err(error) => Card::new(title, &format!("{text}\n{error}")),
    }
}

fn waveform(audio: &Waveform) -> String {
    const COLUMNS: usize = 240;
    const HALF: f32 = 40.0;
    let per_column = audio.samples.len().div_ceil(COLUMNS).max(1);
    let mut path = String::new();
    for (x, samples) in audio.samples.chunks(per_column).enumerate() {
        let most = samples.iter().copied().fold(-1.0, f32::max).clamp(-1.0, 1.0);
        let least = samples.iter().copied().fold(1.0, f32::min).clamp(-1.0, 1.0);
        // Writing into a string cannot fail.
        let _ = write!(path, "M{x} {:.1}V{:.1}", HALF - HALF * most, HALF - HALF * least + 0.5);
    }
    let seconds = audio.samples.len() as f64 / f64::from(audio.rate.max(1));
    format!(
        "<svg viewBox=\"0 0 {COLUMNS} 81\" role=\"img\"><title>{seconds:.2} s</title><path d=\"{path}\" stroke=\"#3884dc\" \
         stroke-width=\"1\" fill=\"none\"/></svg>"
    )
}

/// The first minute as log-mel, dark where there is little; nothing for an audio clip that is too short for a
/// window.
fn spectrogram(audio: &Waveform) -> Option<String> {
    const BANDS: usize = 64;
    const COLUMNS: usize = 240;
    let rate = audio.rate.max(1);
    let seconds = audio.samples.len().div_ceil(rate as usize).clamp(1, 60);
    let heard = audio.samples.len().min(seconds * rate as usize);
    let hop = (heard / COLUMNS).max(1);
    let settings = json!({
        "feature_size": BANDS, "sampling_rate": rate, "hop_length": hop, "chunk_length": seconds, "n_fft": 1024,
    });
    let mel = LogMel::from_json("spectrogram", &settings).ok()?;
    let Values::F32(values) = mel.features(audio).ok()?.values else { return None };
    let (frames, width) = (mel.frames(), heard.div_ceil(hop).min(mel.frames()));
    if width == 0 {
        return None;
    }
    let shown = |band: usize, x: usize| values[band * frames + x];
    let all = || (0..BANDS).flat_map(|band| (0..width).map(move |x| (band, x))).map(|(b, x)| shown(b, x));
    let (least, most) = (all().fold(f32::MAX, f32::min), all().fold(f32::MIN, f32::max));
    let mut rgb = Vec::with_capacity(3 * BANDS * width);
    for band in (0..BANDS).rev() {
        for x in 0..width {
            rgb.extend(shade((shown(band, x) - least) / (most - least).max(1e-6)));
        }
    }
    let data = image_data(&Image { width, height: BANDS, rgb })?;
    Some(format!("<img class=\"spectrogram\" alt=\"spectrogram\" src=\"{data}\">"))
}

/// From 0 to 1: black, violet, orange, pale yellow.
fn shade(share: f32) -> [u8; 3] {
    const STOPS: [[f32; 3]; 4] =
        [[8.0, 6.0, 24.0], [112.0, 32.0, 128.0], [240.0, 112.0, 60.0], [252.0, 246.0, 190.0]];
    let at = share.clamp(0.0, 1.0) * (STOPS.len() - 1) as f32;
    let low = (at as usize).min(STOPS.len() - 2);
    std::array::from_fn(|c| (STOPS[low][c] + (at - low as f32) * (STOPS[low + 1][c] - STOPS[low][c])) as u8)
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
    fn a_spectrogram_is_bright_at_the_pitch_that_sounds() {
        let tone = |hertz: f32| {
            let samples = (0..16_000).map(|at| (at as f32 * hertz * std::f32::consts::TAU / 16_000.0).sin());
            spectrogram(&Waveform { samples: samples.collect(), rate: 16_000 }).unwrap()
        };
        let brightest = |tag: &str| {
            let data = tag.split("base64,").nth(1).unwrap().split('"').next().unwrap();
            let png = image_of(data);
            let sum = |y: usize| {
                png.rgb[3 * png.width * y..3 * png.width * (y + 1)].iter().map(|&b| u64::from(b)).sum()
            };
            (0..png.height).max_by_key(|&y| -> u64 { sum(y) }).unwrap()
        };
        let (low, high) = (brightest(&tone(300.0)), brightest(&tone(3000.0)));
        assert!(low > high + 10, "a low tone stands in row {low}, a high one in row {high}");
        assert!(spectrogram(&Waveform { samples: Vec::new(), rate: 16_000 }).is_none());
    }

    /// An image from base64.
    fn image_of(text: &str) -> Image {
        let value = |b: u8| match b {
            b'A'..=b'Z' => b - b'A',
            b'a'..=b'z' => b - b'a' + 26,
            b'0'..=b'9' => b - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        let letters: Vec<u8> = text.bytes().filter(|b| *b != b'=').collect();
        let bits = letters.iter().fold((Vec::new(), 0u32, 0), |(mut out, mut number, mut have), &b| {
            (number, have) = (number << 6 | u32::from(value(b)), have + 6);
            if have >= 8 {
                have -= 8;
                out.push((number >> have) as u8);
            }
            (out, number, have)
        });
        decode(&bits.0, &Limits::default()).unwrap()
    }

    #[test]
    fn what_browsers_play_is_in_the_page_and_what_is_large_is_not() {
        let mut wav = b"RIFF\x24\0\0\0WAVE".to_vec();
        assert!(embedded(&wav).unwrap().starts_with("data:audio/wav;base64,UklGRi"));
        wav.resize(LARGEST + 1, 0);
        assert_eq!(embedded(&wav), None);
        assert_eq!(embedded(b"RIFF....AVI LIST"), None);
    }

    #[test]
    fn a_waveform_has_a_stroke_for_each_column() {
        let samples = (0..16_000).map(|at| (at as f32 / 40.0).sin()).collect();
        let svg = waveform(&Waveform { samples, rate: 16_000 });
        assert!(svg.matches('M').count() > 200 && svg.contains("1.00 s"), "{svg}");
    }
}
