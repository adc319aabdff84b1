//! What a medium is: by its bytes, and by the extension of its name. Everything that asks what a file is asks here.

use crate::sample::Kind;

/// A format by the extension that it usually has, and the kinds of media that it holds, the likeliest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// Without a dot, in lower case.
    pub extension: &'static str,
    /// What the file can be taken for.
    pub kinds: &'static [Kind],
}

const IMAGE: &[Kind] = &[Kind::Image];
const VIDEO: &[Kind] = &[Kind::Video];
const AUDIO: &[Kind] = &[Kind::Audio];
const ANIMATION: &[Kind] = &[Kind::Image, Kind::Video];
const FILM: &[Kind] = &[Kind::Video, Kind::Audio];
const SOUND: &[Kind] = &[Kind::Audio, Kind::Video];

/// Extensions and what files of such a name may be, the likeliest first.
const EXTENSIONS: &[(&[&str], &[Kind])] = &[
    (
        &[
            "jpg", "jpeg", "jpe", "jfif", "jif", "bmp", "dib", "tif", "tiff", "avif", "ppm", "pgm", "pbm",
            "pnm", "pam", "qoi", "tga", "ico", "dds", "hdr", "exr", "ff",
        ],
        IMAGE,
    ),
    (&["png", "apng", "webp", "gif"], ANIMATION),
    (
        &[
            "mp4", "m4v", "f4v", "mkv", "webm", "mov", "qt", "avi", "mpg", "mpeg", "mpe", "vob", "m2ts",
            "mts", "mpegts", "ogv", "ogx", "flv", "wmv", "asf", "3gp", "3g2", "mxf", "nut", "rm", "rmvb",
            "dv",
        ],
        FILM,
    ),
    (
        &["m2v", "m1v", "ivf", "obu", "h264", "264", "h265", "265", "hevc", "y4m", "mjpeg", "mjpg", "mj2"],
        VIDEO,
    ),
    (&["ogg", "m4a", "m4b", "wma", "mka", "weba", "ra"], SOUND),
    (
        &[
            "wav", "wave", "w64", "flac", "mp3", "mp2", "oga", "opus", "spx", "aac", "ac3", "eac3", "amr",
            "aif", "aiff", "aifc", "au", "snd", "caf", "ape",
        ],
        AUDIO,
    ),
];

/// What a file with this extension, in any case, may be, the likeliest first; nothing for what is no medium.
pub(crate) fn kinds_of(extension: &str) -> &'static [Kind] {
    let extension = extension.to_ascii_lowercase();
    let found = EXTENSIONS.iter().find(|(names, _)| names.contains(&extension.as_str()));
    found.map_or(&[], |(_, kinds)| kinds)
}

