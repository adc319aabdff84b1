//! When each word was spoken: the cross-attention of the decoder's alignment heads, and the best path through it.
//!
//! The formula is that of transformers' `_extract_token_timestamps`: the weights of the heads that the checkpoint names,
//! for the tokens behind the prompt and the frames of the audio; over tokens normalized to mean 0 and deviation 1, over
//! frames smoothed by a median; averaged over heads; then dynamic time warping. A token ends where the path leaves it, and
//! the next one begins there.

use percept_modalities::audio::Waveform;
use percept_modalities::text::Tokenizer;
use percept_modalities::{Array, Values};
use percept_model::Config;
use serde_json::Value;

use super::Transcriber;
use super::segments::Span;
use crate::error::{Error, Result};

/// Seconds of one row of the encoder.
const STEP: f64 = 0.02;

/// A word and its times.
#[derive(Debug, Clone, PartialEq)]
pub struct Word {
    /// Seconds from the start of the audio.
    pub start: f64,
    /// Seconds from the start of the audio.
    pub end: f64,
    /// The word with its punctuation.
    pub text: String,
}

/// The heads that align, as pairs of a layer and a head.
///
/// # Errors
/// When the checkpoint names one that the decoder does not have.
pub(super) fn alignment_heads(
    generation: &Config,
    layers: usize,
    heads: usize,
) -> Result<Vec<(usize, usize)>> {
    let pair = |v: &Value| match v.as_array()?.as_slice() {
        [layer, head] => Some((layer.as_u64()? as usize, head.as_u64()? as usize)),
        _ => None,
    };
    let Some(listed) = generation.get("alignment_heads") else {
        // What the original and CTranslate2 take where nobody measured: all heads of the later half.
        return Ok((layers / 2..layers).flat_map(|l| (0..heads).map(move |h| (l, h))).collect());
    };
    let all: Option<Vec<(usize, usize)>> = listed.as_array().and_then(|l| l.iter().map(pair).collect());
    all.filter(|all| !all.is_empty() && all.iter().all(|&(l, h)| l < layers && h < heads)).ok_or_else(|| {
        let why = format!("is {listed}; it must be pairs of one of {layers} layers and one of {heads} heads");
        Error::Model(generation.error("alignment_heads", &why))
    })
}

impl Transcriber {
    /// When each token of a transcript of the audio's first window ends, in seconds. `tokens` are those after the
    /// prompt, timestamps included.
    ///
    /// # Errors
    /// When the audio has another rate, or the device fails.
    pub fn token_ends_of(&mut self, audio: &Waveform, tokens: &[i32]) -> Result<Vec<f64>> {
        let features = self.model.model().features().clone();
        let hop = features.samples() / features.frames();
        let Array { values: Values::F32(values), .. } = features.features(audio)? else {
            return Err(Error::Setting("the feature extractor gave no numbers".into()));
        };
        self.model.start_window(&values)?;
        let frames = audio.samples.len().div_ceil(hop).min(features.frames());
        let language = self.task.language.clone();
        self.token_ends(language.as_deref(), tokens, frames)
    }

    /// When each of `tokens` ends, in seconds from the start of the window, after the prompt.
    pub(super) fn token_ends(
        &mut self,
        language: Option<&str>,
        tokens: &[i32],
        frames: usize,
    ) -> Result<Vec<f64>> {
        let (prompt, _) = self.task.prompt(language, &[], true);
        let ids = [&prompt[..], tokens].concat();
        let width = self.model.model().generation().maybe_usize("median_filter_width")?.unwrap_or(7);
        if width % 2 == 0 {
            let why = format!("is {width}; the width of a median is odd");
            return Err(Error::Model(self.model.model().generation().error("median_filter_width", &why)));
        }
        let weights = self.model.cross_attention(&ids, &self.alignment)?;
        let rows = self.model.model().encoder().rows;
        let heads = weights.chunks_exact(ids.len() * rows);
        // Frames after the end of the audio are padding.
        let kept = (frames / 2).min(rows);
        let cropped: Vec<Vec<f32>> = heads
            .map(|head| {
                let lines = head.chunks_exact(rows).skip(prompt.len());
                lines.flat_map(|line| &line[..kept]).copied().collect()
            })
            .collect();
        Ok(align(cropped, tokens.len(), kept, width).into_iter().map(|row| row as f64 * STEP).collect())
    }

