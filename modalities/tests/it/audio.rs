//! Audio clips decoded by other programs, and what is done with them here. `tests/media/make_media.py` made
//! both.

use std::path::{Path, PathBuf};

use percept_modalities::Values;
use percept_modalities::audio::{
    Limits, LogMel, Reader, Waveform, decode, decode_bytes, measure, measure_bytes,
};

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
fn lossless_audio_decodes_to_what_libsndfile_decodes() {
    let names = "u8.wav s16.wav s24.wav s32.wav f32.wav f64.wav alaw.wav mulaw.wav s16.flac s24.flac";
    let own = names.split(' ').map(|name| (name, name));
    // Written by FFmpeg without loss.
    let others = ["s16.tta", "s16.wv", "s16.voc"].map(|name| (name, "s16.wav"));
    for (name, golden) in own.chain(others) {
        let audio = decode(&media(name), 8_000, &Limits::default()).unwrap();
        let expected = floats(&format!("{golden}.golden.f32"));
        assert_eq!((audio.rate, audio.samples.len()), (8_000, expected.len()), "{name}");
        assert!(distance(&audio.samples, &expected) < 1e-7, "{name}");
    }
}

#[test]
fn every_channel_weighs_the_same() {
    let audio = decode(&media("channels8.wav"), 48_000, &Limits::default()).unwrap();
    assert!(distance(&audio.samples, &floats("channels8.wav.golden.f32")) < 1e-6);
}

