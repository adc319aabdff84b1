//! Files of every format and kind of pixel, held to what PIL reads from them (`goldens/decode.py`).

use std::path::Path;

use percept_modalities::image::{Limits, decode};
use safetensors::SafeTensors;

fn files() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/decode");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap())
        })
        .collect();
    files.sort_unstable();
    assert!(!files.is_empty());
    files
}

/// How far apart a decoder may be that rounds another way than PIL's: libavif and libheif compute colours in integers of few
/// bits.
fn tolerance(name: &str) -> u8 {
    match name {
        "dxt1.dds" | "dxt5.dds" | "jpeg.tiff" | "odd_maximum.ppm" => 1,
        name if name.ends_with(".avif") || name.ends_with(".heic") => 2,
        _ => 0,
    }
}

#[test]
fn every_format_is_read_as_pil_reads_it() {
    let goldens = SafeTensors::deserialize(include_bytes!("../fixtures/decode.safetensors")).unwrap();
    let mut wrong = Vec::new();
    for (name, bytes) in files() {
        let Ok(golden) = goldens.tensor(&name) else {
            // What PIL refuses.
            let error = decode(&bytes, &Limits::default()).err();
            if !error.is_some_and(|error| error.to_string().contains("not supported")) {
                wrong.push(format!("{name}: it is to be refused"));
            }
            continue;
        };
        match decode(&bytes, &Limits::default()) {
            Err(error) => wrong.push(format!("{name}: {error}")),
            Ok(image) if [image.height, image.width] != golden.shape()[..2] => {
                wrong.push(format!("{name}: {}x{} for {:?}", image.width, image.height, golden.shape()));
            }
            Ok(image) => {
                let difference = image.rgb.iter().zip(golden.data()).map(|(a, b)| a.abs_diff(*b));
                let (worst, count) =
                    difference.fold((0, 0), |(worst, count), d| (d.max(worst), count + usize::from(d > 0)));
                if worst > tolerance(&name) {
                    wrong.push(format!("{name}: {count} of {} differ, by up to {worst}", image.rgb.len()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn refusal(bytes: &[u8]) -> String {
    decode(bytes, &Limits::default()).unwrap_err().to_string()
}

#[test]
fn a_cut_off_file_is_refused() {
    for (name, bytes) in files() {
        let cut = &bytes[..bytes.len() / 3];
        assert!(decode(cut, &Limits::default()).is_err(), "{name}");
    }
    // Cut in the middle of the image, where libjpeg would only warn and fill up with gray.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/decode");
    let jpeg = std::fs::read(folder.join("baseline0.jpg")).unwrap();
    assert!(refusal(&jpeg[..jpeg.len() - 100]).contains("Premature end"));
}

#[test]
fn a_header_of_a_billion_pixels_is_refused_before_memory_is_taken() {
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x80\0\0\0\x80\0\x08\x02\0\0\0".to_vec();
    png.extend([0x4b, 0x1e, 0x34, 0x28]);
    png.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e");
    let mut bmp = b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\0\x80\0\0\0\x80\0\0\x01\0\x18\0".to_vec();
    bmp.resize(100, 0);
    let gif = b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x08\0\0;".to_vec();
    let qoi = b"qoif\0\0\x40\0\0\0\x40\0\x03\0".to_vec();
    let ppm = b"P6 32768 32768 255\n".to_vec();
    for bytes in [png, bmp, gif, qoi, ppm] {
        let message = refusal(&bytes);
        assert!(message.contains("too large"), "{message}");
    }
    let mut jpeg =
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/decode/baseline0.jpg"))
            .unwrap();
    let frame = jpeg.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff, 0xdc, 0xff, 0xdc]);
    assert!(refusal(&jpeg).contains("too large"));
}

/// A chunk of a PNG.
fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut sum = flate2::Crc::new();
    sum.update(kind);
    sum.update(data);
    [&(data.len() as u32).to_be_bytes(), &kind[..], data, &sum.sum().to_be_bytes()].concat()
}

/// Profiles and texts that inflate to eight gibibytes each, in a file of a few megabytes. Nobody needs them, so nobody
/// inflates them.
#[test]
fn what_is_compressed_beside_the_image_is_not_inflated() {
    // A mebibyte of zeros as blocks that end at a byte, over and over.
    let mut block = Vec::with_capacity(1 << 16);
    flate2::Compress::new(flate2::Compression::best(), false)
        .compress_vec(&vec![b'0'; 1 << 20], &mut block, flate2::FlushCompress::Full)
        .unwrap();
    let bomb = [&[0x78, 0xda], block.repeat(8192).as_slice()].concat();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let plain = std::fs::read(folder.join("fixtures/decode/rgb.png")).unwrap();
    let still = decode(&plain, &Limits::default()).unwrap();
    let notes = [
        chunk(b"iCCP", &[b"any\0\0", bomb.as_slice()].concat()),
        chunk(b"zTXt", &[b"Raw profile type exif\0\0", bomb.as_slice()].concat()),
        chunk(b"iTXt", &[b"XML:com.adobe.xmp\0\x01\0\0\0", bomb.as_slice()].concat()),
    ];
    let started = std::time::Instant::now();
    let with_notes = |png: &[u8]| [&png[..33], notes.concat().as_slice(), &png[33..]].concat();
    assert_eq!(decode(&with_notes(&plain), &Limits::default()).unwrap(), still);
    // The same in an animation, which FFmpeg reads.
    let animated = std::fs::read(folder.join("media/animated.png")).unwrap();
    let caps = percept_modalities::video::Limits::default();
    let all = percept_modalities::video::Sampling::All;
    let clip =
        percept_modalities::video::sample_bytes("it", with_notes(&animated).into(), &all, &caps).unwrap();
    assert_eq!(clip.frames.len(), 6);
    // Inflating them would take many times as long.
    assert!(started.elapsed().as_secs_f64() < 4.0, "{:?}", started.elapsed());
}

#[test]
fn what_is_no_image_is_refused() {
    assert!(refusal(b"").contains("no known format"));
    assert!(refusal(b"a letter to a friend").contains("no known format"));
}