    /// The words of a span of `tokens`, which end at `ends`, `offset` seconds from the start of the audio.
    pub(super) fn words(
        &self,
        span: &Span,
        ends: &[f64],
        language: Option<&str>,
        offset: f64,
        last: f64,
    ) -> Result<Vec<Word>> {
        let spaced = !language.is_some_and(|l| UNSPACED.contains(&l));
        let parts = split(self.model.model().tokenizer(), &span.tokens, spaced)?;
        // To a tenth of a millisecond, so that sums of 0.02 do not show their error.
        let round = |seconds: f64| ((offset + seconds.min(last)) * 1e4).round() / 1e4;
        let word = |(text, at): (String, std::ops::Range<usize>)| {
            let (first, behind) = (span.at[at.start], span.at[at.end - 1]);
            let start = if first == 0 { 0.0 } else { ends[first - 1] };
            Word { start: round(start), end: round(ends[behind]), text: text.trim().to_string() }
        };
        Ok(parts.into_iter().map(word).filter(|w| !w.text.is_empty()).collect())
    }
}

/// Languages that are written without spaces: every character is a word.
const UNSPACED: [&str; 6] = ["zh", "ja", "th", "lo", "my", "yue"];

/// What stands as a word of its own before it is joined to one.
const PUNCTUATION: &str = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";

/// For each of `rows` tokens the frame at which the path leaves it, by each head's weights [rows, frames].
fn align(mut heads: Vec<Vec<f32>>, rows: usize, frames: usize, width: usize) -> Vec<usize> {
    if rows == 0 || frames == 0 || heads.is_empty() {
        return vec![0; rows];
    }
    let mut mean = vec![0f32; rows * frames];
    let count = heads.len() as f32;
    for head in &mut heads {
        normalize(head, rows, frames);
        for (line, out) in head.chunks_exact(frames).zip(mean.chunks_exact_mut(frames)) {
            for (value, out) in median(line, width).into_iter().zip(out) {
                *out += value / count;
            }
        }
    }
    warp(&mean, rows, frames)
}

/// Every frame's weights over all tokens to mean 0 and deviation 1.
fn normalize(weights: &mut [f32], rows: usize, frames: usize) {
    for frame in 0..frames {
        let column = |weights: &[f32], row: usize| f64::from(weights[row * frames + frame]);
        let mean = (0..rows).map(|r| column(weights, r)).sum::<f64>() / rows as f64;
        let square = (0..rows).map(|r| (column(weights, r) - mean).powi(2)).sum::<f64>() / rows as f64;
        let deviation = square.sqrt();
        for row in 0..rows {
            let value = column(weights, row) - mean;
            weights[row * frames + frame] = if deviation > 0.0 { (value / deviation) as f32 } else { 0.0 };
        }
    }
}

/// The median of `width` values around each; edges are mirrored.
fn median(line: &[f32], width: usize) -> Vec<f32> {
    let half = (width / 2) as isize;
    let last = line.len() as isize - 1;
    if last < half || half == 0 {
        return line.to_vec();
    }
    let mirrored = |i: isize| {
        line[if i < 0 {
            -i
        } else if i > last {
            2 * last - i
        } else {
            i
        } as usize]
    };
    let around = |i: isize| {
        let mut values: Vec<f32> = (i - half..=i + half).map(mirrored).collect();
        values.sort_by(f32::total_cmp);
        values[half as usize]
    };
    (0..=last).map(around).collect()
}

/// Dynamic time warping through `gain` [rows, frames]: for each row the frame at which the best path comes to it.
fn warp(gain: &[f32], rows: usize, frames: usize) -> Vec<usize> {
    let wide = frames + 1;
    let mut cost = vec![f32::INFINITY; (rows + 1) * wide];
    // Where the path came from: 0 from both, 1 from the row above, 2 from the frame before.
    let mut from = vec![2u8; (rows + 1) * wide];
    cost[0] = 0.0;
    for j in 1..=frames {
        for i in 1..=rows {
            let (both, above, before) =
                (cost[(i - 1) * wide + j - 1], cost[(i - 1) * wide + j], cost[i * wide + j - 1]);
            let (least, step) = if both < above && both < before {
                (both, 0)
            } else if above < both && above < before {
                (above, 1)
            } else {
                (before, 2)
            };
            cost[i * wide + j] = (f64::from(least) - f64::from(gain[(i - 1) * frames + j - 1])) as f32;
            from[i * wide + j] = step;
        }
    }
    for i in 0..=rows {
        from[i * wide] = 1;
    }
    for j in 0..=frames {
        from[j] = 2;
    }
    let mut first = vec![0; rows];
    let (mut i, mut j) = (rows, frames);
    while i > 0 || j > 0 {
        // Going backwards, the last frame that is noted for a row is its first.
        if i > 0 {
            first[i - 1] = j.saturating_sub(1);
        }
        match from[i * wide + j] {
            0 => (i, j) = (i - 1, j - 1),
            1 => i -= 1,
            _ => j -= 1,
        }
    }
    first
}

