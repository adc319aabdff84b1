//! Whisper tiny.en on recordings of read English: what it hears is what transformers hears with the same weights.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use percept::eval::metric::english::normalize;
use percept::eval::metric::words::word_errors;
use percept::hal::{CompileOptions, Device};
use percept::infer::{FrameTranscriber, Segment, Transcribe, TranscribeOptions, Transcriber, Transcript};
use percept::modalities::audio::{Limits, Reader, decode};
use percept::model::Model;
use percept::model::checkpoint::Checkpoint;
use serde_json::Value;

use crate::alone::alone;
use crate::assets;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/speech")
}

/// Words to be put in, left out or exchanged to make one text the other.
fn errors(reference: &str, heard: &str) -> usize {
    word_errors(reference, heard).0
}

fn clips() -> Vec<Value> {
    serde_json::from_slice(&std::fs::read(folder().join("clips.json")).unwrap()).unwrap()
}

fn transcriber(device: Arc<dyn Device>) -> Transcriber {
    transcriber_with(device, TranscribeOptions::default())
}

fn transcriber_with(device: Arc<dyn Device>, how: TranscribeOptions) -> Transcriber {
    let checkpoint = Checkpoint::open(assets::asset("whisper-tiny.en")).unwrap();
    let Model::Speech(model) = percept::model::open(Arc::new(checkpoint)).unwrap() else {
        panic!("tiny.en is a Whisper checkpoint")
    };
    let options = CompileOptions { strict: true, ..CompileOptions::default() };
    Transcriber::new(model, device, options, how).unwrap()
}

fn cpu() -> Arc<dyn Device> {
    percept::registry().open("cpu").unwrap()
}

#[test]
fn texts_are_normalized_as_transformers_normalizes_them() {
    let golden = std::fs::read_to_string(folder().join("normalized.tsv")).unwrap();
    let mut lines = 0;
    for (text, expected) in golden.lines().map(|line| line.split_once('\t').unwrap()) {
        assert_eq!(normalize(text), expected, "{text}");
        lines += 1;
    }
    assert!(lines > 25);
    assert_eq!([errors("a b c d", "a x c"), errors("", "a b"), errors("a b", "b a")], [2, 2, 2]);
}

#[test]
fn clips_are_heard_no_worse_than_transformers_hears_them() {
    let mut whisper = transcriber(cpu());
    let (mut ours, mut theirs, mut words) = (0, 0, 0);
    for clip in clips() {
        let file = folder().join(clip["file"].as_str().unwrap());
        let reference = clip["normalized_reference"].as_str().unwrap();
        let mut found: Vec<Segment> = Vec::new();
        let sound = Reader::open(&file, whisper.rate()).unwrap();
        let transcript = whisper.transcribe(sound, |s| found.push(s.clone()), |_| ()).unwrap();
        println!("{}: {:?}", file.display(), transcript.segments);
        assert_eq!(transcript.segments, found);
        check_times(&transcript);
        ours += errors(reference, &normalize(&transcript.text));
        // Transformers' own default for short sounds: without timestamps.
        let plain = clip["plain"]["text"].as_str().unwrap();
        assert_eq!(transcript.text, plain);
        theirs += errors(reference, &normalize(plain));
        words += reference.split_whitespace().count();
    }
    println!("{ours} errors, transformers {theirs}, of {words} words");
    assert!(words == 71 && ours <= theirs, "{ours} errors of {words} words, transformers makes {theirs}");
}

/// A GGUF file transcribes as transformers does: it holds the vocabulary and the settings of the features.
#[test]
fn languages_and_tasks_of_a_multilingual_model_are_those_of_transformers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let golden = std::fs::read(root.join("tests/multilingual/expected.json")).unwrap();
    let golden: Value = serde_json::from_slice(&golden).unwrap();
    let (mut texts, mut detected) = (Vec::new(), 0);
    for case in golden["cases"].as_array().unwrap() {
        let language = case["language"].as_str().map(str::to_string);
        detected += usize::from(language.is_none());
        let checkpoint = Checkpoint::open(root.join("tests/multilingual/model")).unwrap();
        let Model::Speech(model) = percept::model::open(Arc::new(checkpoint)).unwrap() else {
            panic!("it is a Whisper checkpoint")
        };
        // Greedy alone: random weights say nothing that passes the thresholds.
        let how = TranscribeOptions {
            language,
            translate: case["translate"] == true,
            temperatures: vec![0.0],
            no_speech: 1.0,
            ..TranscribeOptions::default()
        };
        let options = CompileOptions { strict: true, ..CompileOptions::default() };
        let mut whisper = Transcriber::new(model, cpu(), options, how).unwrap();
        let audio = root.join("tests/parity/media/chirp7.wav");
        let samples = decode(&audio, whisper.rate(), &Limits::default()).unwrap().samples;
        let found = whisper.transcribe([Ok(samples)], |_| {}, |_| {}).unwrap();
        assert_eq!(found.language, case["spoken"].as_str().unwrap(), "{case}");
        // Where segments begin, spaces and halves of characters may differ.
        let plain = |text: &str| text.chars().filter(char::is_ascii_graphic).collect::<String>();
        assert_eq!(plain(&found.text), plain(case["text"].as_str().unwrap()), "{case}");
        texts.push(found.text);
    }
    assert_eq!((detected, texts.len()), (2, 8));
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), 6, "each language and task has a transcript of its own");
}

