//! What a file is by its content: an image, a video or audio, and which of them it can be read as.
//!
//! File names may be wrong or missing, so only [`of_extension`] uses them.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use ffmpeg_next::media::Type;

use crate::error::Result;
use crate::image;
use crate::libav::{Source, demux};

/// The three kinds of media.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Medium {
    Image,
    Video,
    Audio,
}

/// What a file is, and what it can be read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// What it is when nothing else is requested: a GIF is an image, a video file with audio a video.
    pub medium: Medium,
    /// The format's name: `JPEG`, `Matroska`.
    pub name: &'static str,
    /// It can be read as an image.
    pub image: bool,
    /// It can be read as a video: it is animated or has a stream of frames.
    pub video: bool,
    /// It can be read as audio: it has a stream of audio.
    pub audio: bool,
    /// Usual extensions of the format as an image, a video and audio; empty where it is none.
    extensions: [&'static str; 3],
}

impl Kind {
    /// Whether the file can be read as this medium.
    pub fn holds(&self, medium: Medium) -> bool {
        match medium {
            Medium::Image => self.image,
            Medium::Video => self.video,
            Medium::Audio => self.audio,
        }
    }

    /// The usual extension of the file, without a dot.
    pub fn extension(&self) -> &'static str {
        self.extension_as(self.medium)
    }

    /// The extension of the file where it is used as this medium, so that [`of_extension`] gives that medium
    /// back: MPEG-4 of which the audio is used is `m4a`. Formats without an extension for it (a GIF as a
    /// video, the audio of an AVI) are plainly `video` and `audio`.
    pub fn extension_as(&self, medium: Medium) -> &'static str {
        match self.extensions[medium as usize] {
            "" => self.extensions.into_iter().find(|extension| !extension.is_empty()).unwrap_or_default(),
            extension => extension,
        }
    }

    const fn image(name: &'static str, extension: &'static str, animated: bool) -> Self {
        let extensions = [extension, if animated { "video" } else { "" }, ""];
        Self { medium: Medium::Image, name, image: true, video: animated, audio: false, extensions }
    }
}

/// Formats that FFmpeg demuxes by the names of its demuxers: what they are called, and their extensions as a
/// video and as audio. The first word of the demuxer's list of names counts.
const CONTAINERS: &[(&str, &str, &str, &str)] = &[
    ("aac", "AAC", "", "aac"),
    ("ac3", "AC-3", "", "ac3"),
    ("aiff", "AIFF", "", "aiff"),
    ("amr", "AMR", "", "amr"),
    ("ape", "Monkey's Audio", "", "ape"),
    ("asf", "ASF", "wmv", "wma"),
    ("au", "AU", "", "au"),
    ("av1", "AV1", "obu", ""),
    ("avi", "AVI", "avi", "audio"),
    ("caf", "CAF", "", "caf"),
    ("dts", "DTS", "", "dts"),
    ("dv", "DV", "dv", "audio"),
    ("eac3", "E-AC-3", "", "eac3"),
    ("flac", "FLAC", "", "flac"),
    ("flv", "FLV", "flv", "audio"),
    ("h264", "H.264", "h264", ""),
    ("hevc", "HEVC", "hevc", ""),
    ("ivf", "IVF", "ivf", ""),
    ("m4v", "MPEG-4 video", "m4v", ""),
    ("matroska", "Matroska", "mkv", "mka"),
    ("mov", "MPEG-4", "mp4", "m4a"),
    ("mp3", "MP3", "", "mp3"),
    ("mpeg", "MPEG", "mpg", "audio"),
    ("mpegts", "MPEG-TS", "ts", "audio"),
    ("mpegvideo", "MPEG video", "m2v", ""),
    ("mxf", "MXF", "mxf", "audio"),
    ("nut", "NUT", "nut", "audio"),
    ("obu", "AV1", "obu", ""),
    ("ogg", "Ogg", "ogv", "ogg"),
    ("rm", "RealMedia", "rm", "ra"),
    ("tta", "True Audio", "", "tta"),
    ("voc", "Creative Voice", "", "voc"),
    ("w64", "Wave64", "", "w64"),
    ("wav", "WAV", "", "wav"),
    ("wv", "WavPack", "", "wv"),
    ("yuv4mpegpipe", "YUV4MPEG2", "y4m", ""),
];

/// Extensions and the medium that they are taken for where a file's content is not at hand. Every extension
/// that [`Kind::extension_as`] gives is among them.
const EXTENSIONS: [(&[&str], Medium); 3] = [
    (
        &[
            "jpg", "jpeg", "jpe", "jfif", "png", "apng", "webp", "gif", "bmp", "dib", "tif", "tiff", "avif",
            "heic", "heif", "ppm", "pgm", "pbm", "pnm", "pam", "qoi", "tga", "ico", "dds", "hdr", "exr",
            "ff",
        ],
        Medium::Image,
    ),
    (
        &[
            "mp4", "mkv", "webm", "mov", "avi", "m4v", "mpg", "mpeg", "ts", "m2ts", "mts", "m2v", "flv",
            "wmv", "asf", "ogv", "3gp", "3g2", "mj2", "mxf", "nut", "dv", "rm", "ivf", "obu", "h264", "264",
            "hevc", "265", "y4m", "video",
        ],
        Medium::Video,
    ),
    (
        &[
            "wav", "flac", "mp3", "ogg", "oga", "opus", "spx", "m4a", "m4b", "aac", "aiff", "aif", "aifc",
            "au", "snd", "caf", "w64", "wma", "mka", "weba", "amr", "ape", "ac3", "eac3", "dts", "tta",
            "voc", "wv", "ra", "audio",
        ],
        Medium::Audio,
    ),
];

