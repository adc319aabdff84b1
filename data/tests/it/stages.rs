//! What each stage keeps, changes and leaves out.

use std::fs;
use std::path::Path;

use percept_data::format::webdataset;
use percept_data::stage::{Scorer, Scorers};
use percept_data::{BuildOptions, Recipe, Sample, build};
use percept_modalities::image::{Filter, Image, Limits, decode, resize};
use percept_modalities::video::{Sampling, sample_bytes};
use percept_modalities::{Content, Part};

fn golden(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)).unwrap()
}

/// Runs stages on lines of JSON; what is kept, and for the rest keys with reasons.
fn run(lines: &[&str], stages: &str) -> (Vec<Sample>, Vec<(String, String)>) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("in.jsonl"), lines.join("\n")).unwrap();
    for name in ["hash20.png", "hash21.png", "hash22.png"] {
        fs::write(folder.join(name), golden(name)).unwrap();
    }
    fs::write(
        folder.join("bench.txt"),
        "How many red apples are lying on the table next to the old lamp?\nToo short\n",
    )
    .unwrap();
    let video = Path::new(env!("CARGO_MANIFEST_DIR")).join("../modalities/tests/media");
    fs::copy(video.join("bframes.mp4"), folder.join("clip.mp4")).unwrap();
    fs::copy(video.join("f32.wav"), folder.join("tone.wav")).unwrap();
    fs::copy(video.join("screen.mkv"), folder.join("screen.mkv")).unwrap();
    fs::copy(video.join("slow.mp4"), folder.join("slow.mp4")).unwrap();
    let recipe = format!("[[read]]\npath = \"in.jsonl\"\n{stages}");
    let recipe = Recipe::parse(&folder.join("recipe.toml"), &recipe).unwrap();
    let options = BuildOptions { threads: 2, scorers: Some(&Brightness), ..BuildOptions::default() };
    let built = build(recipe.corpus(&options).unwrap(), &folder.join("out"), &options).unwrap();
    let shards = built.manifest.shards.iter();
    let samples =
        shards.flat_map(|shard| webdataset::read(&folder.join("out").join(&shard.file), 1 << 20).unwrap());
    let samples = samples.map(Result::unwrap).collect();
    let rejects = fs::read_to_string(folder.join("out/rejects.jsonl")).unwrap();
    let rejects = rejects.lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        (line["key"].as_str().unwrap().to_owned(), line["reason"].as_str().unwrap().to_owned())
    });
    (samples, rejects.collect())
}

fn keys(samples: &[Sample]) -> Vec<&str> {
    samples.iter().map(|s| s.key.as_str()).collect()
}

fn pairs(rejects: &[(String, String)]) -> Vec<(&str, &str)> {
    rejects.iter().map(|(key, reason)| (key.as_str(), reason.as_str())).collect()
}

/// Stands for a model: the longer a text, the better it fits.
struct Brightness;

impl Scorers for Brightness {
    fn open(&self, model: &Path) -> Result<Box<dyn Scorer>, String> {
        match model.ends_with("clip") {
            true => Ok(Box::new(Brightness)),
            false => Err("there is no such model".into()),
        }
    }
}

impl Scorer for Brightness {
    fn score(&mut self, pairs: &[(&Image, &str)]) -> Result<Vec<f32>, String> {
        Ok(pairs.iter().map(|(image, text)| text.len() as f32 / 10.0 * f32::from(image.width > 0)).collect())
    }
}

#[test]
fn images_are_filtered_by_size_and_shape() {
    // hash20 is 40x50, hash21 45x36 and hash22 50x43.
    let lines = [
        r#"{"id": "a", "image": "hash20.png"}"#,
        r#"{"id": "b", "image": "hash21.png"}"#,
        r#"{"id": "c", "image": "hash22.png"}"#,
    ];
    let (samples, rejects) =
        run(&lines, "[[stage]]\nrun = \"filter-size\"\nmin_height = 40\nmax_aspect = 1.2");
    assert_eq!(keys(&samples), ["c"]);
    assert_eq!(pairs(&rejects), [("a", "aspect"), ("b", "too-small")]);
    let (samples, _) = run(&lines, "[[stage]]\nrun = \"filter-size\"\nmax_pixels = 1999");
    assert_eq!(keys(&samples), ["b"]);
}

