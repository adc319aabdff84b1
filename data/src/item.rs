//! A sample on its way through the stages.

use std::sync::Arc;

use percept_modalities::image::{self, Image, Limits};

use crate::reject::Reject;
use crate::sample::{Kind, Sample};

/// Pixels of the shorter side that a reduced image keeps: four times what a perceptual hash reads.
const REDUCED_SIDE: usize = 128;

/// A sample on its way through the stages of a recipe, with its images once they are decoded.
#[derive(Debug)]
pub struct Item {
    /// Its index in the order of reading, from 0.
    pub ordinal: u64,
    /// The sample.
    pub sample: Sample,
    /// The split it belongs to, once a stage has set it.
    pub split: Option<Arc<str>>,
    /// What the parallel part of a stage leaves for the part that handles samples one by one.
    pub prints: Vec<u64>,
    max_pixels: usize,
    whole: bool,
    images: Vec<Option<DecodedImage>>,
}

/// A decoded image, upright.
#[derive(Debug, Clone)]
pub struct DecodedImage {
    /// Its pixels, of a JPEG perhaps at a fraction of its size.
    pub pixels: Arc<Image>,
    /// Width in pixels of the whole image.
    pub width: usize,
    /// Height in pixels of the whole image.
    pub height: usize,
}

impl DecodedImage {
    fn is_whole(&self) -> bool {
        (self.width, self.height) == (self.pixels.width, self.pixels.height)
    }
}

impl Item {
    /// A sample as it was read. Images of more than `max_pixels` are refused; they are decoded `whole` from
    /// the start where a later stage needs them so.
    pub fn new(ordinal: u64, sample: Sample, max_pixels: usize, whole: bool) -> Self {
        Self { ordinal, sample, split: None, prints: Vec::new(), max_pixels, whole, images: Vec::new() }
    }

    /// The indices of the images among the media.
    pub fn image_indices(&self) -> Vec<usize> {
        let is_image = |at: &usize| self.sample.media[*at].kind == Kind::Image;
        (0..self.sample.media.len()).filter(is_image).collect()
    }

    /// The image at an index of the media, decoded once and kept. It may be reduced.
    ///
    /// # Errors
    /// When it is damaged or larger than its cap.
    pub fn image(&mut self, at: usize) -> Result<&DecodedImage, Reject> {
        let whole = self.whole;
        self.decoded(at, whole)
    }

    /// The image at an index of the media with all its pixels.
    ///
    /// # Errors
    /// When it is damaged or larger than its cap.
    pub fn whole_image(&mut self, at: usize) -> Result<&DecodedImage, Reject> {
        self.decoded(at, true)
    }

    fn decoded(&mut self, at: usize, whole: bool) -> Result<&DecodedImage, Reject> {
        self.images.resize(self.sample.media.len(), None);
        let kept = self.images[at].take().filter(|image| !whole || image.is_whole());
        let image = match kept {
            Some(image) => image,
            None => {
                let limits = Limits { max_pixels: self.max_pixels };
                let side = if whole { usize::MAX } else { REDUCED_SIDE };
                let bytes = &self.sample.media[at].bytes;
                let reduced =
                    image::decode_reduced(bytes, &limits, side).map_err(|e| Reject::medium(at, &e))?;
                DecodedImage { width: reduced.width, height: reduced.height, pixels: Arc::new(reduced.image) }
            }
        };
        Ok(self.images[at].insert(image))
    }

    /// Replace the bytes of a medium. Its pixels are decoded again when they are requested, as a reader will
    /// see them.
    pub fn replace_bytes(&mut self, at: usize, extension: &str, bytes: Vec<u8>) {
        if let Some(image) = self.images.get_mut(at) {
            *image = None;
        }
        let medium = &mut self.sample.media[at];
        medium.extension = extension.to_owned();
        medium.bytes = bytes.into();
    }

    /// Bytes of the decoded images.
    pub(crate) fn decoded_bytes(&self) -> usize {
        self.images.iter().flatten().map(|image| image.pixels.rgb.len()).sum()
    }

    /// Free the decoded images; they are decoded again when they are needed.
    pub(crate) fn forget_images(&mut self) {
        self.images = Vec::new();
    }
}
