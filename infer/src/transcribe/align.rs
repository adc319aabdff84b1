//! Timestamps for a text that was decoded without them.

use crate::error::Result;

use super::Transcriber;

/// Tokens of the text that are decoded at once; with the timestamp that opens a segment they fill one of the decoder's
/// runs. A segment is seldom longer, and the tokens after its end are decoded again.
const TOGETHER: usize = 15;

impl Transcriber {
    /// The tokens of `text`, a transcript of the current window, with timestamps where the model finds one more likely
    /// than the text's next token: at the start, between segments as pairs, and at the end.
    pub(super) fn align(&mut self, language: Option<&str>, text: &[i32]) -> Result<Vec<i32>> {
        let decoder = self.model.model().decoder();
        let (context, vocab) = (decoder.context, decoder.vocab);
        let (prompt, _) = self.task.prompt(language, &[], true);
        let mut tokens = Vec::new();
        let mut left: Vec<i32> =
            text.iter().copied().filter(|&t| (t as usize) < self.task.rules.end).collect();
        let mut logits = self.model.decode(&prompt, 0, &[prompt.len() - 1])?;
        loop {
            // Another pair must leave room for the rest of the text and the last timestamp.
            let room = prompt.len() + tokens.len() + left.len() + 3 < context;
            if let Some(time) = self.time(&tokens, left.is_empty(), room, &mut logits) {
                tokens.push(time);
                if left.is_empty() {
                    return Ok(tokens);
                }
                if !self.opened(&tokens) {
                    logits = self.model.decode(&[time], prompt.len() + tokens.len() - 1, &[0])?;
                }
                continue;
            }
            // The logits after each of the next tokens tell where the text is cut. The decoder has not read the
            // timestamp that opened the segment yet.
            let before = usize::from(self.opened(&tokens));
            let unread = tokens[tokens.len() - before..].iter();
            let next: Vec<i32> = unread.chain(left.iter().take(TOGETHER)).copied().collect();
            let rows: Vec<usize> = (0..self.model.width(next.len())).map(|i| i.min(next.len() - 1)).collect();
            let at = prompt.len() + tokens.len() - before;
            let mut after = self.model.decode(&next, at, &rows)?;
            let mut taken = 0;
            for row in after.chunks_exact_mut(vocab).take(next.len()).skip(before) {
                tokens.push(left[taken]);
                taken += 1;
                if self.time(&tokens, taken == left.len(), room, row).is_some() {
                    break;
                }
            }
            logits = after[(before + taken - 1) * vocab..][..vocab].to_vec();
            left.drain(..taken);
        }
    }

    /// Whether a timestamp begins a segment: the first one, or the second of a pair.
    fn opened(&self, tokens: &[i32]) -> bool {
        let is_time = |t: &i32| self.task.rules.is_timestamp(*t);
        match tokens {
            [.., a, b] => is_time(a) && is_time(b),
            [a] => is_time(a),
            [] => false,
        }
    }

    /// The timestamp that follows `tokens`, if one does. The logits of tokens that may not follow are lost.
    fn time(&self, tokens: &[i32], finished: bool, room: bool, logits: &mut [f32]) -> Option<i32> {
        let (begin, opened) = (self.task.rules.timestamps(), self.opened(tokens));
        let half_a_pair = !opened && tokens.last().is_some_and(|&t| self.task.rules.is_timestamp(t));
        let must = tokens.is_empty() || finished || half_a_pair;
        if !must && (opened || !room) {
            return None;
        }
        self.task.rules.apply(tokens, logits);
        let times = logits.get(begin..)?;
        // Words that are left need a later time to end at.
        let times = if finished { times } else { times.split_last()?.1 };
        let best = (0..times.len()).max_by(|&a, &b| times[a].total_cmp(&times[b]).then(b.cmp(&a)))?;
        let text = logits[..begin].iter().copied().fold(f32::NEG_INFINITY, f32::max);
        (must || times[best] > text).then_some((begin + best) as i32)
    }
}