#[test]
fn a_gguf_file_is_heard_as_the_model_that_it_was_made_of() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("whisper.gguf");
    let from = Checkpoint::open(assets::asset("whisper-tiny.en")).unwrap();
    percept::model::checkpoint::convert(&from, &file, None).unwrap();
    let clips = &clips()[..2];
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_percept"))
        .args(["transcribe", "--device", "cpu", "--json", "--model"])
        .arg(&file)
        .args(clips.iter().map(|clip| self::folder().join(clip["file"].as_str().unwrap())))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    for clip in clips {
        let heard = serde_json::to_string(&clip["plain"]["text"]).unwrap();
        assert!(text.contains(&heard), "{heard} is not in {text}");
    }
}

/// Less than a tenth of a second behind a window is passed over; as a whole sound it is not.
#[test]
fn a_sound_of_a_few_milliseconds_is_heard() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity");
    let checkpoint = Checkpoint::open(folder.join("whisper/model")).unwrap();
    let Model::Speech(model) = percept::model::open(Arc::new(checkpoint)).unwrap() else {
        panic!("it is a Whisper checkpoint")
    };
    let options = TranscribeOptions::default();
    let mut whisper = Transcriber::new(model, cpu(), CompileOptions::default(), options).unwrap();
    let sound = decode(&folder.join("media/chirp7.wav"), whisper.rate(), &Limits::default()).unwrap().samples;
    for (samples, expected) in [(whisper.rate() as usize / 20, 1), (0, 0)] {
        let mut windows = 0;
        let short = sound[..samples].to_vec();
        let transcript = whisper.transcribe([Ok(short)], |_| (), |_| windows += 1).unwrap();
        assert_eq!(windows, expected, "{samples} samples");
        assert!((transcript.seconds - samples as f64 / f64::from(whisper.rate())).abs() < 1e-6);
    }
}

#[test]
fn words_said_without_times_are_cut_where_the_speaker_pauses() {
    let mut whisper = transcriber(cpu());
    let rate = whisper.rate();
    let mut samples = Vec::new();
    for clip in &clips()[..2] {
        let file = folder().join(clip["file"].as_str().unwrap());
        samples.extend(decode(&file, rate, &Limits::default()).unwrap().samples);
        samples.extend(vec![0.0; rate as usize]);
    }
    let transcript = whisper.transcribe([Ok(samples)], |_| (), |_| ()).unwrap();
    println!("{transcript:?}");
    check_times(&transcript);
    assert!(transcript.segments.len() >= 2, "{transcript:?}");
}

#[test]
fn tokens_and_words_are_said_when_transformers_finds_that_they_are() {
    let golden = std::fs::read(folder().join("words.json")).unwrap();
    let golden: Vec<Value> = serde_json::from_slice(&golden).unwrap();
    let mut whisper =
        transcriber_with(cpu(), TranscribeOptions { words: true, ..TranscribeOptions::default() });
    let (mut equal, mut all) = (0, 0);
    for clip in &golden {
        let file = folder().join(clip["file"].as_str().unwrap());
        let sound = decode(&file, whisper.rate(), &Limits::default()).unwrap();
        // The same tokens as transformers said, so that nothing but their times can differ.
        let tokens: Vec<i32> = serde_json::from_value(clip["tokens"].clone()).unwrap();
        let ends: Vec<f64> = serde_json::from_value(clip["ends"].clone()).unwrap();
        let found = whisper.token_ends_of(&sound, &tokens).unwrap();
        assert_eq!(found.len(), ends.len());
        let seconds = sound.samples.len() as f64 / f64::from(whisper.rate());
        for (f, e) in found.iter().zip(&ends) {
            // transformers lets the last tokens of some clips end behind the sound, though it was told the length.
            if *e > seconds {
                assert!(*f <= seconds, "{}: {f} in {seconds} s", file.display());
                continue;
            }
            // A near tie may be broken by one frame.
            assert!((f - e).abs() < 0.0401, "{}: {f} instead of {e}", file.display());
            equal += usize::from((f - e).abs() < 1e-6);
            all += 1;
        }
        // What is transcribed has its words in the same places.
        let transcript = whisper.transcribe([Ok(sound.samples)], |_| (), |_| ()).unwrap();
        let words: Vec<_> = transcript.segments.iter().flat_map(|s| &s.words).collect();
        let joined = words.iter().map(|w| &w.text[..]).collect::<Vec<_>>().join(" ");
        assert_eq!(joined.replace(' ', ""), transcript.text.replace(' ', ""));
        assert!(
            words.windows(2).all(|w| w[0].start <= w[0].end && w[0].end <= w[1].start + 1e-9),
            "{words:?}"
        );
    }
    println!("{equal} of {all} tokens end in the same frame");
    assert!(equal * 100 >= all * 95, "{equal} of {all} tokens end in the same frame");
}

