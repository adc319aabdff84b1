//! The emoji that come with Percept: their images, names and categories.

use std::collections::BTreeMap;
use std::io::Cursor;

use image::{ImageFormat, ImageReader};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Pixels of a side of an image.
pub(super) const SIDE: usize = 64;

/// An image and the border of a pixel around it.
const CELL: usize = SIDE + 2;

const SHEET: &[u8] = include_bytes!("../../assets/emoji/noto-64.png");
const TABLE: &str = include_str!("../../assets/emoji/emoji.tsv");

/// Names and licences of what is bundled, which go with every corpus.
pub(super) const NOTICE: &str = include_str!("../../assets/emoji/NOTICE");

/// Of flags that are the same to the pixel, the name that the image goes by.
const KNOWN_AS: [&str; 7] = [
    "Australia",
    "British Indian Ocean Territory",
    "France",
    "Norway",
    "Saudi Arabia",
    "Spain",
    "United States",
];

/// An emoji with its names and image.
#[derive(Debug, Clone)]
pub(super) struct Emoji {
    /// Its name, as `grinning face` or `Norway`.
    pub name: String,
    /// Its category in one word; `flags` for flags of countries.
    pub category: &'static str,
    /// Other names of the same image.
    pub also: Vec<String>,
    /// Red, green, blue and coverage, four bytes a pixel, row by row.
    pub rgba: Vec<u8>,
    /// The SHA-256 of the image: two emoji with one image never come into different splits.
    pub hash: [u8; 32],
}

impl Emoji {
    /// A number from the image and a seed, which puts it into a split.
    pub fn lot(&self, seed: u64) -> u64 {
        let mut digest = Sha256::new();
        digest.update(seed.to_le_bytes());
        digest.update(self.hash);
        let mut lot = [0; 8];
        lot.copy_from_slice(&digest.finalize()[..8]);
        u64::from_le_bytes(lot)
    }

    /// The first digits of the hash.
    pub fn split_key(&self) -> String {
        self.hash[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// All emoji in eight categories, and the flags of countries, each image once.
pub(super) fn load() -> Result<Vec<Emoji>> {
    let broken =
        |why: &str| Error::Config(format!("the bundled emoji are damaged ({why}); build Percept again"));
    let sheet = ImageReader::with_format(Cursor::new(SHEET), ImageFormat::Png);
    let sheet = sheet.decode().map_err(|e| broken(&e.to_string()))?.into_rgba8();
    let mut known: BTreeMap<[u8; 32], usize> = BTreeMap::new();
    let mut all: Vec<Emoji> = Vec::new();
    for line in TABLE.lines().skip(1) {
        let [_, category, subcategory, column, row, name] = line.split('\t').collect::<Vec<_>>()[..] else {
            return Err(broken(line));
        };
        let Some(category) = category_word(category, subcategory) else { continue };
        let name = if category == "flags" { country(name) } else { name.to_lowercase() };
        let place = |number: &str| number.parse::<usize>().map(|at| at * CELL + 1).map_err(|_| broken(line));
        let rgba = cut(&sheet, place(column)?, place(row)?).ok_or_else(|| broken(line))?;
        let hash = Sha256::digest(&rgba).into();
        match known.get(&hash).map(|&at| &mut all[at]) {
            None => {
                known.insert(hash, all.len());
                all.push(Emoji { name, category, also: Vec::new(), rgba, hash });
            }
            Some(first) if KNOWN_AS.contains(&name.as_str()) => {
                let other = std::mem::replace(&mut first.name, name);
                first.also.push(other);
            }
            Some(first) => first.also.push(name),
        }
    }
    Ok(all)
}

/// The category in one word; `None` for parts of emoji and for flags of no country.
fn category_word(category: &str, subcategory: &str) -> Option<&'static str> {
    Some(match category {
        "Smileys & Emotion" => "smileys",
        "People & Body" => "people",
        "Animals & Nature" => "animals",
        "Food & Drink" => "food",
        "Travel & Places" => "travel",
        "Activities" => "activities",
        "Objects" => "objects",
        "Symbols" => "symbols",
        "Flags" if subcategory == "country-flag" => "flags",
        _ => return None,
    })
}

fn country(name: &str) -> String {
    name.trim_end_matches(" Flag").replace(" & ", " and ")
}

/// An image of the sheet, with nothing under what does not cover.
fn cut(sheet: &image::RgbaImage, left: usize, top: usize) -> Option<Vec<u8>> {
    let mut rgba = Vec::with_capacity(4 * SIDE * SIDE);
    for y in top..top + SIDE {
        for x in left..left + SIDE {
            let pixel = sheet.get_pixel_checked(x as u32, y as u32)?.0;
            rgba.extend(if pixel[3] == 0 { [0; 4] } else { pixel });
        }
    }
    Some(rgba)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sheet_holds_what_the_reference_says() {
        let all = load().unwrap();
        let count = |category: &str| all.iter().filter(|emoji| emoji.category == category).count();
        // Of 259 flags 250 images differ; of 1,636 other emoji 1,631 do.
        assert_eq!(count("flags"), 250);
        assert_eq!(all.len() - count("flags"), 1631);
        let norway = all.iter().find(|emoji| emoji.name == "Norway").unwrap();
        assert_eq!(norway.also, ["Bouvet Island", "Svalbard and Jan Mayen"]);
        let merged: Vec<_> = all.iter().filter(|e| e.category == "flags" && !e.also.is_empty()).collect();
        assert_eq!(merged.len(), KNOWN_AS.len());
        assert!(merged.iter().all(|emoji| KNOWN_AS.contains(&emoji.name.as_str())));
        // Japan's flag is red in its middle.
        let japan = all.iter().find(|emoji| emoji.name == "Japan").unwrap();
        let middle = &japan.rgba[4 * (32 * SIDE + 32)..][..4];
        assert!(middle[0] > 150 && middle[1] < 80 && middle[3] == 255, "{middle:?}");
    }

    #[test]
    fn what_is_bundled_is_small_and_has_its_notice() {
        assert!(SHEET.len() + TABLE.len() + NOTICE.len() < 4_000_000);
        assert!(NOTICE.contains("Apache License") && NOTICE.contains("MIT License"));
    }
}
