//! Transcription by a model that names a token, or none, for every row of sound.
//!
//! Audio up to a window is read at once, as transformers does. Longer audio is read in windows that overlap, and of each the
//! rows in its middle count, which see sound on both sides. A token lasts as long as rows in a row name it.

use std::collections::HashMap;
use std::sync::Arc;

use percept_hal::{Buffer, CompileOptions, CompileReport, Device};
use percept_modalities::audio::Waveform;
use percept_modalities::{Array, Values};
use percept_model::{FrameHead, FrameModel, Transducer};

use super::{LEAST_SECONDS, Segment, TranscribeOptions, Transcript, Word};
use crate::error::{Error, Result};
use crate::runner::{Runner, read_floats, upload_named};

/// Seconds of a window. The memory of attention grows with their square.
const WINDOW: usize = 120;

/// Seconds at each side of a window whose rows do not count where the audio goes on.
const CONTEXT: usize = 6;

/// Frames of features are padded to a multiple of so many, so that few graphs serve all lengths.
const BUCKET: usize = 400;

/// Rows that a transducer joins with what it read at a time.
const TOGETHER: usize = 16;

/// Silence of so many seconds ends a segment.
const PAUSE: f64 = 1.0;

/// A segment goes on to the end of its word after so many seconds.
const LONGEST: f64 = 20.0;

/// A model of frames on a device, ready to transcribe.
pub struct FrameTranscriber {
    model: Box<FrameModel>,
    runner: Runner<String>,
    options: TranscribeOptions,
}

/// A token and the rows that name it: the first one, and the one behind the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    /// The token.
    pub token: u32,
    /// The rows.
    pub rows: [usize; 2],
}

impl FrameTranscriber {
    /// Bring a model to a device.
    ///
    /// # Errors
    /// When an option does not fit the model.
    pub fn new(
        model: Box<FrameModel>,
        device: Arc<dyn Device>,
        compile: CompileOptions,
        options: TranscribeOptions,
    ) -> Result<Self> {
        check(&options)?;
        Ok(Self { model, runner: Runner::new(device, compile, false), options })
    }

    /// The model.
    pub fn model(&self) -> &FrameModel {
        &self.model
    }

    /// What the model's first run gives for features f32[1,frames,bands] of which the first `heard` are no padding: logits
    /// f32[rows,vocab], or rows f32[rows,width] for a transducer.
    ///
    /// # Errors
    /// When the features do not fit the model, or the device fails.
    pub fn encode(&mut self, features: &[f32], heard: usize) -> Result<Vec<f32>> {
        let run = self.model.run(features, heard)?;
        self.runner.prepare(&run.key, &self.model.weights, || Ok(run.graph))?;
        let given: Vec<_> = run.arguments.into_iter().collect();
        let outputs = self.runner.run(&run.key, |device, name, _| upload_named(device, &given, name))?;
        // The graph has this one output.
        read_floats(&**self.runner.device(), &outputs[0].1)
    }

    /// The tokens of a clip of mono samples that is read at once.
    ///
    /// # Errors
    /// When the clip is too short, or the device fails.
    pub fn named(&mut self, clip: &[f32]) -> Result<Vec<Named>> {
        let audio = Waveform { samples: clip.to_vec(), rate: self.model.features.rate() };
        let Array { dims, values: Values::F32(mut features) } = self.model.features.features(&audio)? else {
            return Err(Error::Setting("the feature extractor gave no numbers".into()));
        };
        let heard = self.model.features.heard(clip.len());
        features.resize(dims[1].next_multiple_of(BUCKET) * dims[2], 0.0);
        let given = self.encode(&features, heard)?;
        let (rows, blank) = (self.model.rows(heard), self.model.blank);
        match &self.model.head {
            FrameHead::Ctc => {
                let rows = given.chunks_exact(self.model.vocab).take(rows);
                Ok(merged(rows.map(most_likely), blank))
            }
            FrameHead::Transducer(t) => transduce(&self.model, t, &mut self.runner, &given[..rows * t.width]),
        }
    }