#[test]
fn words_of_rows_have_the_times_of_their_rows_and_what_a_prompt_would_say_is_refused() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity");
    let open = |how: TranscribeOptions| {
        let checkpoint = Checkpoint::open(folder.join("parakeet-tdt/model")).unwrap();
        let Model::Frames(model) = percept::model::open(Arc::new(checkpoint)).unwrap() else {
            panic!("Parakeet names tokens row by row")
        };
        FrameTranscriber::new(model, cpu(), CompileOptions::default(), how)
    };
    let mut parakeet = open(TranscribeOptions { words: true, ..TranscribeOptions::default() }).unwrap();
    let sound = decode(&folder.join("media/speech7.wav"), parakeet.rate(), &Limits::default()).unwrap();
    let named = parakeet.named(&sound.samples).unwrap();
    let mut pieces = sound.samples.chunks(1000).map(|piece| Ok(piece.to_vec()));
    let heard = parakeet.transcribe_pieces(&mut pieces, &mut |_| (), &mut |_| ()).unwrap();
    let words: Vec<_> = heard.segments.iter().flat_map(|s| &s.words).collect();
    assert_eq!(words.iter().map(|w| &w.text[..]).collect::<Vec<_>>().join(" "), heard.text);
    // Rows are 80 ms long.
    let (first, last) = (named[0].rows[0] as f64 * 0.08, named[named.len() - 1].rows[1] as f64 * 0.08);
    assert!(
        (words[0].start - first).abs() < 1e-3 && (words[words.len() - 1].end - last).abs() < 1e-3,
        "{words:?}"
    );
    assert!(words.windows(2).all(|w| w[0].end <= w[1].start + 1e-9), "{words:?}");
    for (how, says) in [
        (TranscribeOptions { language: Some("de".into()), ..TranscribeOptions::default() }, "language"),
        (TranscribeOptions { translate: true, ..TranscribeOptions::default() }, "translate"),
        (TranscribeOptions { condition: true, ..TranscribeOptions::default() }, "before a window"),
        (TranscribeOptions { temperatures: vec![0.4], ..TranscribeOptions::default() }, "sampled"),
    ] {
        let why = open(how).err().unwrap().to_string();
        assert!(why.contains(says), "{why}");
    }
}

/// Segments follow one another within the sound.
fn check_times(transcript: &Transcript) {
    let mut last = 0.0;
    for s in &transcript.segments {
        assert!(s.start >= last && s.end > s.start && !s.text.is_empty(), "{s:?} after {last}");
        last = s.end;
    }
    assert!(last <= transcript.seconds + 1.0, "{last} of {}", transcript.seconds);
}

#[test]
fn a_long_sound_is_heard_in_the_memory_of_a_short_one() {
    alone(long_sound_in_little_memory);
}

fn long_sound_in_little_memory() {
    let mut whisper = transcriber(cpu());
    let rate = whisper.rate();
    let mut reference = String::new();
    let mut once = Vec::new();
    for clip in clips() {
        once.extend(
            decode(&folder().join(clip["file"].as_str().unwrap()), rate, &Limits::default()).unwrap().samples,
        );
        once.extend(vec![0.0; rate as usize / 2]);
        reference += clip["normalized_reference"].as_str().unwrap();
        reference.push(' ');
    }
    // Two minutes and more, in pieces of a length that divides nothing.
    let times = 5;
    let pieces = (0..times).flat_map(|_| once.chunks(4_567)).map(|piece| Ok(piece.to_vec()));
    let mut memory = Vec::new();
    let transcript =
        whisper.transcribe(pieces, |_| (), |seconds| memory.push((seconds, resident()))).unwrap();
    check_times(&transcript);
    let seconds = (times * once.len()) as f64 / f64::from(rate);
    assert!((transcript.seconds - seconds).abs() < 1e-6 && memory.len() >= 4, "{memory:?}");
    if let (Some(&(_, Some(first))), Some(&(_, Some(last)))) = (memory.get(1), memory.last()) {
        assert!(last < first + (16 << 20), "{memory:?}");
    }
    let reference = reference.repeat(times);
    let errors = errors(&reference, &normalize(&transcript.text));
    let words = reference.split_whitespace().count();
    println!("{errors} errors of {words} words in {seconds:.0} s; {}", transcript.text);
    assert!(errors * 10 < words, "{errors} errors of {words} words: {}", transcript.text);
}

/// Bytes of this process in memory, where the system says.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kb| kb << 10)
}