#[test]
fn lossy_audio_decodes_to_what_ffmpeg_decodes() {
    // FFmpeg 5 leaves the padding of MPEG-4 and of Ogg Vorbis where it is; symphonia cuts off Vorbis's.
    for (name, rate, length) in [
        ("lossy.mp3", 16_000, 3_333),
        ("lossy.ogg", 16_000, 3_333),
        ("lossy.m4a", 16_000, 4_096),
        ("lossy.aac", 16_000, 5_120),
        ("lossy.opus", 48_000, 9_999),
    ] {
        let audio = decode(&media(name), rate, &Limits::default()).unwrap();
        let expected = floats(&format!("{name}.golden.f32"));
        assert_eq!(audio.samples.len(), length, "{name}: delay and padding are cut off");
        let error = distance(&audio.samples, &expected);
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
    for (bytes, what) in [(&b"no audio at all"[..], "nonsense"), (&[], "nothing"), (&bytes[..50], "head")] {
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
    let audio = decode(&media("speech.wav"), 16_000, &Limits::default()).unwrap();
    for bands in [80, 128] {
        let settings =
            serde_json::json!({"feature_size": bands, "chunk_length": 1, "processor_class": "any"});
        let extractor = LogMel::from_json("preprocessor_config.json", &settings).unwrap();
        let features = extractor.features(&audio).unwrap();
        assert_eq!(features.dims, [1, bands, 100]);
        let Values::F32(values) = features.values else { panic!() };
        let error = distance(&values, &floats(&format!("speech.log_mel{bands}.f32")));
        assert!(error < 1e-5, "{bands} bands: {error}");
        assert_eq!(extractor.heard(11_777), 74);
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
    let audio = Waveform { samples: vec![0.0; 10], rate: 8_000 };
    assert!(extractor.features(&audio).is_err());
}

/// `make_media.py` wrote how many samples `ffmpeg` decodes of each file, and at which rate.
#[test]
fn all_that_follows_a_header_is_decoded_whatever_it_says_of_the_length() {
    let table = std::fs::read_to_string(media("lengths.json")).unwrap();
    let table: std::collections::BTreeMap<String, (u32, usize)> = serde_json::from_str(&table).unwrap();
    for (name, (rate, length)) in table {
        let audio = decode(&media(&name), rate, &Limits::default()).unwrap();
        assert_eq!(audio.samples.len(), length, "{name}");
        let loud = audio.samples.iter().rev().take(length / 4).fold(0.0_f32, |most, x| most.max(x.abs()));
        assert!(loud > 0.05, "{name}: its last quarter is silent");
    }
}

/// The samples of `s16.wav`, in containers and behind headers that lie.
#[test]
fn lengths_of_no_meaning_are_passed_over_and_missing_audio_is_noticed() {
    let wav = std::fs::read(media("s16.wav")).unwrap();
    let whole = decode_bytes("whole", &wav, 8_000, &Limits::default()).unwrap();
    let data = wav.windows(4).position(|word| word == b"data").unwrap() + 4;
    let with_length = |length: u32| {
        let mut bytes = wav.clone();
        bytes[data..data + 4].copy_from_slice(&length.to_le_bytes());
        bytes
    };
    let big_endian: Vec<u8> = wav[data + 4..].chunks_exact(2).flat_map(|two| [two[1], two[0]]).collect();
    let au = |length: u32| {
        let head = [0x2e73_6e64, 24, length, 3, 8_000, 2].map(u32::to_be_bytes);
        [head.as_flattened(), &big_endian].concat()
    };
    let mut caf = b"caff\0\x01\0\0desc\0\0\0\0\0\0\0\x20".to_vec();
    caf.extend(8_000_f64.to_be_bytes());
    caf.extend(b"lpcm");
    caf.extend([0, 4, 1, 2, 16].map(u32::to_be_bytes).as_flattened());
    caf.extend(b"data");
    caf.extend((-1_i64).to_be_bytes());
    caf.extend([0; 4]);
    caf.extend(&big_endian);

    let unknown = [with_length(0), with_length(u32::MAX), with_length(0x7fff_ffff), au(u32::MAX), caf];
    for (i, bytes) in unknown.iter().enumerate() {
        assert_eq!(decode_bytes("it", bytes, 8_000, &Limits::default()).unwrap(), whole, "file {i}");
        let length = measure_bytes("it", bytes).unwrap();
        assert_eq!((length.declared, length.shortfall()), (None, None), "file {i}");
        assert!((length.seconds - 300.0 / 8_000.0).abs() < 1e-9, "file {i}");
    }
    let mut flac = std::fs::read(media("s16.flac")).unwrap();
    flac[21] &= 0xf0;
    flac[22..26].fill(0);
    let found = measure_bytes("it", &flac).unwrap();
    assert_eq!((found.declared, found.seconds), (None, 300.0 / 8_000.0));
    // A length beyond the file is one that it once had.
    for bytes in [with_length(64_000), au(64_000)] {
        assert_eq!(decode_bytes("it", &bytes, 8_000, &Limits::default()).unwrap(), whole);
        let why = measure_bytes("it", &bytes).unwrap().shortfall().unwrap();
        assert!(why.starts_with("it declares 2.00 seconds and holds 0.04"), "{why}");
    }
    let names = "s16.wav s16.flac lossy.mp3 lossy.m4a lossy.opus lossy.ogg bare.mp3 talk.mkv late.mkv adpcm_ms.wav adpcm_ima_wav.wav";
    for name in names.split(' ') {
        let length = measure(&media(name)).unwrap();
        assert_eq!(length.shortfall(), None, "{name}: {length:?}");
    }
    // What a block of compressed audio holds tells how long it is.
    for name in ["adpcm_ms.wav", "adpcm_ima_wav.wav"] {
        let bytes = std::fs::read(media(name)).unwrap();
        let whole = measure_bytes(name, &bytes).unwrap();
        assert!((whole.declared.unwrap() - whole.seconds).abs() < 1e-9, "{name}: {whole:?}");
        let cut = measure_bytes(name, &bytes[..bytes.len() / 2]).unwrap();
        assert!(cut.shortfall().is_some(), "{name}: {cut:?}");
    }
    let m4a = std::fs::read(media("lossy.mp3")).unwrap();
    let cut = measure_bytes("cut", &m4a[..m4a.len() / 3]).unwrap();
    assert!(cut.shortfall().is_some(), "{cut:?}");
}

#[test]
fn audio_of_few_samples_is_decoded_and_one_of_none_has_a_reason() {
    let wav = std::fs::read(media("s16.wav")).unwrap();
    let data = wav.windows(4).position(|word| word == b"data").unwrap() + 8;
    for samples in [1, 2, 80] {
        let mut bytes = wav[..data + 4 * samples].to_vec();
        bytes[data - 4..data].copy_from_slice(&(4 * samples as u32).to_le_bytes());
        let audio = decode_bytes("it", &bytes, 16_000, &Limits::default()).unwrap();
        assert_eq!(audio.samples.len(), 2 * samples);
        let extractor = LogMel::from_json("", &serde_json::json!({"chunk_length": 1})).unwrap();
        assert_eq!(extractor.features(&audio).unwrap().dims, [1, 80, 100]);
    }
    let error = decode_bytes("it", &wav[..data], 16_000, &Limits::default()).unwrap_err().to_string();
    assert!(error.contains("not one sample"), "{error}");
    let error = measure_bytes("it", &wav[..data]).unwrap_err().to_string();
    assert!(error.contains("not one sample"), "{error}");
    // No error may end where its reason would begin.
    for bytes in [&b""[..], &wav[..20], b"OggS", b"fLaC\0\0\0\x22", b"ID3\x03\0\0\0\0\0\0", b"\xff\xfb\x90\0"]
    {
        let error = decode_bytes("it", bytes, 16_000, &Limits::default()).unwrap_err().to_string();
        assert!(error.trim_end().len() > "it is damaged or not supported: ".len() + 5, "{error}");
    }
}

/// librosa refuses such audio too (`valid_audio`): one NaN is in every number of the window around it.
#[test]
fn samples_that_are_no_numbers_are_refused_where_they_stand() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut samples = vec![0.25_f32; 16_000];
        samples[4_000] = bad;
        let data: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let mut wave = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x03\0\x01\0".to_vec();
        wave.extend([16_000_u32, 64_000].iter().flat_map(|n| n.to_le_bytes()));
        wave.extend(b"\x04\0\x20\0data");
        wave.extend((data.len() as u32).to_le_bytes());
        wave.extend(data);
        let size = (wave.len() as u32 - 8).to_le_bytes();
        wave[4..8].copy_from_slice(&size);
        let decoded = decode_bytes("nan.wav", &wave, 16_000, &Limits::default()).unwrap_err().to_string();
        let measured = measure_bytes("nan.wav", &wave).unwrap_err().to_string();
        assert!(decoded.contains("nan.wav") && decoded.contains("its sample at 0.250 s is NaN"), "{decoded}");
        assert_eq!(measured, decoded);
    }
}
