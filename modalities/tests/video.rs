//! Clips decoded by FFmpeg's command line and by PIL, and what is decoded here. `tests/media/make_media.py` made both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use percept_modalities::image::Image;
use percept_modalities::video::{Limits, Quota, Sampling, frames, probe, sample, sample_bytes};
use serde::Deserialize;

fn media(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/media").join(name)
}

#[derive(Deserialize)]
struct Golden {
    width: usize,
    height: usize,
    fps: f64,
    hashes: Vec<String>,
    quarters: Vec<Vec<f64>>,
}

impl Golden {
    /// Byte for byte where swscale is the one that made the table (FFmpeg 5, x86-64); elsewhere to a step or two of 255.
    fn check(&self, index: usize, image: &Image, name: &str) {
        assert_eq!((image.width, image.height), (self.width, self.height), "{name}");
        if hash(&image.rgb) != self.hashes[index] {
            let means = quarters(image);
            let close = means.iter().zip(&self.quarters[index]).all(|(a, b)| (a - b).abs() < 2.0);
            assert!(close, "{name}: frame {index} shows something else");
            let same_rounding =
                cfg!(target_arch = "x86_64") && ffmpeg_next::software::scaling::version() >> 16 == 6;
            assert!(!same_rounding, "{name}: frame {index} differs slightly");
        }
    }
}

fn goldens() -> BTreeMap<String, Golden> {
    serde_json::from_str(include_str!("media/video.json")).unwrap()
}

/// FNV-1a.
fn hash(bytes: &[u8]) -> String {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", bytes.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

/// Mean red, green and blue of each quarter.
fn quarters(image: &Image) -> Vec<f64> {
    let (mut sums, mut counts) = ([0.0; 12], [0.0; 12]);
    for (i, pixel) in image.rgb.chunks_exact(3).enumerate() {
        let (x, y) = (i % image.width, i / image.width);
        let quarter = usize::from(y >= image.height / 2) * 2 + usize::from(x >= image.width / 2);
        for (channel, value) in pixel.iter().enumerate() {
            sums[3 * quarter + channel] += f64::from(*value);
            counts[3 * quarter + channel] += 1.0;
        }
    }
    sums.iter().zip(counts).map(|(sum, count)| sum / count).collect()
}

#[test]
fn every_frame_is_the_one_that_ffmpeg_shows() {
    for (name, golden) in goldens() {
        let clip = sample(&media(&name), &Sampling::All, &Limits::default()).unwrap();
        assert_eq!(clip.frames.len(), golden.hashes.len(), "{name}");
        assert_eq!(clip.total_frames, golden.hashes.len(), "{name}");
        assert!((clip.fps - golden.fps).abs() < 1e-9, "{name}: {} frames per second", clip.fps);
        for (index, frame) in clip.frames.iter().enumerate() {
            golden.check(index, frame, &name);
        }
        let info = probe(&media(&name)).unwrap();
        assert_eq!((info.width, info.height), (golden.width, golden.height), "{name}");
    }
}

#[test]
fn sampled_frames_are_counted_in_the_order_in_which_they_are_shown() {
    let indices = [8, 1, 5, 5];
    for (name, golden) in goldens() {
        let indices: Vec<usize> = indices.iter().map(|index| index % golden.hashes.len()).collect();
        let sampling = Sampling::Indices(indices.clone());
        let clip = sample(&media(&name), &sampling, &Limits::default()).unwrap();
        assert_eq!(clip.indices, indices, "{name}");
        assert_eq!(clip.total_frames, golden.hashes.len(), "{name}");
        for (frame, index) in clip.frames.iter().zip(indices) {
            golden.check(index, frame, &name);
        }
    }
}

#[test]
fn rules_see_how_many_frames_there_are_and_not_how_many_are_stated() {
    // The header still tells of 14 frames.
    let path = media("truncated.mp4");
    let golden = &goldens()["truncated.mp4"];
    assert_eq!(probe(&path).unwrap().frames, Some(14));
    let last = golden.hashes.len() - 1;
    let clip = sample(&path, &Sampling::Spread(Quota::Count(2)), &Limits::default()).unwrap();
    assert_eq!((clip.indices.as_slice(), clip.total_frames), (&[0, last][..], last + 1));
    golden.check(last, &clip.frames[1], "truncated.mp4");
    let error = sample(&path, &Sampling::Indices(vec![13]), &Limits::default()).unwrap_err().to_string();
    assert!(error.contains("frame 13"), "{error}");
}

#[test]
fn times_rise_and_follow_a_variable_rate() {
    let times = |name: &str| -> Vec<f64> {
        frames(&media(name), &Limits::default()).unwrap().map(|frame| frame.unwrap().seconds).collect()
    };
    let expected: Vec<f64> = (0..14)
        .map(|n| if n < 5 { n as f64 / 25.0 } else { (5 + (n - 5) * 4 + n % 2) as f64 / 25.0 })
        .collect();
    let vfr = times("vfr.mp4");
    assert!(vfr.len() == 14 && vfr.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-3), "{vfr:?}");
    for name in ["bframes.mp4", "mpeg4.avi", "vp9.webm", "animated.gif", "animated.webp"] {
        assert!(times(name).is_sorted_by(|a, b| a < b), "{name}");
    }
}

#[test]
fn a_file_in_memory_is_read_alike() {
    let golden = &goldens()["vp9.webm"];
    let bytes = std::fs::read(media("vp9.webm")).unwrap().into();
    let clip = sample_bytes("clip", bytes, &Sampling::Uniform(Quota::Count(7)), &Limits::default()).unwrap();
    assert_eq!(clip.indices, [0, 2, 4, 6, 8, 10, 12]);
    golden.check(12, &clip.frames[6], "vp9.webm");
}

#[test]
fn what_is_no_video_is_an_error_that_names_the_file() {
    for name in ["headless.mp4", "s16.wav", "video.json", "missing.mp4", ""] {
        let error = sample(&media(name), &Sampling::All, &Limits::default()).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
    // A play list would have FFmpeg open other files.
    let list: &[u8] = b"ffconcat version 1.0\nfile bframes.mp4\n";
    assert!(sample_bytes("list", list.into(), &Sampling::All, &Limits::default()).is_err());
    assert!(sample_bytes("nothing", [].as_slice().into(), &Sampling::All, &Limits::default()).is_err());
}

#[test]
fn frames_and_clips_have_caps() {
    let refused = |name: &str, sampling: &Sampling, limits: Limits| {
        let error = sample(&media(name), sampling, &limits).unwrap_err().to_string();
        assert!(error.contains("too large") && error.contains("limit"), "{error}");
    };
    for name in ["bframes.mp4", "animated.webp", "animated.gif"] {
        refused(name, &Sampling::All, Limits { pixels: 64 * 48 - 1, ..Limits::default() });
        refused(name, &Sampling::All, Limits { bytes: 5 * 3 * 64 * 48, ..Limits::default() });
    }
    let limits = Limits { bytes: 5 * 3 * 64 * 48, ..Limits::default() };
    refused("bframes.mp4", &Sampling::Indices(vec![0; 6]), limits.clone());
    assert!(sample(&media("bframes.mp4"), &Sampling::Indices(vec![0; 5]), &limits).is_ok());
}
