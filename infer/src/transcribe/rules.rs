//! Which tokens Whisper may generate next: the suppressed ones, and the grammar of timestamps.

/// The vocabulary's special tokens and the tokens that are never generated.
///
/// A timestamp token stands for a multiple of 0.02 s from the start of the window; all tokens from
/// [`Rules::timestamps`] on are such. The rules are those of the Whisper paper's code (Radford et al. 2022) and of
/// transformers' `WhisperTimeStampLogitsProcessor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// The token that ends a transcript; tokens below it are text.
    pub end: usize,
    /// The token that requests text without timestamps.
    pub no_timestamps: usize,
    /// Tokens that are never generated.
    pub suppress: Vec<usize>,
    /// Tokens that are not generated first.
    pub suppress_at_begin: Vec<usize>,
    /// The latest first timestamp.
    pub max_initial: Option<usize>,
}

impl Rules {
    /// The token of 0.00 s.
    pub fn timestamps(&self) -> usize {
        self.no_timestamps + 1
    }

    /// Whether a token is a timestamp.
    pub fn is_timestamp(&self, token: i32) -> bool {
        usize::try_from(token).is_ok_and(|t| t >= self.timestamps())
    }

    /// Gives negative infinity to the logits of tokens that are never generated, or not first.
    pub fn suppress(&self, tokens: &[i32], logits: &mut [f32]) {
        let at_begin: &[usize] = if tokens.is_empty() { &self.suppress_at_begin } else { &[] };
        for &token in self.suppress.iter().chain(at_begin) {
            if let Some(logit) = logits.get_mut(token) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }

    /// Gives negative infinity to the logits of tokens that cannot follow `tokens`, those generated after the prompt.
    pub fn apply(&self, tokens: &[i32], logits: &mut [f32]) {
        let begin = self.timestamps().min(logits.len());
        self.suppress(tokens, logits);
        if let Some(logit) = logits.get_mut(self.no_timestamps) {
            *logit = f32::NEG_INFINITY;
        }
        if tokens.is_empty() {
            // The first token is a timestamp.
            logits[..begin].fill(f32::NEG_INFINITY);
            if let Some(late) = self.max_initial.and_then(|m| logits.get_mut(begin + m + 1..)) {
                late.fill(f32::NEG_INFINITY);
            }
        }
        // Timestamps come in pairs, the end of one segment and the start of the next, but for the first and the last.
        let last = tokens.last().is_some_and(|&t| self.is_timestamp(t));
        let alone = tokens.len() < 2 || self.is_timestamp(tokens[tokens.len() - 2]);
        match (last, alone) {
            (true, true) => logits[begin..].fill(f32::NEG_INFINITY),
            (true, false) => logits[..self.end.min(begin)].fill(f32::NEG_INFINITY),
            _ => {}
        }
        // They do not decrease, and a segment has a duration.
        if let Some(&latest) = tokens.iter().rev().find(|&&t| self.is_timestamp(t)) {
            let least = (latest as usize + usize::from(!last || alone)).min(logits.len());
            logits[begin..least].fill(f32::NEG_INFINITY);
        }
        // All timestamps together against each other token.
        let (text, times) = logits.split_at(begin);
        let greatest = text.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if log_sum_exp(times) > greatest {
            logits[..begin].fill(f32::NEG_INFINITY);
        }
    }
}

/// log(sum(e^x)); negative infinity for nothing.
pub fn log_sum_exp(x: &[f32]) -> f32 {
    let greatest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if greatest == f32::NEG_INFINITY {
        return greatest;
    }
    greatest + x.iter().map(|v| (v - greatest).exp()).sum::<f32>().ln()
}
