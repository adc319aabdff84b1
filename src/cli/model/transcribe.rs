//! `percept transcribe`: the speech of audio files as text.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use percept::hal::CompileOptions;
use percept::infer::{
    Captions, FrameTranscriber, Segment, Transcribe as Transcribes, TranscribeOptions, Transcriber,
    Transcript, Word,
};
use percept::modalities::audio::Reader;
use percept::model::Model;
use serde_json::json;

use super::loading::{Loading, report_fallbacks};
use crate::cli::Failure;
use crate::cli::failure::write_file;
use crate::cli::output::printable_lines;

#[derive(Args)]
pub struct Transcribe {
    #[command(flatten)]
    loading: Loading,
    /// Format of the transcripts
    #[arg(long, default_value = "txt", value_name = "F")]
    format: Format,
    /// Print one JSON document; the same as --format json
    #[arg(long)]
    json: bool,
    /// Write each transcript to a file of its own in this folder, named like the audio file
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The language that is spoken, as a code like en or a name like english; by default detected by the
    /// model
    #[arg(long, value_name = "CODE")]
    language: Option<String>,
    /// Transcribe in the language that is spoken, or translate into English; both need a multilingual Whisper
    /// for any language but English
    #[arg(long, default_value = "transcribe", value_name = "T")]
    task: Task,
    /// The same as --task translate
    #[arg(long)]
    translate: bool,
    /// Find the times of each word: words with start and end in JSON, one caption per word in SubRip and
    /// WebVTT
    #[arg(long)]
    word_timestamps: bool,
    /// Begin the prompt of each window with the text before it: names are spelled alike, but an error may be
    /// repeated
    #[arg(long)]
    condition_on_previous_text: bool,
    /// The seed of sampling, which is used for windows whose first transcript fails
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Audio files of any length: Wave, FLAC, MP3, AAC, Vorbis; `-` reads one from standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Task {
    Transcribe,
    Translate,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Txt,
    Srt,
    Vtt,
    Json,
}

impl Format {
    fn captions(self) -> Option<Captions> {
        match self {
            Format::Txt => Some(Captions::Text),
            Format::Srt => Some(Captions::Srt),
            Format::Vtt => Some(Captions::Vtt),
            Format::Json => None,
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Format::Txt => "txt",
            Format::Srt => "srt",
            Format::Vtt => "vtt",
            Format::Json => "json",
        }
    }
}

impl Transcribe {
    pub fn run(self) -> Result<(), Failure> {
        let format = if self.json { Format::Json } else { self.format };
        let captions = format.captions();
        if matches!(format, Format::Srt | Format::Vtt) && self.files.len() > 1 && self.out.is_none() {
            let why = "captions of several files do not fit into one document; name a folder with --out";
            return Err(Failure::Usage(why.into()));
        }
        if self.word_timestamps && format == Format::Txt {
            let why =
                "plain text cannot hold times; add --format srt, vtt or json, or leave --word-timestamps out";
            return Err(Failure::Usage(why.into()));
        }
        if self.files.iter().filter(|f| is_standard_input(f)).count() > 1 {
            return Err(Failure::Usage("standard input can be read once: give - once".into()));
        }
        let mut transcriber = self.transcriber()?;
        let mut documents = Vec::new();
        let mut failed = 0;
        for file in &self.files {
            // What is printed as it is found; the rest is written when a file is done.
            let stream = captions.filter(|_| self.out.is_none());
            let transcript = match self.transcribe(&mut *transcriber, file, stream) {
                Ok(transcript) => transcript,
                // One damaged file does not cost the others their transcripts.
                Err(failure) if self.files.len() > 1 => {
                    eprintln!("error: {}", printable_lines(&failure.message()));
                    failed += 1;
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            let document = document(file, &transcript);
            if let Some(folder) = &self.out {
                let text = captions.map_or_else(|| format!("{document}\n"), |c| whole(c, &transcript));
                write_beside(folder, file, format, &text)?;
            }
            documents.push(document);
        }
        if format == Format::Json && self.out.is_none() {
            println!("{}", serde_json::Value::Array(documents));
        }
        report_fallbacks(transcriber.all_reports().into_iter());
        match failed {
            0 => Ok(()),
            n => {
                Err(Failure::Negative(format!("{n} of {} files could not be transcribed", self.files.len())))
            }
        }
    }

    fn transcriber(&self) -> Result<Box<dyn Transcribes>, Failure> {
        let model = self.loading.open()?;
        let (device, host) = self.loading.device()?;
        let compile = CompileOptions { strict: self.loading.strict, host, ..CompileOptions::default() };
        let options = TranscribeOptions {
            language: self.language.clone(),
            translate: self.translate || self.task == Task::Translate,
            words: self.word_timestamps,
            condition: self.condition_on_previous_text,
            seed: self.seed,
            ..TranscribeOptions::default()
        };
        Ok(match model {
            Model::Speech(model) => Box::new(Transcriber::new(model, device, compile, options)?),
            Model::Frames(model) => Box::new(FrameTranscriber::new(model, device, compile, options)?),
            _ => {
                let why = "this model does not transcribe speech; give a checkpoint of Whisper or Parakeet";
                return Err(Failure::Usage(why.into()));
            }
        })
    }

    fn transcribe(
        &self,
        transcriber: &mut dyn Transcribes,
        file: &Path,
        stream: Option<Captions>,
    ) -> Result<Transcript, Failure> {
        // Containers are read back and forth, which a pipe cannot be.
        let piped = if is_standard_input(file) { Some(standard_input()?) } else { None };
        let audio = match &piped {
            Some(bytes) => Reader::from_bytes("standard input", bytes, transcriber.rate()),
            None => Reader::open(file, transcriber.rate()),
        };
        let audio = audio.map_err(percept::infer::Error::from)?;
        let bar = progress(audio.seconds());
        bar.set_message(file.display().to_string());
        let print = |text: &str| bar.suspend(|| print!("{text}"));
        if let Some(captions) = stream {
            if self.files.len() > 1 {
                print(&format!("{}:\n", file.display()));
            }
            print(captions.head());
        }
        let mut index = 0;
        let mut found = |segment: &Segment| {
            if let Some(captions) = stream {
                for cue in cues(segment) {
                    print(&captions.segment(index, &cue));
                    index += 1;
                }
            }
        };
        let mut audio = audio.into_iter();
        let transcript = transcriber
            .transcribe_pieces(&mut audio, &mut found, &mut |seconds| bar.set_position(seconds as u64));
        bar.finish_and_clear();
        Ok(transcript?)
    }
}

/// A line on standard error: seconds done, how many times faster than real time, and the time left.
fn progress(seconds: Option<f64>) -> ProgressBar {
    let (bar, template) = match seconds {
        Some(seconds) => (
            ProgressBar::new(seconds.ceil() as u64),
            "{msg} {wide_bar} {pos}/{len} s, {per_sec} real time, {eta} left",
        ),
        None => (ProgressBar::no_length(), "{msg} {spinner} {pos} s, {per_sec} real time"),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(4));
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.with_key(
            "per_sec",
            |state: &indicatif::ProgressState, w: &mut dyn std::fmt::Write| {
                // Nothing can be done about a line that cannot be written.
                let _ = write!(w, "{:.1}x", state.per_sec());
            },
        ));
    }
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

fn is_standard_input(file: &Path) -> bool {
    file == Path::new("-")
}

fn standard_input() -> Result<Vec<u8>, Failure> {
    let failure = |source| Failure::File { path: "standard input".into(), source };
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes).map_err(failure)?;
    match bytes.is_empty() {
        true => Err(Failure::Usage("standard input is empty: pipe an audio file into it".into())),
        false => Ok(bytes),
    }
}

/// What is shown at once: each word where words have times, else the segment.
fn cues(segment: &Segment) -> Vec<Segment> {
    if segment.words.is_empty() {
        return vec![segment.clone()];
    }
    let cue = |w: &Word| Segment { start: w.start, end: w.end, text: w.text.clone(), words: Vec::new() };
    segment.words.iter().map(cue).collect()
}

fn document(file: &Path, transcript: &Transcript) -> serde_json::Value {
    let word = |w: &Word| json!({"start": w.start, "end": w.end, "text": w.text});
    let segment = |s: &Segment| {
        let mut segment = json!({"start": s.start, "end": s.end, "text": s.text});
        if !s.words.is_empty() {
            segment["words"] = s.words.iter().map(word).collect();
        }
        segment
    };
    json!({
        "file": file.display().to_string(),
        "text": transcript.text,
        "segments": transcript.segments.iter().map(segment).collect::<Vec<_>>(),
        "language": transcript.language,
        "seconds": transcript.seconds,
    })
}

fn whole(captions: Captions, transcript: &Transcript) -> String {
    let cues = transcript.segments.iter().flat_map(cues).enumerate();
    let segments = cues.map(|(i, s)| captions.segment(i, &s));
    std::iter::once(captions.head().to_string()).chain(segments).collect()
}

fn write_beside(folder: &Path, file: &Path, format: Format, text: &str) -> Result<(), Failure> {
    let failure = |source| Failure::File { path: folder.to_path_buf(), source };
    std::fs::create_dir_all(folder).map_err(failure)?;
    let file = if is_standard_input(file) { Path::new("standard-input") } else { file };
    let name = Path::new(file.file_name().unwrap_or_default()).with_extension(format.extension());
    write_file(&folder.join(name), text.as_bytes())
}
