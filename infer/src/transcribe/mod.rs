//! Transcription of sound of any length with Whisper.
//!
//! Sound is heard in windows of 30 seconds. What is said about a window has timestamps, and the next window starts where
//! the last whole segment ended. Sound that fits one window is said without timestamps, which costs the model fewer
//! words, and the times are found for its words afterwards. A transcript that repeats itself or that the model itself finds unlikely is said again
//! with some chance, and a window that is silence is skipped: the rules of the Whisper paper (Radford et al. 2022,
//! section 4.5) with its thresholds. Memory does not grow with the sound: its samples are read as they are needed, and
//! every window uses the same buffers.

mod captions;
mod ear;
mod language;
mod place;
mod rules;
mod segments;
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
pub use ear::Ear;
pub use task::Task;
pub use words::Word;

use rules::log_sum_exp;
use segments::{Span, split};
use words::alignment_heads;

/// Less sound than this after a window holds no word. A sound that is no longer as a whole is heard all the same.
const LEAST_SECONDS: f64 = 0.1;

/// How sound is transcribed.
#[derive(Debug, Clone, PartialEq)]
pub struct TranscribeOptions {
    /// The language that is spoken, as a code like `en`; found out from the first window when it is `None`.
    pub language: Option<String>,
    /// Say it in English instead of the language that is spoken.
    pub translate: bool,
    /// Find out when each word was said.
    pub words: bool,
    /// Begin each window with what was said before it. Better names and spelling, but an error may go on for long.
    pub condition: bool,
    /// Tried one after the other until a transcript is good.
    pub temperatures: Vec<f32>,
    /// A transcript that zlib makes smaller than one part in this repeats itself.
    pub compression_ratio: f64,
    /// A mean logarithm of the tokens' probabilities below this is bad.
    pub log_probability: f64,
    /// A window that is silent with more than this probability, and whose transcript is bad, is skipped.
    pub no_speech: f64,
    /// Seeds the chances of temperatures above 0.
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

/// What was said from one moment to another.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// Seconds from the start of the sound.
    pub start: f64,
    /// Seconds from the start of the sound.
    pub end: f64,
    /// What was said.
    pub text: String,
    /// The same word by word, where [`TranscribeOptions::words`] asks for it.
    pub words: Vec<Word>,
}

/// What was said in a sound.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Transcript {
    /// All of it.
    pub text: String,
    /// The same in segments.
    pub segments: Vec<Segment>,
    /// The language, as a code like `en`.
    pub language: String,
    /// Seconds of sound.
    pub seconds: f64,
}

/// Whisper on a device, ready to transcribe.
pub struct Transcriber {
    ear: Ear,
    task: Task,
    /// The heads that tell when a word is said, each a layer and its head.
    alignment: Vec<(usize, usize)>,
    options: TranscribeOptions,
}

