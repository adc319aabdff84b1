//! From any kind of pixel to 8-bit RGB, as `PIL.Image.convert("RGB")` does it.

use image::{DynamicImage, ExtendedColorType, ImageFormat};

/// RGB bytes of a decoded image; `original` is how the file stores its pixels.
pub(super) fn to_rgb(
    image: DynamicImage,
    original: ExtendedColorType,
    format: ImageFormat,
) -> Result<Vec<u8>, String> {
    let linear = matches!(format, ImageFormat::OpenExr | ImageFormat::Hdr);
    let scaled = matches!(format, ImageFormat::Pnm | ImageFormat::Farbfeld);
    let wide = |value: u16| {
        if scaled { ((u32::from(value) + 128) / 257) as u8 } else { (value >> 8) as u8 }
    };
    Ok(match image {
        DynamicImage::ImageRgb8(image) => image.into_raw(),
        DynamicImage::ImageRgba8(image) => without_alpha(image.as_raw()),
        DynamicImage::ImageLuma8(image) => gray(image.as_raw().iter().copied()),
        DynamicImage::ImageLumaA8(image) => gray(image.as_raw().iter().copied().step_by(2)),
        // PIL keeps 16-bit gray as it is and clips it on the way to RGB; gray with alpha it reads as its high
        // bytes.
        DynamicImage::ImageLuma16(image) => gray(image.as_raw().iter().map(|v| (*v).min(255) as u8)),
        DynamicImage::ImageLumaA16(image) if original == ExtendedColorType::L16 => {
            gray(image.as_raw().iter().step_by(2).map(|v| (*v).min(255) as u8))
        }
        DynamicImage::ImageLumaA16(image) => gray(image.as_raw().iter().step_by(2).map(|v| wide(*v))),
        DynamicImage::ImageRgb16(image) => image.as_raw().iter().map(|v| wide(*v)).collect(),
        DynamicImage::ImageRgba16(image) => {
            let pixels = image.as_raw().chunks_exact(4);
            pixels.flat_map(|p| [wide(p[0]), wide(p[1]), wide(p[2])]).collect()
        }
        DynamicImage::ImageRgb32F(image) => image.as_raw().iter().map(|v| float(*v, linear)).collect(),
        DynamicImage::ImageRgba32F(image) => {
            let pixels = image.as_raw().chunks_exact(4);
            pixels.flat_map(|p| [float(p[0], linear), float(p[1], linear), float(p[2], linear)]).collect()
        }
        other => return Err(format!("pixels of kind {:?} are not supported", other.color())),
    })
}

fn without_alpha(rgba: &[u8]) -> Vec<u8> {
    rgba.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect()
}

/// Three equal channels.
pub(super) fn gray(values: impl Iterator<Item = u8>) -> Vec<u8> {
    values.flat_map(|value| [value; 3]).collect()
}

/// A float between 0 and 1 as a byte. Radiance and OpenEXR hold linear light, which is shown with the sRGB
/// curve (IEC 61966-2-1); PIL reads neither.
fn float(value: f32, linear: bool) -> u8 {
    let value = value.clamp(0.0, 1.0);
    let shown = match value {
        value if !linear => value,
        value if value <= 0.003_130_8 => 12.92 * value,
        value => 1.055 * value.powf(1.0 / 2.4) - 0.055,
    };
    // Not a number becomes 0, as the cast has it.
    (255.0 * shown + 0.5) as u8
}

/// RGB from four inks, by the integer rule of `cmyk2rgb` in Pillow's `Convert.c`. `ink` maps a stored byte to
/// an amount.
pub(super) fn cmyk(pixels: &[u8], ink: impl Fn(u8) -> u8) -> Vec<u8> {
    let mix = |colour: u8, light: i32| {
        let product = i32::from(colour) * light + 128;
        (light - (((product >> 8) + product) >> 8)).clamp(0, 255) as u8
    };
    pixels
        .chunks_exact(4)
        .flat_map(|p| {
            let light = 255 - i32::from(ink(p[3]));
            [mix(ink(p[0]), light), mix(ink(p[1]), light), mix(ink(p[2]), light)]
        })
        .collect()
}

/// RGB from luma and chroma over their whole ranges, by the tables of `ImagingConvertYCbCr2RGB` in Pillow's
/// `ConvertYCbCr.c`.
pub(super) fn from_ycbcr([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    // Weights in 64ths, with a half added before the fraction is dropped, whatever the sign.
    let (cb, cr) = (i32::from(cb) - 128, i32::from(cr) - 128);
    let part = |weight: f64, chroma: i32| (weight * 64.0 * f64::from(chroma) + 0.5) as i32;
    let clip = |value: i32| value.clamp(0, 255) as u8;
    let y = i32::from(y);
    [
        clip(y + (part(1.402, cr) >> 6)),
        clip(y + ((part(-0.344_14, cb) + part(-0.714_14, cr)) >> 6)),
        clip(y + (part(1.772, cb) >> 6)),
    ]
}