/// The medium of files with this extension, in any case and without a dot; `None` for what is none.
pub fn of_extension(extension: &str) -> Option<Medium> {
    let extension = extension.to_ascii_lowercase();
    EXTENSIONS.iter().find(|(all, _)| all.contains(&extension.as_str())).map(|(_, medium)| *medium)
}

/// What a file in memory is; `None` when no decoder here reads it. The streams of a container are looked at,
/// not decoded: one that is damaged beyond that is taken for what its format usually is, so that its decoder
/// can say what is wrong.
pub fn of(bytes: &[u8]) -> Option<Kind> {
    let head = &bytes[..bytes.len().min(1 << 16)];
    image_of(head).or_else(|| {
        if is_text(head) { None } else { container_of(head, &Source::memory("file", Arc::from(bytes))) }
    })
}

/// [`of`] for a file on disk, of which only what is needed is read.
///
/// # Errors
/// When the file cannot be read.
pub fn of_file(path: &Path) -> Result<Option<Kind>> {
    let source = Source::file(path);
    let mut head = Vec::new();
    source
        .open()?
        .take(1 << 16)
        .read_to_end(&mut head)
        .map_err(|error| crate::Error::Read { what: path.display().to_string(), why: error.to_string() })?;
    Ok(image_of(&head).or_else(|| if is_text(&head) { None } else { container_of(&head, &source) }))
}

/// Whether a file begins like text, in which no container hides. YUV4MPEG2 has a first line of text.
fn is_text(head: &[u8]) -> bool {
    let start = &head[..head.len().min(256)];
    let plain = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | 0x20..) && *byte != 0x7f;
    !start.starts_with(b"YUV4MPEG2") && !start.starts_with(b"\xff") && start.iter().all(plain)
}

fn image_of(head: &[u8]) -> Option<Kind> {
    let animated = match head {
        [b'G', b'I', b'F', ..] => true,
        // The flags of an extended WebP, and the chunk that comes before the images of an animated PNG.
        [b'R', b'I', b'F', b'F', ..] => {
            head.get(12..16) == Some(b"VP8X") && head.get(20).is_some_and(|f| f & 2 > 0)
        }
        [0x89, b'P', ..] => head.windows(4).take_while(|word| word != b"IDAT").any(|word| word == b"acTL"),
        _ => image::is_heif_sequence(head),
    };
    let (name, extension) = image::format_name(head)?;
    Some(Kind::image(name, extension, animated))
}

/// What a file is that begins with `head` and is no image.
fn container_of(head: &[u8], source: &Source) -> Option<Kind> {
    let guess = by_mark(head);
    // WAVE holds audio alone. To look at its stream takes FFmpeg as long as to decode a short one: it searches the samples
    // for coded audio.
    if let Some((demuxer @ "wav", _)) = guess {
        return named(demuxer, head, false, true);
    }
    // FFmpeg's own measure of certainty: below a quarter of the scale it merely does not rule a format out.
    const SURE: i32 = 26;
    let Some(input) = demux(source).ok().filter(|input| guess.is_some() || input.probe_score() >= SURE)
    else {
        let (demuxer, medium) = guess?;
        return named(demuxer, head, medium == Medium::Video, medium == Medium::Audio);
    };
    let format = input.format();
    let demuxer = format.name().split(',').next().unwrap_or_default();
    let has = |kind| input.streams().any(|stream| stream.parameters().medium() == kind && !is_cover(&stream));
    named(demuxer, head, has(Type::Video), has(Type::Audio))
}

/// An image of an album beside its audio is no video.
fn is_cover(stream: &ffmpeg_next::Stream<'_>) -> bool {
    stream.disposition().contains(ffmpeg_next::format::stream::Disposition::ATTACHED_PIC)
}

/// A container by the name of its demuxer and its streams; `None` when it has neither or is not known here.
fn named(demuxer: &str, head: &[u8], video: bool, audio: bool) -> Option<Kind> {
    let (_, mut name, mut as_video, mut as_audio) = *CONTAINERS.iter().find(|row| row.0 == demuxer)?;
    let within =
        |word: &[u8], length: usize| head[..head.len().min(length)].windows(word.len()).any(|w| w == word);
    (name, as_video, as_audio) = match demuxer {
        "matroska" if within(b"webm", 64) => ("WebM", "webm", "weba"),
        "mov" if head.get(8..12) == Some(b"qt  ") => ("QuickTime", "mov", "m4a"),
        "mov" if head.get(8..11) == Some(b"3gp") => ("3GP", "3gp", "m4a"),
        "ogg" if within(b"OpusHead", 64) => ("Ogg Opus", "ogv", "opus"),
        _ => (name, as_video, as_audio),
    };
    if !video && !audio {
        return None;
    }
    let medium = if video { Medium::Video } else { Medium::Audio };
    let extensions = ["", if video { as_video } else { "" }, if audio { as_audio } else { "" }];
    Some(Kind { medium, name, image: false, video, audio, extensions })
}