/// One way in which a window may be said.
struct Said {
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
        Ok(Self { ear: Ear::new(model, device, compile)?, task, alignment, options })
    }

    /// The model on its device.
    pub fn ear(&self) -> &Ear {
        &self.ear
    }

    /// The same, to run parts of it.
    pub fn ear_mut(&mut self) -> &mut Ear {
        &mut self.ear
    }

    /// Samples per second that it hears.
    pub fn rate(&self) -> u32 {
        self.ear.model().features().rate()
    }

    /// What was compiled so far.
    pub fn reports(&self) -> impl Iterator<Item = &CompileReport> {
        self.ear.reports()
    }

    /// Transcribe a sound that comes in pieces of mono samples at [`Transcriber::rate`]. `found` is told every segment
    /// as it is found, `heard` the seconds that are done after every window.
    ///
    /// # Errors
    /// When the sound cannot be read or the device fails.
    pub fn transcribe(
        &mut self,
        sound: impl IntoIterator<Item = percept_modalities::Result<Vec<f32>>>,
        mut found: impl FnMut(&Segment),
        mut heard: impl FnMut(f64),
    ) -> Result<Transcript> {
        let features = self.ear.model().features().clone();
        let (window, frames, rate) = (features.samples(), features.frames(), f64::from(features.rate()));
        let hop = window / frames;
        let mut pieces = sound.into_iter();
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
            self.ear.hear(&values)?;
            if language.is_none() && !self.task.languages.is_empty() {
                language = Some(self.language()?);
            }
            let content_frames = content.div_ceil(hop).min(frames);
            // The next piece, if there is one, shows that the sound goes on after this window.
            if round == 0 && samples.len() == window {
                samples.extend(pieces.next().transpose()?.unwrap_or_default());
            }
            let timed = round > 0 || samples.len() > window;
            let said = self.say_well(language.as_deref(), &before, timed, round)?;
            round += 1;
            let mut ends = Vec::new();
            let (spans, advance) = match said {
                Some(mut said) => {
                    if !timed {
                        said.tokens = self.place(language.as_deref(), &said.tokens)?;
                    }
                    if self.options.words {
                        ends = self.token_ends(language.as_deref(), &said.tokens, content_frames)?;
                    }
                    let (spans, advance) = split(&self.task.rules, &said.tokens, content_frames);
                    before = self.carried(before, &said);
                    (spans, advance)
                }
                None => (Vec::new(), content_frames),
            };
            let offset = done as f64 / rate;
            for mut span in spans {
                // The model may place the end of the last words beyond that of the sound.
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
            heard(done as f64 / rate);
        }
        let texts: Vec<&str> = transcript.segments.iter().map(|s| &s.text[..]).collect();
        transcript.text = texts.join(" ");
        transcript.language = language.unwrap_or_else(|| "en".into());
        Ok(transcript)
    }

    /// The language of the window that was heard.
    fn language(&mut self) -> Result<String> {
        let logits = self.ear.say(&[self.task.start], 0, &[0])?;
        let logit = |id: i32| logits.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY);
        let best = self.task.languages.iter().max_by(|a, b| logit(a.1).total_cmp(&logit(b.1)));
        Ok(best.map_or_else(|| "en".into(), |l| l.0.clone()))
    }

    /// What is said about the window that was heard: the first good transcript, or the last; `None` for silence.
    fn say_well(
        &mut self,
        language: Option<&str>,
        before: &[i32],
        timed: bool,
        round: u64,
    ) -> Result<Option<Said>> {
        let temperatures = self.options.temperatures.clone();
        let mut last = None;
        for (i, &temperature) in temperatures.iter().enumerate() {
            let stream = round * temperatures.len() as u64 + i as u64;
            let said = self.say(language, before, timed, temperature, stream)?;
            let unlikely = said.log_probability < self.options.log_probability;
            let silent = unlikely && said.no_speech > self.options.no_speech;
            let repeats = compression_ratio(&said.text) > self.options.compression_ratio;
            if silent {
                return Ok(None);
            }
            last = Some(said);
            if !unlikely && !repeats {
                break;
            }
        }
        Ok(last)
    }

    /// Say what was heard at one temperature.
    fn say(
        &mut self,
        language: Option<&str>,
        before: &[i32],
        timed: bool,
        temperature: f32,
        stream: u64,
    ) -> Result<Said> {
        let context = self.ear.model().decoder().context;
        let vocab = self.ear.model().decoder().vocab;
        let (prompt, start) = self.task.prompt(language, before, timed);

        let settings = Sampling { temperature, seed: self.options.seed, stream, ..Sampling::default() };
        let mut sampler = Sampler::new(settings, &[], vocab)?;
        let logits = self.ear.say(&prompt, 0, &[start, prompt.len() - 1])?;
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
                logits = self.ear.say(&[token], prompt.len() + tokens.len() - 1, &[0])?;
            }
        }
        let text = self.text(&tokens)?;
        Ok(Said { text, log_probability: sum / scores as f64, no_speech, tokens, temperature })
    }

    /// What the next window begins with.
    fn carried(&self, mut before: Vec<i32>, said: &Said) -> Vec<i32> {
        // What was said with much chance is no good example.
        if !self.options.condition || said.temperature >= 0.5 {
            return Vec::new();
        }
        before.extend(&said.tokens);
        let most = self.ear.model().decoder().context / 2;
        before.drain(..before.len().saturating_sub(most));
        before
    }

    /// A span as a segment of the whole sound; `None` when nothing was said in it.
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
        Ok(self.ear.model().tokenizer().decode(&words, true)?)
    }
}

/// Bytes of a text over those that zlib makes of it.
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
