//! Transcription of audio of any length: with Whisper here, with models that name a token for every row of sound in
//! `frames.rs`.
//!
//! Whisper's audio is transcribed in windows of 30 seconds. The tokens of a window include timestamps, and the next window
//! starts where the last whole segment ended. Audio that fits one window is decoded without timestamps, because then
//! the model makes fewer errors, and the timestamps are found afterwards (`align.rs`). A transcript that repeats
//! itself, or to which the model gives a low probability, is decoded again at a higher temperature, and a silent
//! window is skipped: the rules of the Whisper paper (Radford et al. 2022, section 4.5) with its thresholds. Memory
//! does not grow with the length of the audio: samples are read as they are needed, and every window uses the same
//! buffers.

mod align;
mod captions;
mod frames;
mod language;
mod rules;
mod segments;
mod speech_model;
mod task;
mod words;

use std::io::Write;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use percept_hal::{CompileOptions, CompileReport, Device};
use percept_modalities::audio::Waveform;
use percept_modalities::{Array, Values};
use percept_model::family::Whisper;

use crate::error::{Error, Result};
use crate::sampler::{Sampler, Sampling};

pub use captions::Captions;
pub use frames::{FrameTranscriber, Named};
pub use speech_model::SpeechModel;
pub use task::Task;
pub use words::Word;

use rules::log_sum_exp;
use segments::{Span, split};
use words::alignment_heads;

/// A rest of the audio that is shorter than this holds no word and is skipped, unless it is all there is.
const LEAST_SECONDS: f64 = 0.1;

/// How audio is transcribed.
#[derive(Debug, Clone, PartialEq)]
pub struct TranscribeOptions {
    /// The language that is spoken, as a code like `en`; detected from the first window when it is `None`.
    pub language: Option<String>,
    /// Translate into English instead of transcribing in the language that is spoken.
    pub translate: bool,
    /// Find the start and the end of each word.
    pub words: bool,
    /// Begin the prompt of each window with the text before it: names are spelled alike, but an error may be repeated.
    pub condition: bool,
    /// Temperatures, tried one after the other until a transcript passes the thresholds below.
    pub temperatures: Vec<f32>,
    /// A transcript whose length is more than this many times that of its zlib stream repeats itself, and fails.
    pub compression_ratio: f64,
    /// A transcript whose tokens have a mean log-probability below this fails.
    pub log_probability: f64,
    /// A window whose probability of silence is above this, and whose log-probability fails, is skipped.
    pub no_speech: f64,
    /// The seed of sampling at temperatures above 0.
    pub seed: u64,
}

impl Default for TranscribeOptions {
    fn default() -> Self {
        Self {
            language: None,
            translate: false,
            words: false,
            condition: false,
            temperatures: vec![0.0, 0.2, 0.4, 0.6, 0.8, 1.0],
            compression_ratio: 2.4,
            log_probability: -1.0,
            no_speech: 0.6,
            seed: 0,
        }
    }
}

/// A stretch of speech and its text.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// Seconds from the start of the audio.
    pub start: f64,
    /// Seconds from the start of the audio.
    pub end: f64,
    /// The text.
    pub text: String,
    /// The words of the text, where [`TranscribeOptions::words`] is set.
    pub words: Vec<Word>,
}

/// The transcript of an audio file or stream.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Transcript {
    /// The text of all segments.
    pub text: String,
    /// The segments, in order.
    pub segments: Vec<Segment>,
    /// The language, as a code like `en`.
    pub language: String,
    /// The length of the audio in seconds.
    pub seconds: f64,
}

/// A model on a device that transcribes audio of any length.
pub trait Transcribe: Send {
    /// Samples per second of the audio that it takes.
    fn rate(&self) -> u32;

    /// Transcribe under other options from now on.
    ///
    /// # Errors
    /// When an option does not fit the model; the old ones stay then.
    fn set_options(&mut self, options: TranscribeOptions) -> Result<()>;