#[test]
fn texts_are_filtered_by_length_pattern_and_language() {
    let lines = [
        r#"{"id": "en", "text": "The quick brown fox jumps over the lazy dog while the children are watching it."}"#,
        r#"{"id": "de", "text": "Der schnelle braune Fuchs springt über den faulen Hund, während die Kinder zusehen."}"#,
        r#"{"id": "short", "text": "cat"}"#,
        r#"{"id": "advert", "text": "The best price for this great product: buy it now at https://example.org today"}"#,
    ];
    let stages = "[[stage]]\nrun = \"filter-length\"\nmin_words = 2\n[[stage]]\nrun = \"filter-regex\"\npattern = 'https?://'\n\
        [[stage]]\nrun = \"filter-language\"\nlanguages = [\"eng\"]";
    let (samples, rejects) = run(&lines, stages);
    assert_eq!(keys(&samples), ["en"]);
    assert_eq!(pairs(&rejects), [("de", "language"), ("short", "too-short"), ("advert", "pattern")]);
}

#[test]
fn audio_and_videos_are_filtered_by_duration() {
    let lines = [r#"{"id": "v", "video": "clip.mp4"}"#, r#"{"id": "a", "audio": "tone.wav"}"#];
    let (samples, rejects) = run(&lines, "[[stage]]\nrun = \"validate\"\nmeasure = true");
    assert!(rejects.is_empty(), "{rejects:?}");
    let seconds: Vec<f64> = samples.iter().map(|s| s.meta["seconds"].as_f64().unwrap()).collect();
    let between = seconds[0].midpoint(seconds[1]);
    let (longer, shorter) = if seconds[0] > seconds[1] { ("v", "a") } else { ("a", "v") };
    let (samples, rejects) =
        run(&lines, &format!("[[stage]]\nrun = \"filter-duration\"\nmin_seconds = {between}"));
    assert_eq!((keys(&samples), pairs(&rejects)), (vec![longer], vec![(shorter, "too-short")]));
    let (samples, rejects) =
        run(&lines, &format!("[[stage]]\nrun = \"filter-duration\"\nmax_seconds = {between}"));
    assert_eq!((keys(&samples), pairs(&rejects)), (vec![shorter], vec![(longer, "too-long")]));
}

/// Twenty frames over twenty seconds, whose file states thirty of them a second.
#[test]
fn a_video_lasts_as_long_as_its_frames_are_shown() {
    // The text is no video and stays, so that no build is without a sample.
    let lines = [r#"{"id": "v", "video": "screen.mkv"}"#, r#"{"id": "t", "text": "A screen."}"#];
    let (samples, rejects) = run(&lines, "[[stage]]\nrun = \"validate\"\nmeasure = true");
    assert!(rejects.is_empty(), "{rejects:?}");
    assert!((samples[0].meta["seconds"].as_f64().unwrap() - 20.033).abs() < 1e-3);
    let filter = |bounds: &str| run(&lines, &format!("[[stage]]\nrun = \"filter-duration\"\n{bounds}"));
    assert_eq!(keys(&filter("min_seconds = 20.0\nmax_seconds = 20.1").0), ["v", "t"]);
    assert_eq!(pairs(&filter("max_seconds = 20.0").1), [("v", "too-long")]);
    assert_eq!(pairs(&filter("min_seconds = 20.1").1), [("v", "too-short")]);
}

#[test]
fn a_slow_video_keeps_its_frames_and_every_video_its_times() {
    let lines = [r#"{"id": "slow", "video": "slow.mp4"}"#, r#"{"id": "screen", "video": "screen.mkv"}"#];
    let (samples, rejects) = run(&lines, "[[stage]]\nrun = \"encode-video\"\nrate = 8");
    assert!(rejects.is_empty(), "{rejects:?}");
    let times: Vec<Vec<f64>> = samples
        .iter()
        .map(|sample| {
            let bytes = sample.media[0].bytes.clone();
            let clip = sample_bytes("clip", bytes, &Sampling::All, &Default::default()).unwrap();
            [clip.times.as_slice(), &[clip.seconds()]].concat()
        })
        .collect();
    let slow: Vec<f64> = (0..=10).map(|i| f64::from(i) / 5.0).collect();
    // The frames that are shown at the eighths of a second, each once, and all that come later.
    let mut screen = vec![0.0, 0.125, 0.25, 0.375];
    screen.extend((1..=10).map(|i| 2.0 * f64::from(i)));
    screen.push(20.033);
    for (found, expected) in times.iter().zip([slow, screen]) {
        let close = found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-3);
        assert!(close && found.len() == expected.len(), "{found:?} for {expected:?}");
    }
}

#[test]
fn videos_are_written_anew_at_a_rate_and_a_size() {
    let lines = [r#"{"id": "a", "video": "clip.mp4"}"#, r#"{"id": "b", "video": "tone.wav"}"#];
    let stage = "[[stage]]\nrun = \"encode-video\"\nrate = 5\nlongest = 33";
    let (samples, rejects) = run(&lines, stage);
    assert_eq!((keys(&samples), pairs(&rejects)), (vec!["a"], vec![("b", "unknown-format")]));
    let medium = &samples[0].media[0];
    let decode =
        |bytes: &[u8]| sample_bytes("clip", bytes.into(), &Sampling::All, &Default::default()).unwrap();
    let source =
        fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../modalities/tests/media/bframes.mp4"));
    let (before, after) = (decode(&source.unwrap()), decode(&medium.bytes));
    let (long, short) = (before.seconds(), after.seconds());
    assert!((long - short).abs() < 0.21, "{long} {short}");
    assert!((after.fps - 5.0).abs() <= 1.0 && before.fps > 6.0, "{} of {}", after.fps, before.fps);
    let (old, new) = (&before.frames[0], &after.frames[0]);
    assert_eq!(new.width.max(new.height), 32);
    // What is seen is still the same image; colour is stored at half the size, so light and dark are
    // compared.
    let small = resize(old, new.width, new.height, Filter::Lanczos).unwrap();
    let light =
        |rgb: &[u8]| 0.299 * f64::from(rgb[0]) + 0.587 * f64::from(rgb[1]) + 0.114 * f64::from(rgb[2]);
    let pixels = small.rgb.chunks(3).zip(new.rgb.chunks(3));
    let apart =
        pixels.map(|(a, b)| (light(a) - light(b)).abs()).sum::<f64>() / (new.width * new.height) as f64;
    assert!(apart < 6.0, "{apart} of 255");
    assert_eq!(samples[0].media[0].bytes, run(&lines, stage).0[0].media[0].bytes);
}

#[test]
fn images_are_resized_as_pil_does_and_written_anew() {
    let lines = [r#"{"id": "a", "image": "hash20.png"}"#];
    let (samples, _) = run(&lines, "[[stage]]\nrun = \"resize\"\nlongest = 25");
    let whole = decode(&golden("hash20.png"), &Limits::default()).unwrap();
    let expected = resize(&whole, 20, 25, Filter::Lanczos).unwrap();
    assert_eq!(samples[0].media[0].extension, "png");
    assert_eq!(decode(&samples[0].media[0].bytes, &Limits::default()).unwrap(), expected);
    let (samples, _) = run(&lines, "[[stage]]\nrun = \"resize\"\nshortest = 400");
    assert_eq!(*samples[0].media[0].bytes, golden("hash20.png"), "what is smaller stays as it is");

    for (format, extension) in [("webp", "webp"), ("png", "png"), ("jpeg", "jpg")] {
        let (samples, _) = run(
            &lines,
            &format!("[[stage]]\nrun = \"encode\"\nformat = \"{format}\"\n[[stage]]\nrun = \"validate\""),
        );
        assert_eq!(samples[0].media[0].extension, extension);
        let again = decode(&samples[0].media[0].bytes, &Limits::default()).unwrap();
        let differ = again.rgb.iter().zip(&whole.rgb).map(|(a, b)| u64::from(a.abs_diff(*b))).sum::<u64>();
        let mean = differ as f64 / whole.rgb.len() as f64;
        assert!(if format == "jpeg" { mean > 0.0 && mean < 8.0 } else { mean == 0.0 }, "{format}: {mean}");
    }
}

#[test]
fn templates_make_conversations() {
    let lines = [
        r#"{"id": "a", "image": "hash20.png", "text": "noise", "class": "texture"}"#,
        r#"{"id": "b", "image": "hash20.png", "text": "noise"}"#,
    ];
    // What a sample lacks is no empty text, wherever the template looks at it.
    for assistant in ["{% if meta.class %}a{% endif %}", "{{ 'a' ~ meta.class }}", "{{ meta.class == 'x' }}"]
    {
        let stages = format!("[[stage]]\nrun = \"template\"\nuser = \"Which?\"\nassistant = \"{assistant}\"");
        assert_eq!(pairs(&run(&lines, &stages).1), [("b", "template")], "{assistant}");
    }
    let endless = "{% if key == 'a' %}{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}{% endif %}";
    let stages = format!("[[stage]]\nrun = \"template\"\ntext = \"{endless}\"");
    assert_eq!(pairs(&run(&lines, &stages).1), [("a", "template")]);
    let stages = "[[stage]]\nrun = \"template\"\nuser = \"Which class?\"\nassistant = \"{{ meta.class }}, {{ text | upper }}\"";
    let (samples, rejects) = run(&lines, stages);
    assert_eq!(pairs(&rejects), [("b", "template")]);
    assert_eq!(samples[0].text, None);
    let expected =
        Content::Parts(vec![Part::Image { path: None }, Part::Text { text: "Which class?".into() }]);
    assert_eq!(samples[0].messages[0].content, expected);
    assert_eq!(samples[0].messages[1].content, Content::Text("texture, NOISE".into()));
}

#[test]
fn what_a_benchmark_asks_is_left_out() {
    let lines = [
        r#"{"id": "asked", "text": "Q: how many red apples are lying on the TABLE, next to something?"}"#,
        r#"{"id": "other", "text": "How many green apples are there on this table next to the new lamp?"}"#,
        r#"{"id": "short", "text": "Too short"}"#,
        r#"{"id": "seen", "image": "hash20.png"}"#,
        r#"{"id": "unseen", "image": "hash21.png"}"#,
    ];
    let stages = "[[stage]]\nrun = \"decontaminate\"\nagainst = [\"bench.txt\", \"hash20.png\"]";
    // A single image is no format that can be read, so it is put into a folder's table.
    let stages = stages.replace("\"hash20.png\"", "\"bench.hashes\"");
    let folder = tempfile::tempdir().unwrap();
    let hash =
        percept_data::hash::perceptual_hash(&decode(&golden("hash20.png"), &Limits::default()).unwrap())
            .unwrap();
    let hashes = folder.path().join("bench.hashes");
    // Three bits are turned over, as another size or quality may do.
    fs::write(&hashes, format!("{:016x}\n", hash ^ 0x8000_0400_0001)).unwrap();
    let stages = stages.replace("bench.hashes", hashes.to_str().unwrap());
    let (samples, rejects) = run(&lines, &stages);
    assert_eq!(keys(&samples), ["other", "short", "unseen"]);
    assert_eq!(pairs(&rejects), [("asked", "benchmark-text"), ("seen", "benchmark-image")]);
}

#[test]
fn a_model_scores_images_and_texts() {
    let lines = [
        r#"{"id": "a", "image": "hash20.png", "text": "fits"}"#,
        r#"{"id": "b", "image": "hash20.png", "text": "no"}"#,
        r#"{"id": "c", "text": "no picture"}"#,
    ];
    let (samples, rejects) =
        run(&lines, "[[stage]]\nrun = \"filter-similarity\"\nmodel = \"clip\"\nmin = 0.3");
    assert_eq!(keys(&samples), ["a"]);
    assert!((samples[0].meta["similarity"].as_f64().unwrap() - 0.4).abs() < 1e-6);
    assert_eq!(pairs(&rejects), [("b", "score"), ("c", "missing-medium")]);
}

#[test]
fn settings_that_contradict_one_another_are_refused() {
    let options = BuildOptions { scorers: Some(&Brightness), ..BuildOptions::default() };
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.jsonl"), "{}").unwrap();
    for (stage, what) in [
        ("run = \"encode-video\"\nrate = 0", "one frame or more"),
        ("run = \"resize\"", "longest, or shortest"),
        ("run = \"resize\"\nlongest = 0", "one pixel or more"),
        ("run = \"encode\"\nformat = \"jpeg\"\nquality = 0", "quality"),
        ("run = \"split\"\nfractions = { a = 0.7, b = 0.7 }", "fractions"),
        ("run = \"split\"\nfractions = { \"../a\" = 0.1 }", "no name for a file"),
        ("run = \"deduplicate-perceptual\"\ndistance = 40", "distance"),
        ("run = \"filter-language\"\nlanguages = [\"klingon\"]", "no language 'klingon'"),
        ("run = \"filter-regex\"\npattern = \"(\"", "filter-regex"),
        ("run = \"template\"\nuser = \"x\"", "go together"),
        ("run = \"template\"\ntext = \"{{ x\"", "template"),
        ("run = \"filter-similarity\"\nmodel = \"gone\"", "there is no such model"),
        ("run = \"decontaminate\"\nagainst = [\"gone.jsonl\"]", "gone.jsonl"),
    ] {
        let recipe = format!("[[read]]\npath = \"a.jsonl\"\n[[stage]]\n{stage}");
        let recipe = Recipe::parse(&folder.path().join("recipe.toml"), &recipe).unwrap();
        let error = recipe.corpus(&options).err().unwrap().to_string();
        assert!(error.contains(what), "{stage}: {error}");
    }
}