/// The format that the first bytes of a file announce. Of a container that may hold pictures, sound or both, the kinds are
/// those of its streams where `bytes` reach far enough to tell.
pub(crate) fn sniff(bytes: &[u8]) -> Option<Found> {
    let is = |at: usize, mark: &[u8]| bytes.get(at..).is_some_and(|rest| rest.starts_with(mark));
    let of = |extension, kinds| Some(Found { extension, kinds });
    match bytes {
        _ if is(0, b"\xff\xd8\xff") => of("jpg", IMAGE),
        _ if is(0, b"\x89PNG\r\n\x1a\n") => of("png", if is_animated_png(bytes) { ANIMATION } else { IMAGE }),
        _ if is(0, b"GIF87a") || is(0, b"GIF89a") => of("gif", ANIMATION),
        // Of a WebP's first chunk the second bit says that it moves.
        _ if is(0, b"RIFF") && is(8, b"WEBP") => {
            let moves = is(12, b"VP8X") && bytes.get(20).is_some_and(|flags| flags & 2 != 0);
            of("webp", if moves { ANIMATION } else { IMAGE })
        }
        _ if is(0, b"RIFF") && is(8, b"AVI ") => of("avi", FILM),
        _ if (is(0, b"RIFF") || is(0, b"RF64") || is(0, b"BW64")) && is(8, b"WAVE") => of("wav", AUDIO),
        _ if is(0, b"BM") && matches!(number(bytes, 14), Some(12 | 16 | 40 | 52 | 56 | 64 | 108 | 124)) => {
            of("bmp", IMAGE)
        }
        _ if is(0, b"II*\0") || is(0, b"MM\0*") || is(0, b"II+\0") || is(0, b"MM\0+") => of("tiff", IMAGE),
        _ if is(0, b"qoif") => of("qoi", IMAGE),
        _ if is(0, b"DDS ") => of("dds", IMAGE),
        _ if is(0, b"\x76\x2f\x31\x01") => of("exr", IMAGE),
        _ if is(0, b"#?RADIANCE") || is(0, b"#?RGBE") => of("hdr", IMAGE),
        _ if is(0, b"farbfeld") => of("ff", IMAGE),
        [0, 0, 1, 0, count, 0, rest @ ..] if *count > 0 && rest.len() >= 16 * usize::from(*count) => {
            of("ico", IMAGE)
        }
        [b'P', b'1'..=b'6', b' ' | b'\t' | b'\r' | b'\n', b'0'..=b'9' | b'#', ..] => of("pnm", IMAGE),
        _ if is(0, b"P7\n") => of("pam", IMAGE),
        _ if is(4, b"ftyp") => mpeg4(bytes),
        [0, _, _, _, rest @ ..]
            if [b"moov", b"mdat", b"wide", b"pnot"].iter().any(|mark| rest.starts_with(*mark)) =>
        {
            of("mov", FILM)
        }
        _ if is(0, b"\x1a\x45\xdf\xa3") => Some(matroska(bytes)),
        _ if is(0, b"OggS") && has(bytes, b"\x80theora") => of("ogv", FILM),
        _ if is(0, b"OggS") => of("ogg", SOUND),
        _ if is(0, b"fLaC") => of("flac", AUDIO),
        _ if is(0, b"FLV\x01") => match bytes.get(4) {
            Some(4) => of("flv", AUDIO),
            _ => of("flv", FILM),
        },
        _ if is(0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11") => of("asf", FILM),
        _ if is(0, b".RMF") => of("rm", FILM),
        _ if is(0, b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02") => of("mxf", FILM),
        _ if is(0, b"nut/multimedia container\0") => of("nut", FILM),
        _ if is(0, b"DKIF") => of("ivf", VIDEO),
        _ if is(0, b"YUV4MPEG2 ") => of("y4m", VIDEO),
        _ if is(0, b"\0\0\x01\xba") => of("mpg", FILM),
        _ if is(0, b"\0\0\x01\xb3") => of("m2v", VIDEO),
        _ if (0..4).all(|packet| is(188 * packet, b"G")) => of("mpegts", FILM),
        _ if (0..4).all(|packet| is(192 * packet + 4, b"G")) => of("m2ts", FILM),
        _ if is(0, b"\0\0\0\x01\x40\x01") || is(0, b"\0\0\x01\x40\x01") => of("hevc", VIDEO),
        [0, 0, 0, 1, unit, ..] | [0, 0, 1, unit, ..] if unit & 0x9f == 7 => of("h264", VIDEO),
        _ if is(0, b"\x12\0\x0a") => of("obu", VIDEO),
        _ if is(0, b"\x1f\x07\0") => of("dv", FILM),
        _ if is(0, b"FORM") && (is(8, b"AIFF") || is(8, b"AIFC")) => of("aiff", AUDIO),
        _ if is(0, b".snd") => of("au", AUDIO),
        _ if is(0, b"caff\0") => of("caf", AUDIO),
        _ if is(0, b"riff\x2e\x91\xcf\x11") => of("w64", AUDIO),
        _ if is(0, b"#!AMR") => of("amr", AUDIO),
        _ if is(0, b"MAC ") => of("ape", AUDIO),
        [0x0b, 0x77, _, _, _, stream, ..] => of(if stream >> 3 > 10 { "eac3" } else { "ac3" }, AUDIO),
        [b'I', b'D', b'3', version, _, _, a, b, c, d, ..] if *version < 9 && (a | b | c | d) < 0x80 => {
            of(tagged(bytes), AUDIO)
        }
        [0xff, second, third, ..] if second & 0xf6 == 0xf0 && third >> 2 & 15 < 13 => of("aac", AUDIO),
        [0xff, second, third, ..]
            if second & 0xe0 == 0xe0
                && second & 0x18 != 8
                && second & 6 != 0
                && third >> 4 < 15
                && third >> 2 & 3 < 3 =>
        {
            of(if second & 6 == 4 { "mp2" } else { "mp3" }, AUDIO)
        }
        _ => None,
    }
}

/// What a file is called that is known and not read, such as a picture of a format without a decoder here.
pub(crate) fn unread(bytes: &[u8]) -> Option<&'static str> {
    let is = |at: usize, mark: &[u8]| bytes.get(at..).is_some_and(|rest| rest.starts_with(mark));
    Some(match bytes {
        _ if is(4, b"ftyp") && mpeg4(bytes).is_none() => "a HEIC picture",
        _ if is(0, b"\xff\x0a") || is(4, b"JXL ") => "a JPEG XL picture",
        _ if is(4, b"jP  \r\n\x87\n") || is(0, b"\xff\x4f\xff\x51") => "a JPEG 2000 picture",
        _ if is(0, b"8BPS") => "a Photoshop document",
        _ if is(0, b"%PDF") => "a PDF document",
        _ if is(0, b"<svg") || is(0, b"<?xml") => "XML, perhaps an SVG picture",
        _ if is(0, b"<!DOCTYPE") || is(0, b"<html") => "a web page",
        _ => packed(bytes)?,
    })
}

/// What a file is packed with.
pub(crate) fn packed(bytes: &[u8]) -> Option<&'static str> {
    let is = |mark: &[u8]| bytes.starts_with(mark);
    Some(match bytes {
        _ if is(b"\x1f\x8b") => "gzip",
        _ if is(b"\x28\xb5\x2f\xfd") => "zstd",
        _ if is(b"\xfd7zXZ\0") => "xz",
        _ if is(b"BZh") && bytes.get(4..10) == Some(b"1AY&SY") => "bzip2",
        _ if is(b"\x04\x22\x4d\x18") => "lz4",
        _ if is(b"PK\x03\x04") => "zip",
        _ if is(b"7z\xbc\xaf\x27\x1c") => "7z",
        _ if is(b"Rar!") => "rar",
        _ => return None,
    })
}

