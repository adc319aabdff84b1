//! Whether a video or an audio file ends before its container says that it does.
//!
//! Decoders give what is there, so a file that is cut off decodes without an error. Containers say how large
//! their parts are, which holds whatever the rate of frames or the edits of a film are.

/// Bytes by which writers of the RIFF family overstate themselves: some count their own head.
const SLACK: u64 = 16;

/// Sizes from here on stand for streams whose length was not known when they were begun.
const UNKNOWN: u64 = 0x7f00_0000;

/// What is missing of a file, by its container; `None` where nothing is, or where it cannot be told.
pub(super) fn cut_off(bytes: &[u8]) -> Option<String> {
    let length = bytes.len() as u64;
    let is = |at: usize, mark: &[u8]| bytes.get(at..).is_some_and(|rest| rest.starts_with(mark));
    let size = || bytes.get(4..)?.first_chunk::<4>().copied();
    let missing = match bytes {
        _ if is(4, b"ftyp") => boxes(bytes),
        _ if is(0, b"\x1a\x45\xdf\xa3") => elements(bytes),
        _ if is(0, b"RIFF") => sized(u64::from(u32::from_le_bytes(size()?)), length),
        _ if is(0, b"FORM") => sized(u64::from(u32::from_be_bytes(size()?)), length),
        _ if is(0, b"OggS") => pages(bytes),
        _ if is(0, b"FLV") => tags(bytes),
        _ if is(0, b"GIF8") => (!has_trailer(bytes)).then_some(1),
        _ if is(0, b"\x89PNG") => chunks(bytes),
        _ => None,
    }?;
    Some(format!("it is cut off: its container says that {missing} bytes or more follow its {length}"))
}

/// A file that states the size of what follows its first eight bytes.
fn sized(stated: u64, length: u64) -> Option<u64> {
    let end = stated + 8;
    (stated < UNKNOWN && end > length + SLACK).then(|| end - length)
}

/// MPEG-4: boxes one behind the other, the last of which may reach to the end.
fn boxes(bytes: &[u8]) -> Option<u64> {
    let mut rest = bytes;
    while rest.len() >= 8 {
        let size = match u32::from_be_bytes(*rest.first_chunk()?) {
            0 => return None,
            1 => u64::from_be_bytes(*rest.get(8..)?.first_chunk()?),
            size => u64::from(size),
        };
        if size > rest.len() as u64 {
            return Some(size - rest.len() as u64);
        }
        // Rubbish behind the boxes is no box.
        if size < 8 {
            return None;
        }
        rest = &rest[size as usize..];
    }
    None
}

/// Matroska: elements with their sizes, those of a segment within it. A size of ones is unknown.
fn elements(bytes: &[u8]) -> Option<u64> {
    const SEGMENT: u64 = 0x1853_8067;
    let mut rest = bytes;
    while !rest.is_empty() {
        let (id, after) = vint(rest, false)?;
        let (size, body) = vint(after, true)?;
        let Some(size) = size else {
            // A segment of unknown size is as long as what is in it; a cluster of unknown size is not looked
            // into.
            rest = if id == Some(SEGMENT) { body } else { return None };
            continue;
        };
        if size > body.len() as u64 {
            return Some(size - body.len() as u64);
        }
        rest = if id == Some(SEGMENT) { body } else { &body[size as usize..] };
    }
    None
}

/// A number of Matroska's and what follows it. Without its mark it is a size, of which ones alone mean
/// nothing.
fn vint(bytes: &[u8], is_size: bool) -> Option<(Option<u64>, &[u8])> {
    let first = *bytes.first()?;
    let length = first.leading_zeros() as usize + 1;
    let digits = bytes.get(..length).filter(|_| length <= 8)?;
    let value = digits.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
    let rest = &bytes[length..];
    if !is_size {
        return Some((Some(value), rest));
    }
    let mask = (1_u64 << (7 * length)) - 1;
    let size = value & mask;
    Some(((size != mask).then_some(size), rest))
}

