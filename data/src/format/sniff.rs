//! What a medium is, by its first bytes.

use crate::sample::Kind;

/// The kind and usual extension of a medium.
pub(crate) fn sniff(bytes: &[u8]) -> Option<(Kind, &'static str)> {
    let is = |at: usize, mark: &[u8]| bytes.get(at..at + mark.len()) == Some(mark);
    let riff = |mark: &[u8]| is(0, b"RIFF") && is(8, mark);
    Some(match bytes {
        _ if is(0, b"\xff\xd8\xff") => (Kind::Image, "jpg"),
        _ if is(0, b"\x89PNG\r\n\x1a\n") => (Kind::Image, "png"),
        _ if riff(b"WEBP") => (Kind::Image, "webp"),
        _ if is(0, b"GIF8") => (Kind::Image, "gif"),
        _ if is(0, b"BM") => (Kind::Image, "bmp"),
        _ if is(0, b"II*\0") || is(0, b"MM\0*") => (Kind::Image, "tiff"),
        _ if is(0, b"qoif") => (Kind::Image, "qoi"),
        _ if is(4, b"ftypM4A") => (Kind::Audio, "m4a"),
        _ if is(4, b"ftypqt") => (Kind::Video, "mov"),
        _ if is(4, b"ftyp") => (Kind::Video, "mp4"),
        _ if is(0, b"\x1a\x45\xdf\xa3") => (Kind::Video, "mkv"),
        _ if riff(b"AVI ") => (Kind::Video, "avi"),
        _ if riff(b"WAVE") => (Kind::Audio, "wav"),
        _ if is(0, b"fLaC") => (Kind::Audio, "flac"),
        _ if is(0, b"OggS") => (Kind::Audio, "ogg"),
        _ if is(0, b"ID3") => (Kind::Audio, "mp3"),
        [0xff, second, ..] if second & 0xf6 == 0xf0 => (Kind::Audio, "aac"),
        [0xff, second, ..] if second & 0xe0 == 0xe0 => (Kind::Audio, "mp3"),
        _ => return None,
    })
}
