//! Clips decoded by FFmpeg's command line and by PIL, and what is decoded here. `tests/media/make_media.py` made both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use percept_modalities::image::Image;
use percept_modalities::kind::{self, Medium};
use percept_modalities::video::{
    Limits, Quota, Sampling, frames, measure, measure_bytes, probe, sample, sample_bytes,
};
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
    serde_json::from_str(include_str!("../media/video.json")).unwrap()
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
    // The header still states 14 frames.
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

/// A screen recorded for 20 seconds: ten frames in the first third of a second, then one every two seconds. Its file
/// states 30 frames a second, by which it would be over after 0.7.
#[test]
fn presentation_times_decide_how_long_a_clip_is_and_which_frames_are_taken() {
    let found = measure(&media("screen.mkv"), &Limits::default()).unwrap();
    assert!((found.length.seconds - 20.033).abs() < 1e-3, "{found:?}");
    assert_eq!((found.length.shortfall(), found.length.faults, found.timeline.times.len()), (None, 0, 20));
    let times: Vec<f64> =
        (0..20).map(|i| if i < 10 { f64::from(i) / 30.0 } else { 2.0 * f64::from(i - 9) }).collect();
    let close =
        |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-3);
    assert!(close(&found.timeline.times, &times), "{found:?}");

    let clip = |sampling: &Sampling| sample(&media("screen.mkv"), sampling, &Limits::default()).unwrap();
    let half = Quota::PerSecond { fps: 0.5, least: 1, most: 100 };
    let spread = clip(&Sampling::Spread(half));
    assert_eq!(spread.indices, [0, 10, 11, 12, 13, 14, 15, 16, 17, 18]);
    assert!(
        close(&spread.times, &spread.indices.iter().map(|&i| times[i]).collect::<Vec<_>>()),
        "{spread:?}"
    );
    assert!((spread.seconds() - 20.033).abs() < 1e-3);
    let all = clip(&Sampling::All);
    assert!(close(&all.times, &times) && all.total_frames == 20);

    // At a steady rate times are the quotients that transformers computes, whatever the container rounds.
    let steady =
        sample(&media("full709.mkv"), &Sampling::Spread(Quota::Count(5)), &Limits::default()).unwrap();
    let quotients: Vec<f64> = steady.indices.iter().map(|&i| i as f64 / 25.0).collect();
    assert_eq!(steady.times, quotients);
}

