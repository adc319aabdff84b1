//! JPEG through libjpeg-turbo, which PIL uses: other decoders differ from it in up to several steps where
//! colour is subsampled, for they interpolate and round otherwise.

use turbojpeg::{Colorspace, Decompressor, PixelFormat, ScalingFactor};

use super::Limits;
use super::pixels::cmyk;
use crate::error::{Error, Result};
use crate::image::Image;

/// Scans of one progressive image; each costs a pass over it, and encoders write about ten.
const MAX_SCANS: u32 = 100;

pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<Image> {
    scaled(bytes, limits, usize::MAX).map(|(image, _)| image)
}

/// The image at an eighth, a quarter, half or all of its size, the smallest whose shorter side has `side`
/// pixels, and its whole width and height. All of its coefficients are read whatever the scale, so damage
/// shows alike; what is saved is the arithmetic behind them.
pub(super) fn scaled(bytes: &[u8], limits: &Limits, side: usize) -> Result<(Image, (usize, usize))> {
    let what = "JPEG image";
    let fault = |error: turbojpeg::Error| Error::Decode { what: what.into(), why: error.to_string() };
    let mut decoder = Decompressor::new().map_err(fault)?;
    decoder.set_scan_limit(MAX_SCANS).map_err(fault)?;
    let header = decoder.read_header(bytes).map_err(fault)?;
    let whole = (header.width, header.height);
    limits.check(what, whole.0, whole.1)?;
    let scales = [ScalingFactor::ONE_EIGHTH, ScalingFactor::ONE_QUARTER, ScalingFactor::ONE_HALF];
    let enough = |scale: &ScalingFactor| scale.scale(whole.0.min(whole.1)) >= side;
    let scale = scales.into_iter().find(enough).filter(|_| !header.is_lossless).unwrap_or(ScalingFactor::ONE);
    decoder.set_scaling_factor(scale).map_err(fault)?;
    let (width, height) = (scale.scale(whole.0), scale.scale(whole.1));
    let format = match header.colorspace {
        Colorspace::CMYK | Colorspace::YCCK => PixelFormat::CMYK,
        _ => PixelFormat::RGB,
    };
    let pitch = width * format.size();
    let mut pixels = vec![0; pitch * height];
    let output = turbojpeg::Image { pixels: pixels.as_mut_slice(), width, pitch, height, format };
    match decoder.decompress(bytes, output) {
        Err(error) if !is_harmless(&error) => return Err(fault(error)),
        _ => {}
    }
    let rgb = match format {
        // Adobe writes the inks inverted, and PIL takes every file for Adobe's.
        PixelFormat::CMYK => cmyk(&pixels, |ink| 255 - ink),
        _ => pixels,
    };
    Ok((Image { width, height, rgb }, whole))
}

/// Whether libjpeg finished the image and only warns, as of bytes between its parts. PIL ignores these. A
/// file that is cut off also ends in a warning, but PIL refuses it.
fn is_harmless(error: &turbojpeg::Error) -> bool {
    const WARNINGS: [&str; 5] = [
        "Corrupt JPEG data",
        "Inconsistent progression sequence",
        "Invalid SOS parameters for sequential JPEG",
        "Unknown Adobe color transform code",
        "Warning: unknown JFIF revision number",
    ];
    let turbojpeg::Error::TurboJpegError(message) = error else { return false };
    WARNINGS.iter().any(|warning| message.starts_with(warning))
}
