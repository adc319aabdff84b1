//! What a medium is by its bytes, and what is known and not read. Everything in this crate that asks what a
//! file is asks here; what decoders read is known where they are, in [`percept_modalities::kind`].

use percept_modalities::kind::{self, Medium};

use crate::sample::Kind;

/// What a file is, and the kinds of media that it can be taken for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found(kind::Kind);

impl Found {
    /// What it is where nothing else is requested.
    pub fn kind(&self) -> Kind {
        self.0.medium.into()
    }

    /// What its format is called.
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// Whether it can be taken for this kind.
    pub fn holds(&self, kind: Kind) -> bool {
        self.0.holds(kind.into())
    }

    /// The extension that it has as this kind: the audio of a video is no `mp4`, but `m4a`.
    pub fn extension_as(&self, kind: Kind) -> &'static str {
        self.0.extension_as(kind.into())
    }
}

impl From<Medium> for Kind {
    fn from(medium: Medium) -> Self {
        match medium {
            Medium::Image => Self::Image,
            Medium::Video => Self::Video,
            Medium::Audio => Self::Audio,
        }
    }
}

impl From<Kind> for Medium {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Image => Self::Image,
            Kind::Video => Self::Video,
            Kind::Audio => Self::Audio,
        }
    }
}

/// What a file is that these bytes are, or begin. Of a container of which only the beginning is there the
/// format is known, and not what is in it.
pub(crate) fn sniff(bytes: &[u8]) -> Option<Found> {
    kind::of(bytes).map(Found)
}

/// What a pointer begins with that Git LFS leaves in the place of a large file.
pub(crate) const LFS: &[u8] = b"version https://git-lfs.github.com/spec/";

/// What a file is called that is known and not read.
pub(crate) fn unread(bytes: &[u8]) -> Option<&'static str> {
    let is = |at: usize, mark: &[u8]| bytes.get(at..).is_some_and(|rest| rest.starts_with(mark));
    Some(match bytes {
        [] => "an empty file",
        _ if is(0, LFS) => "a pointer of Git LFS to a file that is not here (`git lfs pull` fetches it)",
        _ if is(128, b"DICM") => "a DICOM image",
        _ if is(344, b"n+1\0") => "a NIfTI image",
        _ if is(0, b"\x89HDF\r\n") => "an HDF5 file",
        _ if is(0, b"\x93NUMPY") => "a NumPy array",
        _ if is(0, b"ARROW1") => "Apache Arrow (write it as Parquet)",
        _ if is(0, b"%!PS") => "a PostScript document",
        _ if is(0, b"\x00\x05\x16\x07") => "what macOS keeps beside a file",
        _ if is(0, b"\xff\x0a") || is(4, b"JXL ") => "a JPEG XL image",
        _ if is(4, b"jP  \r\n\x87\n") || is(0, b"\xff\x4f\xff\x51") => "a JPEG 2000 image",
        _ if is(0, b"8BPS") => "a Photoshop document",
        _ if is(0, b"%PDF") => "a PDF document",
        _ if is(0, b"<svg") || is(0, b"<?xml") => "XML, perhaps an SVG image",
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