    /// The segments of tokens, a word at a time.
    fn segments(&self, named: &[Named]) -> Result<Vec<Segment>> {
        let step = self.model.step();
        let seconds = |rows: usize| (rows as f64 * step * 1e4).round() / 1e4;
        let mut stream = self.model.tokenizer.stream(true);
        let mut words: Vec<Word> = Vec::new();
        for &Named { token, rows: [from, to] } in named {
            let text = stream.push(token)?;
            let (start, end) = (seconds(from), seconds(to));
            match words.last_mut() {
                // Pieces of a word and its punctuation have no space before them.
                Some(word) if !text.starts_with(char::is_whitespace) => {
                    word.text.push_str(&text);
                    word.end = end;
                }
                _ => words.push(Word { start, end, text: text.trim_start().to_string() }),
            }
        }
        let rest = stream.finish()?;
        if let Some(word) = words.last_mut() {
            word.text.push_str(rest.trim_end());
        }
        words.retain(|word| !word.text.is_empty());
        let mut segments: Vec<Segment> = Vec::new();
        for word in words {
            let goes_on = segments.last_mut().filter(|segment| {
                let ended = segment.text.ends_with(['.', '?', '!']) && word.start - segment.start > 1.0;
                !ended && word.start - segment.end < PAUSE && word.end - segment.start < LONGEST
            });
            match goes_on {
                Some(segment) => {
                    segment.text = format!("{} {}", segment.text, word.text);
                    segment.end = word.end;
                    segment.words.push(word);
                }
                None => segments.push(Segment {
                    start: word.start,
                    end: word.end,
                    text: word.text.clone(),
                    words: vec![word],
                }),
            }
        }
        if !self.options.words {
            segments.iter_mut().for_each(|segment| segment.words.clear());
        }
        Ok(segments)
    }
}

/// Refuses what such a model does not do.
fn check(options: &TranscribeOptions) -> Result<()> {
    let refused = [
        (options.language.is_some(), "the language cannot be given", "it knows the one it was trained on"),
        (options.translate, "it does not translate", "a multilingual Whisper does"),
        (options.condition, "it reads no text before a window", "it has no prompt"),
        (
            options.temperatures.first().is_some_and(|t| *t > 0.0),
            "nothing is sampled",
            "the best token is taken",
        ),
    ];
    match refused.into_iter().find(|(asked, ..)| *asked) {
        Some((_, what, why)) => {
            Err(Error::Setting(format!("this model names a token for every row of sound: {what}, {why}")))
        }
        None => Ok(()),
    }
}

/// The number of the largest value, the first of several.
fn most_likely(values: &[f32]) -> usize {
    (0..values.len()).max_by(|&a, &b| values[a].total_cmp(&values[b]).then(b.cmp(&a))).unwrap_or(0)
}

/// Tokens of rows, the same in a row once and `blank` left out.
fn merged(tokens: impl Iterator<Item = usize>, blank: usize) -> Vec<Named> {
    let (mut named, mut before): (Vec<Named>, usize) = (Vec::new(), blank);
    for (row, token) in tokens.enumerate() {
        match named.last_mut().filter(|_| before == token) {
            _ if token == blank => {}
            Some(last) => last.rows[1] = row + 1,
            None => named.push(Named { token: token as u32, rows: [row, row + 1] }),
        }
        before = token;
    }
    named
}

/// The most likely tokens of a transducer for `rows` f32[n,width], one after the other (transformers'
/// `ParakeetTDTGenerationMixin`, `ParakeetRNNTGenerationMixin`).
fn transduce(
    model: &FrameModel,
    t: &Transducer,
    runner: &mut Runner<String>,
    rows: &[f32],
) -> Result<Vec<Named>> {
    let n = rows.len() / t.width;
    let [read, join] = ["read", "join"].map(String::from);
    runner.prepare(&read, &model.weights, || Ok(t.read(model)?))?;
    runner.prepare(&join, &model.weights, || Ok(t.join(model, TOGETHER)?))?;
    // The memories, and what the tokens so far come to; zeros before the first.
    let mut state: HashMap<String, Buffer> = HashMap::new();
    let mut take = |runner: &mut Runner<String>, token: usize| {
        let outputs = runner.run(&read, |device, name, ty| match (name, state.get(name)) {
            ("id", _) => Ok(device.upload(ty, &(token as i32).to_le_bytes())?),
            (_, Some(kept)) => Ok(kept.clone()),
            (_, None) => Ok(device.zeros(ty)?),
        })?;
        state.extend(outputs);
        let missing = || Error::Setting("the transducer's graph gave no 'read'".into());
        state.get("read").cloned().ok_or_else(missing)
    };
    let mut so_far = take(runner, model.blank)?;
    let width = model.vocab + t.durations.len();
    let (mut named, mut at, mut of_row) = (Vec::<Named>::new(), 0, 0);
    // Logits of some rows in a row, with the tokens so far.
    let (mut first, mut logits) = (0, Vec::<f32>::new());
    while at < n {
        if logits.is_empty() || at >= first + TOGETHER {
            let mut given = rows[at * t.width..n.min(at + TOGETHER) * t.width].to_vec();
            given.resize(TOGETHER * t.width, 0.0);
            let bytes: Vec<u8> = given.iter().flat_map(|v| v.to_le_bytes()).collect();
            let outputs = runner.run(&join, |device, name, ty| match name {
                "rows" => Ok(device.upload(ty, &bytes)?),
                _ => Ok(so_far.clone()),
            })?;
            // The graph has this one output.
            (first, logits) = (at, read_floats(&**runner.device(), &outputs[0].1)?);
        }
        let row = &logits[(at - first) * width..(at - first + 1) * width];
        let (token, duration) = (most_likely(&row[..model.vocab]), &row[model.vocab..]);
        let on = if t.durations.is_empty() { 0 } else { t.durations[most_likely(duration)] };
        if token == model.blank {
            (at, of_row) = (at + on.max(1), 0);
            continue;
        }
        named.push(Named { token: token as u32, rows: [at, at + on.max(1)] });
        so_far = take(runner, token)?;
        logits.clear();
        of_row += 1;
        // A row that would go on for ever is left.
        let on = if on == 0 && of_row >= t.most { 1 } else { on };
        if on > 0 {
            (at, of_row) = (at + on, 0);
        }
    }
    Ok(named)
}