    /// Transcribe audio that comes in pieces of mono samples at [`Transcribe::rate`]. `found` is called with every segment
    /// as it is found, `progress` after every window with the seconds that are done.
    ///
    /// # Errors
    /// When the audio cannot be read or the device fails.
    fn transcribe_pieces(
        &mut self,
        audio: &mut dyn Iterator<Item = percept_modalities::Result<Vec<f32>>>,
        found: &mut dyn FnMut(&Segment),
        progress: &mut dyn FnMut(f64),
    ) -> Result<Transcript>;

    /// What was compiled so far.
    fn all_reports(&self) -> Vec<&CompileReport>;
}

impl Transcribe for Transcriber {
    fn rate(&self) -> u32 {
        Self::rate(self)
    }

    fn set_options(&mut self, options: TranscribeOptions) -> Result<()> {
        Self::set_options(self, options)
    }

    fn transcribe_pieces(
        &mut self,
        audio: &mut dyn Iterator<Item = percept_modalities::Result<Vec<f32>>>,
        found: &mut dyn FnMut(&Segment),
        progress: &mut dyn FnMut(f64),
    ) -> Result<Transcript> {
        self.transcribe(audio, found, progress)
    }

    fn all_reports(&self) -> Vec<&CompileReport> {
        self.reports().collect()
    }
}

/// Whisper on a device, ready to transcribe.
pub struct Transcriber {
    model: SpeechModel,
    task: Task,
    /// The attention heads that align tokens with audio, each a layer and its head.
    alignment: Vec<(usize, usize)>,
    options: TranscribeOptions,
}

/// The result of decoding a window at one temperature.
struct Attempt {
    tokens: Vec<i32>,
    log_probability: f64,
    no_speech: f64,
    text: String,
    temperature: f32,
}

impl Transcriber {
    /// Bring a model to a device.
    ///
    /// # Errors
    /// When its vocabulary lacks Whisper's special tokens, an option does not fit it, or the device cannot run it.
    pub fn new(
        model: Box<Whisper>,
        device: Arc<dyn Device>,
        compile: CompileOptions,
        options: TranscribeOptions,
    ) -> Result<Self> {
        let task = Task::new(&model, &options)?;
        let vocab = model.decoder().vocab;
        if task.rules.timestamps() >= vocab {
            let why = format!("the model has {vocab} tokens and none of them is a timestamp");
            return Err(Error::Setting(why));
        }
        let blocks = &model.decoder().stack.blocks;
        let heads = blocks.first().and_then(|b| b.cross.as_ref()).map_or(0, |cross| cross.heads);
        let alignment = alignment_heads(model.generation(), blocks.len(), heads)?;
        Ok(Self { model: SpeechModel::new(model, device, compile)?, task, alignment, options })
    }

    /// Transcribe under other options from now on.
    ///
    /// # Errors
    /// When an option does not fit the model; the old ones stay then.
    pub fn set_options(&mut self, options: TranscribeOptions) -> Result<()> {
        self.task = Task::new(self.model.model(), &options)?;
        self.options = options;
        Ok(())
    }

    /// The encoder and the decoder on their device.
    pub fn speech_model(&self) -> &SpeechModel {
        &self.model
    }

    /// The encoder and the decoder on their device, to run them separately.
    pub fn speech_model_mut(&mut self) -> &mut SpeechModel {
        &mut self.model
    }

    /// Samples per second of the audio that it takes.
    pub fn rate(&self) -> u32 {
        self.model.model().features().rate()
    }

    /// What was compiled so far.
    pub fn reports(&self) -> impl Iterator<Item = &CompileReport> {
        self.model.reports()
    }