/// Four bytes, the least first.
fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Whether a mark is within the first bytes.
fn has(bytes: &[u8], mark: &[u8]) -> bool {
    bytes[..bytes.len().min(1 << 12)].windows(mark.len()).any(|window| window == mark)
}

/// What follows a tag at the beginning of a sound.
fn tagged(bytes: &[u8]) -> &'static str {
    let length = bytes[6..10].iter().fold(0, |length, byte| length << 7 | usize::from(*byte));
    match bytes.get(10 + length..) {
        Some([b'f', b'L', b'a', b'C', ..]) => "flac",
        Some([0xff, second, ..]) if second & 0xf6 == 0xf0 => "aac",
        _ => "mp3",
    }
}

/// Whether a picture says before its pixels that it has frames.
fn is_animated_png(bytes: &[u8]) -> bool {
    let mut rest = bytes.get(8..).unwrap_or_default();
    while let (Some(length), Some(name)) = (rest.first_chunk::<4>(), rest.get(4..8)) {
        match name {
            b"acTL" => return true,
            b"IDAT" | b"IEND" => return false,
            _ => {}
        }
        let next = (u32::from_be_bytes(*length) as usize).saturating_add(12);
        rest = rest.get(next..).unwrap_or_default();
    }
    false
}

/// A file of boxes: by its brands, and by its tracks. `None` for a picture that is not read.
fn mpeg4(bytes: &[u8]) -> Option<Found> {
    let of = |extension, kinds| Some(Found { extension, kinds });
    let brand = bytes.get(8..12)?;
    let length = u32::from_be_bytes(*bytes.first_chunk()?) as usize;
    let compatible = bytes.get(16..length.min(bytes.len())).unwrap_or_default();
    let brands = || compatible.chunks_exact(4).chain([brand]);
    if brands().any(|brand| matches!(brand, b"avif" | b"avis")) {
        return of("avif", IMAGE);
    }
    if matches!(brand, b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"mif1" | b"msf1") {
        return None;
    }
    let (mut pictures, mut sound) = (false, false);
    for track in boxes(bytes).filter(|(name, _)| name == b"moov").flat_map(|(_, moov)| boxes(moov)) {
        let media = boxes(track.1).filter(|(name, _)| track.0 == *b"trak" && name == b"mdia");
        for (name, handler) in media.flat_map(|(_, media)| boxes(media)) {
            pictures |= &name == b"hdlr" && handler.get(8..12) == Some(b"vide");
            sound |= &name == b"hdlr" && handler.get(8..12) == Some(b"soun");
        }
    }
    match (pictures, sound) {
        (false, true) => of("m4a", AUDIO),
        (true, false) => of(if brand == b"qt  " { "mov" } else { "mp4" }, VIDEO),
        _ if matches!(brand, b"M4A " | b"M4B ") => of("m4a", SOUND),
        _ => of(if brand == b"qt  " { "mov" } else { "mp4" }, FILM),
    }
}