/// The demuxer of a format that announces itself, and what it usually holds.
fn by_mark(head: &[u8]) -> Option<(&'static str, Medium)> {
    let is = |at: usize, mark: &[u8]| head.get(at..at + mark.len()) == Some(mark);
    Some(match head {
        _ if is(4, b"ftypM4A") || is(4, b"ftypM4B") => ("mov", Medium::Audio),
        _ if is(4, b"ftyp") || is(4, b"moov") => ("mov", Medium::Video),
        _ if is(0, b"\x1a\x45\xdf\xa3") => ("matroska", Medium::Video),
        _ if is(0, b"RIFF") && is(8, b"AVI ") => ("avi", Medium::Video),
        _ if is(0, b"FLV\x01") => ("flv", Medium::Video),
        _ if (is(0, b"RIFF") || is(0, b"RF64") || is(0, b"BW64") || is(0, b"RIFX")) && is(8, b"WAVE") => {
            ("wav", Medium::Audio)
        }
        _ if is(0, b"FORM") && (is(8, b"AIFF") || is(8, b"AIFC")) => ("aiff", Medium::Audio),
        _ if is(0, b"fLaC") => ("flac", Medium::Audio),
        _ if is(0, b"OggS") => ("ogg", Medium::Audio),
        _ if is(0, b"ID3") || is_mpeg_audio(head) => ("mp3", Medium::Audio),
        _ if is(0, b"caff") => ("caf", Medium::Audio),
        _ if is(0, b".snd") => ("au", Medium::Audio),
        _ if is(0, b"#!AMR") => ("amr", Medium::Audio),
        [0xff, second, ..] if second & 0xf6 == 0xf0 => ("aac", Medium::Audio),
        _ => return None,
    })
}

/// Whether a file begins with a frame of MPEG audio that ends where the next one begins, or with the file.
fn is_mpeg_audio(head: &[u8]) -> bool {
    mpeg_audio_frame(head).is_some_and(|length| match head.get(length..) {
        Some([]) => true,
        Some(next) => mpeg_audio_frame(next).is_some(),
        None => head.len() < 1 << 12,
    })
}

/// Bytes of a frame of MPEG audio by its header (ISO 11172-3, 13818-3, and 2.5 for low rates).
pub(crate) fn mpeg_audio_frame(bytes: &[u8]) -> Option<usize> {
    let &[0xff, b, c, ..] = bytes else { return None };
    let (version, layer, rate, padding) = (b >> 3 & 3, b >> 1 & 3, c >> 2 & 3, usize::from(c >> 1 & 1));
    if b & 0xe0 != 0xe0 || version == 1 || layer == 0 || rate == 3 {
        return None;
    }
    let index = usize::from(c >> 4);
    let first = version == 3;
    let kilobits: [usize; 16] = match (first, layer) {
        (true, 3) => [0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448, 0],
        (true, 2) => [0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 0],
        (true, _) => [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0],
        (false, 3) => [0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256, 0],
        (false, _) => [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0],
    };
    let bits = 1000 * kilobits[index];
    let hertz = [44_100, 48_000, 32_000][usize::from(rate)] >> [2, 0, 1, 0][usize::from(version)];
    match (bits, layer) {
        (0, _) => None,
        (_, 3) => Some(4 * (12 * bits / hertz + padding)),
        (_, 1) if !first => Some(72 * bits / hertz + padding),
        _ => Some(144 * bits / hertz + padding),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_extension_that_is_given_is_known() {
        for (demuxer, _, video, audio) in CONTAINERS {
            for (extension, medium) in [(video, Medium::Video), (audio, Medium::Audio)] {
                assert!(
                    extension.is_empty() || of_extension(extension) == Some(medium),
                    "{demuxer}: {extension}"
                );
            }
        }
        assert_eq!(of_extension("JFIF"), Some(Medium::Image));
        assert_eq!(of_extension("txt"), None);
    }

    #[test]
    fn a_frame_of_mpeg_audio_has_its_length() {
        // 128 kbit/s at 44.1 kHz: 417 bytes, 418 with padding; 64 kbit/s at 22.05 kHz: 208.
        assert_eq!(mpeg_audio_frame(&[0xff, 0xfb, 0x90, 0]), Some(417));
        assert_eq!(mpeg_audio_frame(&[0xff, 0xfb, 0x92, 0]), Some(418));
        assert_eq!(mpeg_audio_frame(&[0xff, 0xf3, 0x80, 0]), Some(208));
        assert_eq!(mpeg_audio_frame(&[0xff, 0xfb, 0xf0, 0]), None);
        assert_eq!(mpeg_audio_frame(b"\xff\xfe\0"), None);
    }
}
