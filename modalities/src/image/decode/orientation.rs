//! The orientation of an image, by the rule of `PIL.Image.getexif`: from EXIF, and where EXIF has
//! none, from XMP.

use std::borrow::Cow;
use std::io::Read;

use flate2::read::ZlibDecoder;
use image::ImageFormat;

use super::directory::Directory;
use super::png;

/// The most bytes of compressed metadata. Longer ones hold no orientation, and may be decompression bombs.
const MOST: u64 = 1 << 20;

const ORIENTATION: u16 = 274;
const TIFF_XMP: u16 = 700;

/// What a file says beside its pixels.
#[derive(Default)]
struct Notes {
    exif: Option<Vec<u8>>,
    xmp: Option<Vec<u8>>,
}

/// The orientation by EXIF's numbers, 1 when there is none that makes sense: damaged metadata does not make
/// an image unreadable.
pub(super) fn of(bytes: &[u8], format: ImageFormat) -> u8 {
    let notes = match format {
        ImageFormat::Jpeg => jpeg(bytes),
        ImageFormat::Png => png_notes(bytes),
        ImageFormat::WebP => webp(bytes),
        ImageFormat::Tiff => {
            let xmp =
                Directory::first(bytes).and_then(|directory| directory.data(TIFF_XMP)).map(<[u8]>::to_vec);
            return from(Some(bytes), xmp.as_deref());
        }
        _ => return 1,
    };
    from(notes.exif.as_deref(), notes.xmp.as_deref())
}

fn from(exif: Option<&[u8]>, xmp: Option<&[u8]>) -> u8 {
    let in_exif = exif.and_then(|exif| {
        let mut exif = exif;
        while let Some(rest) = exif.strip_prefix(b"Exif\0\0") {
            exif = rest;
        }
        Directory::first(exif)?.first_of(ORIENTATION)
    });
    let value = in_exif.or_else(|| in_xmp(xmp?));
    value.and_then(|value| u8::try_from(value).ok()).unwrap_or(1)
}

/// The first of `tiff:Orientation="6"` and `<tiff:Orientation>6`.
fn in_xmp(xmp: &[u8]) -> Option<usize> {
    const KEY: &[u8] = b"tiff:Orientation";
    xmp.windows(KEY.len()).enumerate().filter(|(_, word)| *word == KEY).find_map(|(at, _)| {
        let rest = &xmp[at + KEY.len()..];
        let digit = rest.strip_prefix(b"=\"").or(rest.strip_prefix(b">"))?.first()?;
        digit.is_ascii_digit().then(|| usize::from(digit - b'0'))
    })
}

/// The markers before the first scan.
fn jpeg(bytes: &[u8]) -> Notes {
    let mut notes = Notes::default();
    let mut at = 2;
    while let Some(&[0xff, marker]) = bytes.get(at..).and_then(|rest| rest.first_chunk::<2>()) {
        match marker {
            // A byte that fills up.
            0xff => at += 1,
            // Markers without a length.
            0x01 | 0xd0..=0xd8 => at += 2,
            0xd9 | 0xda => break,
            _ => at += 2,
        }
        if matches!(marker, 0xff | 0x01 | 0xd0..=0xd8) {
            continue;
        }
        let Some(length) = bytes.get(at..at + 2).map(|two| usize::from(u16::from_be_bytes([two[0], two[1]])))
        else {
            break;
        };
        let Some(segment) = bytes.get(at + 2..at + length.max(2)) else { break };
        if marker == 0xe1 {
            if let Some(exif) = segment.strip_prefix(b"Exif\0\0") {
                notes.exif.get_or_insert_default().extend_from_slice(exif);
            } else if let Some(xmp) = segment.strip_prefix(b"http://ns.adobe.com/xap/1.0/\0") {
                notes.xmp = Some(xmp.to_vec());
            }
        }
        at += length.max(2);
    }
    notes
}

/// `eXIf`, ImageMagick's raw profiles in hexadecimal text, and XMP, in any of the three chunks that hold
/// texts.
fn png_notes(bytes: &[u8]) -> Notes {
    let (mut notes, mut profile) = (Notes::default(), None);
    for (kind, data, _) in png::chunks(bytes) {
        if &kind == b"eXIf" {
            notes.exif = Some(data.to_vec());
            continue;
        }
        if let Some(text) = text_of(&kind, data, b"Raw profile type exif") {
            profile = from_hex(&text).or(profile);
        } else if let Some(text) = text_of(&kind, data, b"XML:com.adobe.xmp") {
            notes.xmp = Some(text.into_owned());
        }
    }
    notes.exif = notes.exif.or(profile);
    notes
}

/// The text that a chunk of a PNG stores under `key`.
fn text_of<'a>(kind: &[u8; 4], data: &'a [u8], key: &[u8]) -> Option<Cow<'a, [u8]>> {
    // Only texts under a key that is looked for are inflated.
    let rest = data.strip_prefix(key)?.strip_prefix(b"\0")?;
    match (kind, rest) {
        (b"tEXt", text) => Some(text.into()),
        (b"zTXt", [0, packed @ ..]) => inflate(packed).map(Cow::from),
        (b"iTXt", [packed, method, rest @ ..]) => {
            // A language and a translated keyword come before the text.
            let text = rest.splitn(3, |byte| *byte == 0).nth(2)?;
            match (packed, method) {
                (0, _) => Some(text.into()),
                (_, 0) => inflate(text).map(Cow::from),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The bytes of a profile: a line's end, its name, its length, and the rest in hexadecimal.
fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let body = text.splitn(4, |byte| *byte == b'\n').nth(3)?;
    let digits: Vec<u8> = body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.chunks(2).map(pair).collect()
}

/// What was compressed, unless it is longer than any note that is looked for.
fn inflate(packed: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    ZlibDecoder::new(packed).take(MOST + 1).read_to_end(&mut text).ok()?;
    (text.len() as u64 <= MOST).then_some(text)
}

fn webp(bytes: &[u8]) -> Notes {
    let mut notes = Notes::default();
    let mut at = 12;
    while let Some(head) = bytes.get(at..at + 8) {
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let Some(data) = (at + 8).checked_add(length).and_then(|end| bytes.get(at + 8..end)) else { break };
        match &head[..4] {
            b"EXIF" => notes.exif = Some(data.to_vec()),
            b"XMP " => notes.xmp = Some(data.to_vec()),
            _ => {}
        }
        at += 8 + length + length % 2;
    }
    notes
}