/// Ogg: pages, each with a table of the sizes of its segments.
fn pages(bytes: &[u8]) -> Option<u64> {
    const HEAD: usize = 27;
    let mut rest = bytes;
    while rest.starts_with(b"OggS") {
        let segments = match rest.get(HEAD - 1) {
            Some(count) => usize::from(*count),
            None => return Some((HEAD - rest.len()) as u64),
        };
        let Some(table) = rest.get(HEAD..HEAD + segments) else {
            return Some((HEAD + segments - rest.len()) as u64);
        };
        let size = HEAD + segments + table.iter().map(|size| usize::from(*size)).sum::<usize>();
        match rest.get(size..) {
            Some(next) => rest = next,
            None => return Some((size - rest.len()) as u64),
        }
    }
    None
}

/// Flash video: tags, each followed by its size.
fn tags(bytes: &[u8]) -> Option<u64> {
    let mut rest = bytes.get(13..)?;
    while let Some(head) = rest.get(..11) {
        let size = 15 + u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize;
        match rest.get(size..) {
            Some(next) => rest = next,
            None => return Some((size - rest.len()) as u64),
        }
    }
    None
}

/// PNG: chunks, the last of which may be missing as a whole.
fn chunks(bytes: &[u8]) -> Option<u64> {
    let mut rest = bytes.get(8..)?;
    while rest.len() >= 8 {
        let size = u64::from(u32::from_be_bytes(*rest.first_chunk()?)) + 12;
        if size > rest.len() as u64 {
            return Some(size - rest.len() as u64);
        }
        if rest[4..8] == *b"IEND" {
            return None;
        }
        rest = &rest[size as usize..];
    }
    None
}

/// GIF: whether the byte that closes it comes after its frames.
fn has_trailer(bytes: &[u8]) -> bool {
    let walk = || -> Option<()> {
        let table = |flags: u8| if flags & 0x80 == 0 { 0 } else { 6 << (flags & 7) };
        let mut rest = bytes.get(13 + table(*bytes.get(10)?)..)?;
        loop {
            let blocks = match *rest.first()? {
                0x3b => return Some(()),
                0x21 => rest.get(2..)?,
                0x2c => rest.get(11 + table(*rest.get(9)?)..)?,
                // Some writers fill up with zeros.
                0 => {
                    rest = &rest[1..];
                    continue;
                }
                // What follows is none of it.
                _ => return Some(()),
            };
            rest = blocks;
            loop {
                let size = usize::from(*rest.first()?);
                rest = rest.get(1 + size..)?;
                if size == 0 {
                    break;
                }
            }
        }
    };
    walk().is_some()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Every file that the decoders are tested with is whole, and cut anywhere in its last third it is not.
    #[test]
    fn whole_files_are_whole_and_cut_ones_are_not() {
        let media = Path::new(env!("CARGO_MANIFEST_DIR")).join("../modalities/tests/media");
        let mut seen = 0;
        for entry in std::fs::read_dir(media).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let bytes = std::fs::read(&path).unwrap();
            // These were cut off to be so.
            if ["truncated.mp4", "headless.mp4"].contains(&name.as_str()) {
                continue;
            }
            assert_eq!(cut_off(&bytes), None, "{name}");
            let is_told = ["mp4", "m4a", "mkv", "webm", "wav", "avi", "webp", "ogg", "opus", "gif"];
            if is_told.iter().any(|end| path.extension().is_some_and(|e| e == *end)) {
                seen += 1;
                let cut = |share: usize| cut_off(&bytes[..bytes.len() * share / 100]).is_some();
                let told = (67..95).filter(|share| cut(*share)).count();
                // Between two boxes or pages nothing tells.
                assert!(told >= 26, "{name}: {told} of 28 cuts are told");
            }
        }
        assert!(seen > 15, "{seen}");
    }

    #[test]
    fn streams_of_unknown_length_are_not_cut_off() {
        let wav = |size: u32| [b"RIFF".as_slice(), &size.to_le_bytes(), b"WAVEdata"].concat();
        assert_eq!(cut_off(&wav(u32::MAX)), None);
        assert_eq!(cut_off(&wav(0)), None);
        assert!(cut_off(&wav(5000)).is_some());
        let live =
            b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff\x15\x49\xa9\x66\x81\0";
        assert_eq!(cut_off(live), None);
        assert!(cut_off(&live[..live.len() - 1]).is_some());
    }
}
