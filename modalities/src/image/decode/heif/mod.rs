//! AVIF and HEIC: an image as one frame of a video, or several put together, in the boxes of HEIF.
//!
//! PIL's rule for AVIF is libavif's: chroma is interpolated, colours are converted by the matrix that the
//! file names, and the file's turns and mirrors decide the orientation, whatever EXIF says. HEIC, which
//! PIL reads with a plugin only, follows libheif, which that plugin uses.

mod boxes;
mod colours;

use ffmpeg_next::codec::{self, Id, threading};
use ffmpeg_next::{Dictionary, Packet, frame};

use boxes::{Container, Item, Property, grid, hevc_parameters, hevc_units};
use colours::{Meaning, Planes};

use super::{Limits, upright};
use crate::error::{Error, Result};
use crate::image::{Image, crop};
use crate::libav::silence;

const START_CODE: &[u8] = &[0, 0, 0, 1];

/// Brands of files whose first image is a still one, and of those that hold a sequence too.
const STILL: [&[u8; 4]; 7] = [b"avif", b"heic", b"heix", b"heim", b"heis", b"mif1", b"mif2"];
const SEQUENCE: [&[u8; 4]; 4] = [b"avis", b"hevc", b"hevx", b"msf1"];

/// What a file's brand says: the format's name and usual extension, and whether it is animated.
pub(super) fn brand(head: &[u8]) -> Option<(&'static str, &'static str, bool)> {
    if head.get(4..8)? != b"ftyp" {
        return None;
    }
    let major = head.get(8..12)?;
    let size = u32::from_be_bytes(head.first_chunk().copied()?) as usize;
    let compatible = head.get(16..size.clamp(16, 512).min(head.len())).unwrap_or_default();
    let has = |brand: &[u8; 4]| major == brand || compatible.chunks_exact(4).any(|other| other == brand);
    let sequence = SEQUENCE.iter().any(|brand| major == *brand);
    if !sequence && !STILL.iter().any(|brand| major == *brand) {
        return None;
    }
    Some(match has(b"avif") || has(b"avis") {
        true => ("AVIF", "avif", sequence),
        false => ("HEIC", "heic", sequence),
    })
}

pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<Image> {
    let what = brand(bytes).map_or("HEIF", |(name, ..)| name);
    HeifImage { what: format!("{what} image"), bytes, limits }.decode()
}

struct HeifImage<'a> {
    what: String,
    bytes: &'a [u8],
    limits: &'a Limits,
}