impl super::Transcribe for FrameTranscriber {
    fn rate(&self) -> u32 {
        self.model.features.rate()
    }

    fn set_options(&mut self, options: TranscribeOptions) -> Result<()> {
        check(&options)?;
        self.options = options;
        Ok(())
    }

    fn transcribe_pieces(
        &mut self,
        audio: &mut dyn Iterator<Item = percept_modalities::Result<Vec<f32>>>,
        found: &mut dyn FnMut(&Segment),
        progress: &mut dyn FnMut(f64),
    ) -> Result<Transcript> {
        let rate = self.model.features.rate() as usize;
        let row = self.model.features.hop() * self.model.encoder.factor();
        // Windows begin at whole rows, so that the rows of one go on where those of another end.
        let context = (CONTEXT * rate / row).max(1);
        let window = (WINDOW * rate / row).max(4 * context) * row;
        let (mut samples, mut first) = (Vec::<f32>::new(), 0);
        let mut named = Vec::new();
        let mut transcript = Transcript { language: "und".into(), ..Transcript::default() };
        let mut told = 0;
        loop {
            // One sample more than a window shows that the audio goes on.
            while samples.len() <= window
                && let Some(piece) = audio.next()
            {
                samples.extend(piece?);
            }
            let goes_on = samples.len() > window;
            let clip = &samples[..samples.len().min(window)];
            let seconds = clip.len() as f64 / rate as f64;
            let own = match seconds < LEAST_SECONDS {
                true => Vec::new(),
                false => self.named(clip)?,
            };
            // Tokens that begin among the rows that count.
            let from = if first == 0 { 0 } else { context };
            let to = if goes_on { window / row - context } else { usize::MAX };
            let counted = own.into_iter().filter(|own| (from..to).contains(&own.rows[0]));
            named.extend(counted.map(|own| Named { rows: own.rows.map(|row| first + row), ..own }));
            // The last segment may go on in the next window.
            let segments = self.segments(&named)?;
            let whole = segments.len().saturating_sub(usize::from(goes_on));
            for segment in segments.iter().take(whole).skip(told) {
                found(segment);
            }
            told = told.max(whole);
            if !goes_on {
                transcript.seconds = (first * row + samples.len()) as f64 / rate as f64;
                progress(transcript.seconds);
                transcript.segments = segments;
                break;
            }
            let moved = window / row - 2 * context;
            samples.drain(..moved * row);
            first += moved;
            progress((first * row) as f64 / rate as f64);
        }
        let texts: Vec<&str> = transcript.segments.iter().map(|s| &s.text[..]).collect();
        transcript.text = texts.join(" ");
        Ok(transcript)
    }

    fn all_reports(&self) -> Vec<&CompileReport> {
        self.runner.reports().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_in_a_row_is_one_token_and_a_blank_parts_two() {
        let all = merged([9, 1, 1, 9, 1, 2, 9].into_iter(), 9);
        let all: Vec<_> = all.iter().map(|n| (n.token, n.rows)).collect();
        assert_eq!(all, [(1, [1, 3]), (1, [4, 5]), (2, [5, 6])]);
    }
}