/// The boxes that some bytes are made of: their names and what is in them, as far as they are there.
fn boxes(bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let short = u32::from_be_bytes(*rest.first_chunk()?) as usize;
        let name: [u8; 4] = *rest.get(4..)?.first_chunk()?;
        let (head, length) = match short {
            0 => (8, rest.len()),
            1 => (16, usize::try_from(u64::from_be_bytes(*rest.get(8..)?.first_chunk()?)).ok()?),
            length => (8, length),
        };
        let body = rest.get(head..length.min(rest.len()))?;
        rest = rest.get(length..).unwrap_or_default();
        Some((name, body))
    })
}

/// Matroska and WebM differ in a name that comes soon, and say of each track what it is.
fn matroska(bytes: &[u8]) -> Found {
    let is_webm = has(bytes, b"webm");
    let head = &bytes[..bytes.len().min(1 << 16)];
    let has = |track: &[u8]| head.windows(track.len()).any(|window| window == track);
    let (pictures, sound) = (has(b"\x83\x81\x01"), has(b"\x83\x81\x02"));
    match (is_webm, !pictures && sound) {
        (true, true) => Found { extension: "weba", kinds: AUDIO },
        (false, true) => Found { extension: "mka", kinds: AUDIO },
        (true, false) => Found { extension: "webm", kinds: FILM },
        (false, false) => Found { extension: "mkv", kinds: FILM },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_extension_that_bytes_announce_is_one_that_names_know() {
        let table: &[(&[u8], &str)] = &[
            (b"\xff\xd8\xff\xe0", "jpg"),
            (b"GIF89a", "gif"),
            (b"II+\0\x08\0", "tiff"),
            (b"MM\0*", "tiff"),
            (b"P5\n640 480\n255\n", "pnm"),
            (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", "avif"),
            (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", "avif"),
            (b"\0\0\0\x18ftypisom\0\0\0\0isom", "mp4"),
            (b"\0\0\0\x14ftypqt  \0\0\0\0", "mov"),
            (b"\0\0\0\x14ftypM4A \0\0\0\0", "m4a"),
            (b"\x1a\x45\xdf\xa3\x42\x82\x84webm\x83\x81\x02", "weba"),
            (b"\x1a\x45\xdf\xa3\x42\x82\x88matroska\x83\x81\x01\x83\x81\x02", "mkv"),
            (b"OggS\0\0", "ogg"),
            (b"FORM\0\0\0\0AIFC", "aiff"),
            (b"RF64\xff\xff\xff\xffWAVE", "wav"),
            (b"ID3\x04\0\0\0\0\0\0fLaC", "flac"),
            (b"ID3\x04\0\0\0\0\0\0\xff\xfb\x90", "mp3"),
            (b"\xff\xf3\x40\xc4", "mp3"),
            (b"\xff\xf1\x50\x80", "aac"),
            (b"\x0b\x77\0\0\0\x40", "ac3"),
            (b"#!AMR\n", "amr"),
            (b"\0\0\0\x01\x67\x42", "h264"),
            (b"\0\0\0\x01\x40\x01\x0c", "hevc"),
            (b"FLV\x01\x05", "flv"),
        ];
        for (bytes, extension) in table {
            let found = sniff(bytes).unwrap_or_else(|| panic!("{extension} is not known"));
            assert_eq!(found.extension, *extension);
            let known = kinds_of(found.extension);
            assert!(found.kinds.iter().all(|kind| known.contains(kind)), "{extension}");
        }
    }

    #[test]
    fn texts_are_no_media() {
        for text in ["BMW", "P1", "P2 has no number", "ID3 tags", "GIF8", "RIFF raff", "MACHINE", "{}", ""] {
            assert_eq!(sniff(text.as_bytes()), None, "{text}");
        }
        assert_eq!(unread(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"), Some("a HEIC picture"));
        assert_eq!(packed(b"\x28\xb5\x2f\xfd"), Some("zstd"));
    }
}