impl HeifImage<'_> {
    fn damaged(&self, why: impl Into<String>) -> Error {
        Error::Decode { what: self.what.clone(), why: why.into() }
    }

    fn decode(&self) -> Result<Image> {
        let container = Container::read(self.bytes)
            .ok_or_else(|| self.damaged("its list of images (`meta`) is cut off"))?;
        let item = container.items.get(&container.primary);
        let item = item.ok_or_else(|| self.damaged("it does not say which image is its first"))?;
        if !container.references(b"prem", container.primary).is_empty() {
            return Err(self.damaged("its colours are multiplied by its alpha; save it without transparency"));
        }
        let (planes, smooth) = match &item.kind {
            b"grid" => self.grid(&container, item)?,
            _ => self.coded(&container, item)?,
        };
        let said = meaning(&container, item);
        let mut image = planes.to_rgb(said, smooth).map_err(|why| self.damaged(why))?;
        for property in container.properties(item) {
            image = match property {
                Property::Turn(quarters) => upright(image, [1, 8, 3, 6][usize::from(*quarters)]),
                Property::Mirror(axis) => upright(image, [4, 2][usize::from(*axis)]),
                // libavif leaves the parts that are not to be shown in place.
                Property::Crop(part) if self.what.starts_with("HEIC") => self.crop(&image, part)?,
                _ => image,
            };
        }
        Ok(image)
    }

    /// The part of an image that is to be shown: its width and height, and how far its middle is from the
    /// whole's.
    fn crop(&self, image: &Image, part: &[(i32, i32); 4]) -> Result<Image> {
        let strange =
            || self.damaged("the part of it that is to be shown (`clap`) lies between its pixels or outside");
        let number = |(over, under): (i32, i32)| f64::from(over) / f64::from(under);
        let [width, height, right, down] = part.map(number);
        let left = (image.width as f64 - width) / 2.0 + right;
        let top = (image.height as f64 - height) / 2.0 + down;
        let whole = |value: f64| (value >= 0.0 && value.fract() == 0.0).then_some(value as usize);
        let [left, top, width, height] =
            [left, top, width, height].map(whole).map(|value| value.ok_or_else(strange));
        crop(image, left?, top?, width?, height?).map_err(|_| strange())
    }

    /// An image that others are put together to, row by row. What reaches over the edge is cut off.
    fn grid(&self, container: &Container, item: &Item) -> Result<(Planes, bool)> {
        let data = container.data(self.bytes, item).and_then(|data| grid(&data));
        let (rows, columns, width, height) = data.ok_or_else(|| self.damaged("its grid is cut off"))?;
        self.limits.check(&self.what, width, height)?;
        let tiles = container.references(b"dimg", container.primary);
        if tiles.len() != rows * columns {
            let why = format!("its grid of {rows} x {columns} has {} images", tiles.len());
            return Err(self.damaged(why));
        }
        let mut out: Option<(Planes, bool)> = None;
        let mut edge = None;
        for (i, id) in tiles.iter().enumerate() {
            let tile =
                container.items.get(id).ok_or_else(|| self.damaged("an image of its grid is missing"))?;
            let size = self.size(container, tile)?;
            let (w, h) = *edge.get_or_insert(size);
            let covers = |one: usize, count: usize, all: usize| one * count >= all && one * (count - 1) < all;
            if size != (w, h) || !covers(w, columns, width) || !covers(h, rows, height) {
                return Err(self.damaged("the images of its grid do not cover it"));
            }
            let (part, smooth) = self.coded(container, tile)?;
            let (whole, _) = out.get_or_insert_with(|| (part.like(width, height), smooth));
            if !whole.put(&part, i % columns * w, i / columns * h) {
                return Err(self.damaged("the images of its grid do not fit together"));
            }
        }
        out.ok_or_else(|| self.damaged("its grid is empty"))
    }

    fn size(&self, container: &Container, item: &Item) -> Result<(usize, usize)> {
        let size = container.properties(item).find_map(|property| match property {
            Property::Size(width, height) => Some((*width, *height)),
            _ => None,
        });
        let (width, height) = size.ok_or_else(|| self.damaged("it does not say how large it is (`ispe`)"))?;
        self.limits.check(&self.what, width, height)?;
        Ok((width, height))
    }

    /// An image that is a frame of video, and whether its chroma is to be interpolated.
    fn coded(&self, container: &Container, item: &Item) -> Result<(Planes, bool)> {
        let (width, height) = self.size(container, item)?;
        let data = container.data(self.bytes, item).ok_or_else(|| self.damaged("its data is cut off"))?;
        let (id, data) = match &item.kind {
            b"av01" => (Id::AV1, data),
            b"hvc1" | b"hev1" => (Id::HEVC, self.annex_b(container, item, &data)?),
            other => {
                let why = format!("its image is of kind `{}`, which is not supported", other.escape_ascii());
                return Err(self.damaged(why));
            }
        };
        // What is coded is a few pixels larger than what is shown.
        let frame = self.frame(id, &data, (width + 64) * (height + 64))?;
        if (frame.width() as usize, frame.height() as usize) != (width, height) {
            let why = format!("it says {width}x{height} and holds {}x{}", frame.width(), frame.height());
            return Err(self.damaged(why));
        }
        let planes = Planes::of(&frame, meaning(container, item)).map_err(|why| self.damaged(why))?;
        Ok((planes, id == Id::AV1))
    }

    /// HEVC with start codes, its parameter sets in front.
    fn annex_b(&self, container: &Container, item: &Item, data: &[u8]) -> Result<Vec<u8>> {
        let configuration = container.properties(item).find_map(|property| match property {
            Property::Hevc(configuration) => Some(configuration),
            _ => None,
        });
        let parameters = configuration.and_then(|configuration| hevc_parameters(configuration));
        let (mut units, width) =
            parameters.ok_or_else(|| self.damaged("its decoder's settings are cut off"))?;
        units.extend(hevc_units(data, width).ok_or_else(|| self.damaged("its data is cut off"))?);
        Ok(units.into_iter().flat_map(|unit| [START_CODE, unit]).flatten().copied().collect())
    }

    fn frame(&self, id: Id, data: &[u8], pixels: usize) -> Result<frame::Video> {
        silence();
        let fault = |fault: ffmpeg_next::Error| self.damaged(format!("its image does not decode: {fault}"));
        let codec = codec::decoder::find(id)
            .ok_or_else(|| self.damaged(format!("this build of FFmpeg does not decode {}", id.name())))?;
        let mut context = codec::Context::new_with_codec(codec);
        // Threads would only wait for frames that do not come.
        context.set_threading(threading::Config::count(1));
        let most = pixels.max(1).min(i32::MAX as usize).to_string();
        let options = Dictionary::from_iter([("max_pixels", most.as_str())]);
        let mut decoder = context.decoder().open_as_with(codec, options).map_err(fault)?;
        decoder.send_packet(&Packet::copy(data)).map_err(fault)?;
        decoder.send_eof().map_err(fault)?;
        let mut frame = frame::Video::empty();
        decoder.receive_frame(&mut frame).map_err(fault)?;
        if frame.is_corrupt() || frame.has_decode_errors() {
            return Err(self.damaged("a part of its image does not decode"));
        }
        Ok(frame)
    }
}

/// What the file says of an item's colours.
fn meaning(container: &Container, item: &Item) -> Option<Meaning> {
    container.properties(item).find_map(|property| match property {
        Property::Colours { matrix, full } => Some((*matrix, *full)),
        _ => None,
    })
}
