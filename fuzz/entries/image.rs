//! A picture of any format.

use percept_modalities::image::{Limits, decode};

/// Decodes, with a cap low enough to keep a run quick.
pub fn run(data: &[u8]) {
    if let Ok(image) = decode(data, &Limits { max_pixels: 1 << 20 }) {
        assert_eq!(image.rgb.len(), 3 * image.width * image.height);
        assert!(image.width * image.height <= 1 << 20);
    }
}
