//! Sounds decoded by other programs, and what is done with them here. `tests/media/make_media.py` made both.

use std::path::{Path, PathBuf};

use percept_modalities::Values;
use percept_modalities::audio::{Limits, LogMel, Reader, Waveform, decode, decode_bytes};

fn media(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/media").join(name)
}

fn floats(name: &str) -> Vec<f32> {
    let bytes = std::fs::read(media(name)).unwrap();
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn lossless_sounds_decode_to_what_libsndfile_decodes() {
    let names = "u8.wav s16.wav s24.wav s32.wav f32.wav f64.wav alaw.wav mulaw.wav s16.flac s24.flac";
    for name in names.split(' ') {
        let sound = decode(&media(name), 8_000, &Limits::default()).unwrap();
        let expected = floats(&format!("{name}.golden.f32"));
        assert_eq!((sound.rate, sound.samples.len()), (8_000, expected.len()), "{name}");
        assert!(distance(&sound.samples, &expected) < 1e-7, "{name}");
    }
}

#[test]
fn every_channel_weighs_the_same() {
    let sound = decode(&media("channels8.wav"), 48_000, &Limits::default()).unwrap();
    assert!(distance(&sound.samples, &floats("channels8.wav.golden.f32")) < 1e-6);
}

#[test]
fn lossy_sounds_decode_to_what_ffmpeg_decodes() {
    // FFmpeg 5 leaves the padding of MPEG-4 and of Ogg where it is; symphonia cuts off Ogg's.
    for (name, rate, length) in [
        ("lossy.mp3", 16_000, 3_333),
        ("lossy.ogg", 16_000, 3_333),
        ("lossy.m4a", 16_000, 4_096),
        ("lossy.aac", 16_000, 5_120),
        ("lossy.opus", 48_000, 9_999),
    ] {
        let sound = decode(&media(name), rate, &Limits::default()).unwrap();
        let expected = floats(&format!("{name}.golden.f32"));
        assert_eq!(sound.samples.len(), length, "{name}: delay and padding are cut off");
        let error = distance(&sound.samples, &expected);
        assert!(error < 1e-4, "{name}: {error}");
    }
}

#[test]
fn a_file_is_the_same_from_memory_in_pieces_and_in_windows() {
    let whole = decode(&media("speech.wav"), 11_025, &Limits::default()).unwrap();
    let bytes = std::fs::read(media("speech.wav")).unwrap();
    assert_eq!(decode_bytes("it", &bytes, 11_025, &Limits::default()).unwrap(), whole);
    let pieces: Vec<_> = Reader::open(&media("speech.wav"), 11_025).unwrap().map(Result::unwrap).collect();
    assert!(pieces.len() > 1);
    assert_eq!(pieces.concat(), whole.samples);

    let whole = decode(&media("lossy.opus"), 96_000, &Limits::default()).unwrap();
    let bytes = std::fs::read(media("lossy.opus")).unwrap();
    let windows = Reader::from_bytes("it", &bytes, 96_000).unwrap().windows(1);
    assert_eq!(windows.map(|window| window.unwrap().samples).collect::<Vec<_>>(), [whole.samples]);
    let long: Vec<Waveform> =
        Reader::open(&media("speech.wav"), 6_000).unwrap().windows(1).map(Result::unwrap).collect();
    assert_eq!(long.len(), 1, "0.74 seconds are one window");
}

#[test]
fn what_is_damaged_gives_what_decodes_and_nonsense_is_an_error_that_names_the_file() {
    let bytes = std::fs::read(media("lossy.mp3")).unwrap();
    let part = decode_bytes("half.mp3", &bytes[..bytes.len() / 2], 16_000, &Limits::default()).unwrap();
    assert!((500..3_000).contains(&part.samples.len()));
    for (bytes, what) in [(&b"no sound at all"[..], "nonsense"), (&[], "nothing"), (&bytes[..50], "head")] {
        let error = decode_bytes(what, bytes, 16_000, &Limits::default()).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
    let error = decode(Path::new("/no/such.wav"), 16_000, &Limits::default()).unwrap_err().to_string();
    assert!(error.contains("/no/such.wav"), "{error}");
    assert!(decode(&media(""), 16_000, &Limits::default()).is_err());
    assert!(decode(&media("s16.wav"), 0, &Limits::default()).is_err());
    let limits = Limits { samples: 100 };
    let error = decode(&media("s16.wav"), 16_000, &limits).unwrap_err().to_string();
    assert!(error.contains("100 samples"), "{error}");
}

#[test]
fn features_are_those_of_whispers_extractor() {
    let sound = decode(&media("speech.wav"), 16_000, &Limits::default()).unwrap();
    for bands in [80, 128] {
        let settings =
            serde_json::json!({"feature_size": bands, "chunk_length": 1, "processor_class": "any"});
        let extractor = LogMel::from_json("preprocessor_config.json", &settings).unwrap();
        let features = extractor.features(&sound).unwrap();
        assert_eq!(features.dims, [1, bands, 100]);
        let Values::F32(values) = features.values else { panic!() };
        let error = distance(&values, &floats(&format!("speech.log_mel{bands}.f32")));
        assert!(error < 1e-5, "{bands} bands: {error}");
        assert_eq!(extractor.mask(11_777).values, Values::I64((0..100).map(|t| i64::from(t < 74)).collect()));
    }
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let refused = |settings: serde_json::Value| {
        let error = LogMel::from_json("settings.json", &settings).err().unwrap().to_string();
        assert!(error.starts_with("settings.json: "), "{error}");
    };
    refused(serde_json::json!({"feature_size": 0}));
    refused(serde_json::json!({"n_fft": 401}));
    refused(serde_json::json!({"n_fft": 40_000, "chunk_length": 1}));
    refused(serde_json::json!({"hop_length": "ten"}));
    refused(serde_json::json!({"dither": 0.5}));
    let extractor = LogMel::from_json("", &serde_json::json!({})).unwrap();
    assert_eq!((extractor.samples(), extractor.frames(), extractor.bands()), (480_000, 3_000, 80));
    let sound = Waveform { samples: vec![0.0; 10], rate: 8_000 };
    assert!(extractor.features(&sound).is_err());
}