    /// Transcribe audio that comes in pieces of mono samples at [`Transcriber::rate`]. `found` is called with every
    /// segment as it is found, `progress` after every window with the seconds that are done.
    ///
    /// # Errors
    /// When the audio cannot be read or the device fails.
    pub fn transcribe(
        &mut self,
        audio: impl IntoIterator<Item = percept_modalities::Result<Vec<f32>>>,
        mut found: impl FnMut(&Segment),
        mut progress: impl FnMut(f64),
    ) -> Result<Transcript> {
        let features = self.model.model().features().clone();
        let (window, frames, rate) = (features.samples(), features.frames(), f64::from(features.rate()));
        let hop = window / frames;
        let mut pieces = audio.into_iter();
        let mut transcript = Transcript::default();
        let mut language = self.task.language.clone();
        let mut before: Vec<i32> = Vec::new();
        let (mut samples, mut done) = (Vec::<f32>::new(), 0usize);
        let mut round = 0;
        loop {
            while samples.len() < window
                && let Some(piece) = pieces.next()
            {
                samples.extend(piece?);
            }
            let rest = round > 0 && (samples.len() as f64) < LEAST_SECONDS * rate;
            if samples.is_empty() || rest {
                transcript.seconds = (done + samples.len()) as f64 / rate;
                break;
            }
            let content = samples.len().min(window);
            let piece = Waveform { samples: samples[..content].to_vec(), rate: features.rate() };
            let Array { values: Values::F32(values), .. } = features.features(&piece)? else {
                return Err(Error::Setting("the feature extractor gave no numbers".into()));
            };
            self.model.start_window(&values)?;
            if language.is_none() && !self.task.languages.is_empty() {
                language = Some(self.language()?);
            }
            let content_frames = content.div_ceil(hop).min(frames);
            // The next piece, if there is one, shows that the audio goes on after this window.
            if round == 0 && samples.len() == window {
                samples.extend(pieces.next().transpose()?.unwrap_or_default());
            }
            let timed = round > 0 || samples.len() > window;
            let decoded = self.decode_with_fallback(language.as_deref(), &before, timed, round)?;
            round += 1;
            let mut ends = Vec::new();
            let (spans, advance) = match decoded {
                Some(mut attempt) => {
                    if !timed {
                        attempt.tokens = self.align(language.as_deref(), &attempt.tokens)?;
                    }
                    if self.options.words {
                        ends = self.token_ends(language.as_deref(), &attempt.tokens, content_frames)?;
                    }
                    let (spans, advance) = split(&self.task.rules, &attempt.tokens, content_frames);
                    before = self.carried(before, &attempt);
                    (spans, advance)
                }
                None => (Vec::new(), content_frames),
            };
            let offset = done as f64 / rate;
            for mut span in spans {
                // The model may put the end of the last words after the end of the audio.
                span.end = span.end.min(content as f64 / rate);
                if let Some(mut segment) = self.segment(&span, offset)? {
                    if self.options.words {
                        let last = content as f64 / rate;
                        segment.words = self.words(&span, &ends, language.as_deref(), offset, last)?;
                    }
                    found(&segment);
                    transcript.segments.push(segment);
                }
            }
            let moved = (advance * hop).min(samples.len());
            samples.drain(..moved);
            done += moved;
            progress(done as f64 / rate);
        }
        let texts: Vec<&str> = transcript.segments.iter().map(|s| &s.text[..]).collect();
        transcript.text = texts.join(" ");
        transcript.language = language.unwrap_or_else(|| "en".into());
        Ok(transcript)
    }