#[test]
fn a_clip_is_thinned_to_a_rate_or_left_as_it_is() {
    let indices = |name: &str, rate| {
        sample(&media(name), &Sampling::Thinned(rate), &Limits::default()).unwrap().indices
    };
    assert_eq!(indices("slow.mp4", 8.0), (0..10).collect::<Vec<_>>());
    assert_eq!(indices("slow.mp4", 5.0), (0..10).collect::<Vec<_>>());
    assert_eq!(indices("bframes.mp4", 5.0), [0, 5, 10]);
    assert_eq!(indices("screen.mkv", 6.0), [0, 5, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
}

#[test]
fn a_clip_that_declares_more_than_it_holds_falls_short() {
    let found = measure(&media("truncated.mp4"), &Limits::default()).unwrap();
    let why = found.length.shortfall().unwrap();
    assert!(why.starts_with("it declares 0.56 seconds and holds 0.36"), "{why}");
    for (name, golden) in goldens() {
        let found = measure(&media(&name), &Limits::default()).unwrap();
        assert_eq!(found.timeline.times.len(), golden.hashes.len(), "{name}");
        assert!(name == "truncated.mp4" || found.length.shortfall().is_none(), "{name}: {found:?}");
    }
    // Matroska states the time of its end, and this one begins after five seconds.
    let late = measure(&media("late.mkv"), &Limits::default()).unwrap();
    assert!((late.length.declared.unwrap() - 2.0).abs() < 0.03, "{late:?}");
    assert_eq!((late.length.shortfall(), late.timeline.times.len()), (None, 10), "{late:?}");
    let bytes = std::fs::read(media("full709.mkv")).unwrap();
    let cut = measure_bytes("cut", bytes[..bytes.len() * 2 / 3].into(), &Limits::default()).unwrap();
    assert!(cut.length.shortfall().is_some() || cut.length.faults > 0, "{cut:?}");
}

/// What each file is, and what it can be read as: an image, a video, audio.
#[test]
fn a_file_is_known_by_its_content() {
    use Medium::{Audio, Image, Video};
    for (name, medium, format, extension, [image, video, audio]) in [
        ("bframes.mp4", Video, "MPEG-4", "mp4", [false, true, false]),
        ("talk.mkv", Video, "Matroska", "mkv", [false, true, true]),
        ("vp9.webm", Video, "WebM", "webm", [false, true, false]),
        ("mpeg4.avi", Video, "AVI", "avi", [false, true, false]),
        ("raw.h264", Video, "H.264", "h264", [false, true, false]),
        ("headless.mp4", Video, "MPEG-4", "mp4", [false, true, false]),
        ("animated.gif", Image, "GIF", "gif", [true, true, false]),
        ("animated.webp", Image, "WebP", "webp", [true, true, false]),
        ("animated.png", Image, "PNG", "png", [true, true, false]),
        ("s16.wav", Audio, "WAV", "wav", [false, false, true]),
        ("s16.flac", Audio, "FLAC", "flac", [false, false, true]),
        ("lossy.mp3", Audio, "MP3", "mp3", [false, false, true]),
        ("bare.mp3", Audio, "MP3", "mp3", [false, false, true]),
        ("short.mp3", Audio, "MP3", "mp3", [false, false, true]),
        ("lossy.m4a", Audio, "MPEG-4", "m4a", [false, false, true]),
        ("lossy.aac", Audio, "AAC", "aac", [false, false, true]),
        ("lossy.ogg", Audio, "Ogg", "ogg", [false, false, true]),
        ("short.opus", Audio, "Ogg Opus", "opus", [false, false, true]),
    ] {
        let found = kind::of_file(&media(name)).unwrap().unwrap_or_else(|| panic!("{name} is not known"));
        assert_eq!((found.medium, found.name, found.extension()), (medium, format, extension), "{name}");
        assert_eq!([Image, Video, Audio].map(|medium| found.holds(medium)), [image, video, audio], "{name}");
        assert_eq!(kind::of(&std::fs::read(media(name)).unwrap()), Some(found), "{name}");
        for medium in [Image, Video, Audio].into_iter().filter(|medium| found.holds(*medium)) {
            assert_eq!(kind::of_extension(found.extension_as(medium)), Some(medium), "{name} as {medium:?}");
        }
    }
    for entry in std::fs::read_dir(media("../fixtures/decode")).unwrap() {
        let path = entry.unwrap().path();
        let found = kind::of_file(&path).unwrap();
        assert!(found.is_some_and(|found| found.medium == Image && found.image), "{}", path.display());
    }
    for text in ["make_media.py", "video.json"] {
        assert_eq!(kind::of_file(&media(text)).unwrap(), None, "{text}");
    }
    for bytes in [&b""[..], b"P1", b"BM", b"\0\0\0\0", b"{\"a\": 1}", "naïve text".as_bytes(), &[0xff; 64]] {
        assert_eq!(kind::of(bytes), None, "{bytes:?}");
    }
    assert!(kind::of_file(Path::new("/no/such/file")).is_err());
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
    let error = sample(&media("headless.mp4"), &Sampling::All, &Limits::default()).unwrap_err().to_string();
    assert!(error.contains("it has no index (`moov`)"), "{error}");
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
        refused(name, &Sampling::All, Limits { decoded: 5 * 64 * 48, ..Limits::default() });
    }
    let limits = Limits { bytes: 5 * 3 * 64 * 48, ..Limits::default() };
    refused("bframes.mp4", &Sampling::Indices(vec![0; 6]), limits.clone());
    assert!(sample(&media("bframes.mp4"), &Sampling::Indices(vec![0; 5]), &limits).is_ok());
}
