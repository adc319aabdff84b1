//! Images, to the bit as PIL and transformers make them (`goldens/image.py`).

use percept_modalities::image::{
    Filter, Image, Normalize, center_crop, crop, normalize, pad, resize, resize_tensor,
};
use safetensors::SafeTensors;

const GOLDENS: &[u8] = include_bytes!("../fixtures/image.safetensors");

fn goldens() -> SafeTensors<'static> {
    SafeTensors::deserialize(GOLDENS).unwrap()
}

fn image(goldens: &SafeTensors, name: &str) -> Image {
    let tensor = goldens.tensor(name).unwrap();
    Image { width: tensor.shape()[1], height: tensor.shape()[0], rgb: tensor.data().to_vec() }
}

/// The goldens whose names begin with `what`, and the words that follow.
fn cases<'a>(goldens: &SafeTensors<'a>, what: &str) -> Vec<(String, Vec<String>)> {
    let mut names: Vec<_> = goldens.names().into_iter().filter(|name| name.starts_with(what)).collect();
    names.sort_unstable();
    assert!(!names.is_empty());
    names
        .iter()
        .map(|name| (name.to_string(), name.split(' ').skip(1).map(str::to_owned).collect()))
        .collect()
}

/// Every golden of one kind of resizing.
fn resizing(kind: &str, make: fn(&Image, usize, usize, Filter) -> percept_modalities::Result<Image>) {
    let goldens = goldens();
    for (name, words) in cases(&goldens, kind) {
        let filter = match words[1].as_str() {
            "nearest" => Filter::Nearest,
            "lanczos" => Filter::Lanczos,
            "bilinear" => Filter::Bilinear,
            "bicubic" => Filter::Bicubic,
            "box" => Filter::Box,
            _ => Filter::Hamming,
        };
        let source = image(&goldens, &format!("source {}", words[0]));
        let made = make(&source, words[2].parse().unwrap(), words[3].parse().unwrap(), filter).unwrap();
        assert!(made == image(&goldens, &name), "{name}");
    }
}

#[test]
fn resizing_is_pils_to_the_bit() {
    resizing("resize", resize);
}

#[test]
fn resizing_tensors_is_torchvisions_to_the_bit() {
    resizing("tensor", resize_tensor);
}

#[test]
fn windows_of_thousands_of_pixels_are_pils_too() {
    let goldens = goldens();
    let rgb = (0..3 * 20000u64).map(|i| (i * i % 251) as u8).collect();
    let strip = Image { width: 20000, height: 1, rgb };
    for (name, filter) in [("bicubic", Filter::Bicubic), ("lanczos", Filter::Lanczos)] {
        let made = resize(&strip, 3, 1, filter).unwrap();
        assert_eq!(made, image(&goldens, &format!("strip {name} 3 1")), "{name}");
    }
}

#[test]
fn center_cropping_cuts_and_pads_like_transformers() {
    let goldens = goldens();
    let noise = image(&goldens, "source noise");
    for (name, words) in cases(&goldens, "center_crop") {
        let made = center_crop(&noise, words[1].parse().unwrap(), words[2].parse().unwrap()).unwrap();
        assert!(made == image(&goldens, &name), "{name}");
    }
}

#[test]
fn normalizing_rounds_like_transformers() {
    let goldens = goldens();
    let noise = image(&goldens, "source noise");
    let settings = [
        (
            "clip",
            Normalize {
                rescale_factor: Some(1.0 / 255.0),
                mean: [0.48145466, 0.4578275, 0.40821073],
                std: [0.26862954, 0.26130258, 0.27577711],
            },
        ),
        ("half", Normalize { rescale_factor: Some(0.00392156862745098), mean: [0.5; 3], std: [0.5; 3] }),
        ("bytes", Normalize { rescale_factor: None, mean: [120.5, 110.0, 100.25], std: [60.0, 61.5, 57.0] }),
        ("rescale", Normalize::rescale_only(1.0 / 255.0)),
    ];
    for (name, settings) in settings {
        let tensor = goldens.tensor(&format!("normalize noise {name}")).unwrap();
        let expected = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        assert!(expected.eq(normalize(&noise, &settings)), "{name}");
    }
}

#[test]
fn a_crop_of_a_padded_image_is_the_image() {
    let goldens = goldens();
    let noise = image(&goldens, "source noise");
    let padded = pad(&noise, 2, 3, 4, 5, [9, 8, 7]).unwrap();
    assert_eq!((padded.width, padded.height), (noise.width + 6, noise.height + 8));
    assert_eq!(padded.rgb[..3], [9, 8, 7]);
    assert_eq!(crop(&padded, 2, 3, noise.width, noise.height).unwrap(), noise);
}

#[test]
fn sizes_that_no_image_has_are_refused() {
    let dot = Image::filled(1, 1, [0; 3]).unwrap();
    for (width, height) in [(0, 4), (4, 0), (usize::MAX, 2), (1 << 20, 1 << 20)] {
        assert!(resize(&dot, width, height, Filter::Bicubic).is_err());
        assert!(center_crop(&dot, width, height).is_err());
        assert!(crop(&dot, 0, 0, width, height).is_err());
    }
    assert!(crop(&dot, 1, 0, 1, 1).is_err());
    assert!(pad(&dot, usize::MAX, 0, 1, 0, [0; 3]).is_err());
}