/// Tokens as words, each with the range of its tokens.
fn split(
    tokenizer: &Tokenizer,
    tokens: &[i32],
    spaced: bool,
) -> Result<Vec<(String, std::ops::Range<usize>)>> {
    let mut words: Vec<(String, std::ops::Range<usize>)> = Vec::new();
    for (text, at) in characters(tokenizer, tokens)? {
        let punctuation = PUNCTUATION.contains(text.trim());
        match words.last_mut() {
            Some(word) if spaced && !text.starts_with(' ') && !punctuation => {
                word.0 += &text;
                word.1.end = at.end;
            }
            _ => words.push((text, at)),
        }
    }
    Ok(with_punctuation(words))
}

/// Tokens in pieces that are whole characters.
fn characters(tokenizer: &Tokenizer, tokens: &[i32]) -> Result<Vec<(String, std::ops::Range<usize>)>> {
    let decode = |tokens: &[i32]| -> Result<String> {
        let ids: Vec<u32> = tokens.iter().map(|&t| t as u32).collect();
        Ok(tokenizer.decode(&ids, false)?)
    };
    let whole: Vec<char> = decode(tokens)?.chars().collect();
    let (mut pieces, mut start, mut done) = (Vec::new(), 0, 0);
    for end in 1..=tokens.len() {
        let text = decode(&tokens[start..end])?;
        // A character that is not whole yet shows as a replacement, unless the text itself has one there.
        let broken = text.chars().position(|c| c == char::REPLACEMENT_CHARACTER);
        if broken.is_none_or(|at| whole.get(done + at).is_none_or(|&c| c == char::REPLACEMENT_CHARACTER)) {
            done += text.chars().count();
            pieces.push((text, start..end));
            start = end;
        }
    }
    if start < tokens.len() {
        pieces.push((decode(&tokens[start..])?, start..tokens.len()));
    }
    Ok(pieces)
}

/// Words with the punctuation before and behind them.
fn with_punctuation(words: Vec<(String, std::ops::Range<usize>)>) -> Vec<(String, std::ops::Range<usize>)> {
    const BEFORE: &str = "\"'“¡¿([{-";
    const BEHIND: &str = "\"'.。,，!！?？:：”)]}、";
    let mut joined: Vec<(String, std::ops::Range<usize>)> = Vec::new();
    for (text, at) in words.into_iter().rev() {
        match joined.last_mut() {
            Some(next) if text.starts_with(' ') && BEFORE.contains(text.trim()) => {
                next.0.insert_str(0, &text);
                next.1.start = at.start;
            }
            _ => joined.push((text, at)),
        }
    }
    let mut out: Vec<(String, std::ops::Range<usize>)> = Vec::new();
    for (text, at) in joined.into_iter().rev() {
        match out.last_mut() {
            Some(word) if !word.0.ends_with(' ') && BEHIND.contains(&text) => {
                word.0 += &text;
                word.1.end = at.end;
            }
            _ => out.push((text, at)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    /// Made with transformers by `tests/golden/whisper_words.py`.
    const GOLDEN: &str = include_str!("words.json");

    #[derive(Deserialize)]
    struct Case {
        rows: usize,
        frames: usize,
        width: usize,
        ends: Vec<usize>,
        heads: Vec<Vec<f32>>,
    }

    #[test]
    fn tokens_end_where_transformers_ends_them() {
        let cases: Vec<Case> = serde_json::from_str(GOLDEN).unwrap();
        assert_eq!(cases.len(), 6);
        for case in cases {
            let found = align(case.heads, case.rows, case.frames, case.width);
            assert_eq!(found, case.ends, "{} tokens, {} frames", case.rows, case.frames);
        }
        assert_eq!(align(Vec::new(), 2, 5, 7), [0, 0]);
        assert_eq!(align(vec![vec![]], 2, 0, 7), [0, 0]);
    }

    #[test]
    fn punctuation_belongs_to_the_word_beside_it() {
        let mut at = 0;
        let pieces = [" \"", "He", " said", ",", " wait", "!", "\""].map(|text| {
            at += 1;
            (text.to_string(), at - 1..at)
        });
        let joined = with_punctuation(pieces.to_vec());
        let words: Vec<(&str, std::ops::Range<usize>)> =
            joined.iter().map(|(text, at)| (&text[..], at.clone())).collect();
        assert_eq!(words, [(" \"He", 0..2), (" said,", 2..4), (" wait!\"", 4..7)]);
    }
}
