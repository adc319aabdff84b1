//! PNG with what its pixels need and nothing else.
//!
//! Colour profiles and texts are compressed, and may inflate to gigabytes; nothing here reads them, so no decoder gets to
//! see them.

use flate2::Crc;

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

pub(crate) fn is_png(bytes: &[u8]) -> bool {
    bytes.starts_with(SIGNATURE)
}

/// The chunks of a file: their names, their data and the sums of both. The last one may be cut off, and has no sum then.
pub(super) fn chunks(bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8], Option<[u8; 4]>)> {
    let mut rest = bytes.get(SIGNATURE.len()..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (head, data) = rest.split_at_checked(8)?;
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let (data, after) = data.split_at(length.min(data.len()));
        rest = after.get(4..).unwrap_or_default();
        Some(([head[4], head[5], head[6], head[7]], data, after.first_chunk().copied()))
    })
}

/// The still image as a file of its own. As in PIL, the end may be missing and the sums of the image's data
/// are not compared: it counts whether the data suffices for all rows.
pub(super) fn still(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::from(SIGNATURE);
    let mut data = Vec::new();
    for (kind, chunk, sum) in chunks(bytes) {
        match &kind {
            b"IDAT" => data.extend_from_slice(chunk),
            // The image's data stands together; what follows is of another image, or damage.
            _ if !data.is_empty() => break,
            // What is transparent has its colour all the same.
            b"IHDR" | b"PLTE" => write(&mut out, kind, chunk, sum),
            _ => {}
        }
    }
    write(&mut out, *b"IDAT", &data, None);
    write(&mut out, *b"IEND", &[], None);
    out
}

/// The animation, without its compressed notes.
pub(crate) fn animation(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::from(SIGNATURE);
    for (kind, chunk, sum) in chunks(bytes) {
        if matches!(&kind, b"IHDR" | b"PLTE" | b"tRNS" | b"acTL" | b"fcTL" | b"IDAT" | b"fdAT" | b"IEND") {
            write(&mut out, kind, chunk, sum);
        }
    }
    out
}

/// A chunk with its stored sum, or the right one where it has none.
fn write(out: &mut Vec<u8>, kind: [u8; 4], data: &[u8], stored: Option<[u8; 4]>) {
    out.extend((data.len() as u32).to_be_bytes());
    out.extend(kind);
    out.extend_from_slice(data);
    out.extend(stored.unwrap_or_else(|| {
        let mut sum = Crc::new();
        sum.update(&kind);
        sum.update(data);
        sum.sum().to_be_bytes()
    }));
}