    /// The most likely language of the current window.
    fn language(&mut self) -> Result<String> {
        let logits = self.model.decode(&[self.task.start], 0, &[0])?;
        let logit = |id: i32| logits.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY);
        let best = self.task.languages.iter().max_by(|a, b| logit(a.1).total_cmp(&logit(b.1)));
        Ok(best.map_or_else(|| "en".into(), |l| l.0.clone()))
    }

    /// Decode the current window at each temperature in turn, until a transcript passes the thresholds; the last one
    /// where none does, and `None` for silence.
    fn decode_with_fallback(
        &mut self,
        language: Option<&str>,
        before: &[i32],
        timed: bool,
        round: u64,
    ) -> Result<Option<Attempt>> {
        let temperatures = self.options.temperatures.clone();
        let mut last = None;
        for (i, &temperature) in temperatures.iter().enumerate() {
            let stream = round * temperatures.len() as u64 + i as u64;
            let attempt = self.decode_window(language, before, timed, temperature, stream)?;
            let unlikely = attempt.log_probability < self.options.log_probability;
            let silent = unlikely && attempt.no_speech > self.options.no_speech;
            let repeats = compression_ratio(&attempt.text) > self.options.compression_ratio;
            if silent {
                return Ok(None);
            }
            last = Some(attempt);
            if !unlikely && !repeats {
                break;
            }
        }
        Ok(last)
    }

    /// Decode the current window at one temperature.
    fn decode_window(
        &mut self,
        language: Option<&str>,
        before: &[i32],
        timed: bool,
        temperature: f32,
        stream: u64,
    ) -> Result<Attempt> {
        let context = self.model.model().decoder().context;
        let vocab = self.model.model().decoder().vocab;
        let (prompt, start) = self.task.prompt(language, before, timed);

        let settings = Sampling { temperature, seed: self.options.seed, stream, ..Sampling::default() };
        let mut sampler = Sampler::new(settings, &[], vocab)?;
        let logits = self.model.decode(&prompt, 0, &[start, prompt.len() - 1])?;
        let (at_start, logits) = logits.split_at(vocab);
        let silence = self.task.no_speech.and_then(|t| at_start.get(t));
        let no_speech = silence.map_or(0.0, |&x| f64::from(x - log_sum_exp(at_start)).exp());
        let mut logits = logits.to_vec();
        let (mut tokens, mut sum) = (Vec::new(), 0.0);
        let longest = (context / 2).min(context - prompt.len());
        let mut scores = 0;
        while scores < longest {
            if timed {
                self.task.rules.apply(&tokens, &mut logits);
            } else {
                self.task.rules.suppress(&tokens, &mut logits);
            }
            let total = log_sum_exp(&logits);
            let unchosen = logits.clone();
            let token = sampler.choose(&mut logits);
            sum += f64::from(unchosen.get(token as usize).copied().unwrap_or(total) - total);
            scores += 1;
            if token as usize == self.task.rules.end {
                break;
            }
            tokens.push(token);
            if scores < longest {
                logits = self.model.decode(&[token], prompt.len() + tokens.len() - 1, &[0])?;
            }
        }
        let text = self.text(&tokens)?;
        Ok(Attempt { text, log_probability: sum / scores as f64, no_speech, tokens, temperature })
    }

    /// The tokens that the prompt of the next window begins with.
    fn carried(&self, mut before: Vec<i32>, attempt: &Attempt) -> Vec<i32> {
        // Text from a high temperature is no good example.
        if !self.options.condition || attempt.temperature >= 0.5 {
            return Vec::new();
        }
        before.extend(&attempt.tokens);
        let most = self.model.model().decoder().context / 2;
        before.drain(..before.len().saturating_sub(most));
        before
    }

    /// A span as a segment of the whole audio; `None` when it has no text or no length.
    fn segment(&self, span: &Span, offset: f64) -> Result<Option<Segment>> {
        let text = self.text(&span.tokens)?.trim().to_string();
        // To a tenth of a millisecond, so that sums of 0.02 do not show their error.
        let round = |seconds: f64| ((offset + seconds) * 1e4).round() / 1e4;
        let segment = Segment { start: round(span.start), end: round(span.end), text, words: Vec::new() };
        Ok(Some(segment).filter(|s| !s.text.is_empty() && s.end > s.start))
    }

    /// The text of tokens, timestamps and other special ones left out.
    fn text(&self, tokens: &[i32]) -> Result<String> {
        let words: Vec<u32> =
            tokens.iter().map(|&t| t as u32).filter(|&t| (t as usize) < self.task.rules.end).collect();
        Ok(self.model.model().tokenizer().decode(&words, true)?)
    }
}

/// The length of a text in bytes, divided by that of its zlib stream.
fn compression_ratio(text: &str) -> f64 {
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
    // Writing to memory does not fail.
    let packed = zlib.write_all(text.as_bytes()).and_then(|()| zlib.finish());
    packed.map_or(1.0, |packed| text.len() as f64 / packed.len().max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_repeats_itself_is_found() {
        // Python's zlib.compress makes 0.77 and 13.1 of these; encoders differ by a few bytes.
        let most = TranscribeOptions::default().compression_ratio;
        assert!((compression_ratio("He was not an ill disposed ") - 0.771).abs() < 0.05);
        let repeats = compression_ratio(&"and so on and on ".repeat(20));
        assert!(repeats > 2.0 * most, "{repeats}");
        assert_eq!(compression_ratio(""), 0.0);
    }
}
