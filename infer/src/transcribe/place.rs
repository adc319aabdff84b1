//! Times for a text that was said without them.

use crate::error::Result;

use super::Transcriber;

/// Tokens of the text that are said at once; with the timestamp that opens a segment they fill one of the decoder's runs.
/// A segment is seldom longer, and what is said past its end is said again.
const TOGETHER: usize = 15;

impl Transcriber {
    /// The tokens of `text`, said about the window that was heard, with timestamps where the model says one sooner than
    /// the text's next token: at the start, between segments as pairs, and at the end.
    pub(super) fn place(&mut self, language: Option<&str>, text: &[i32]) -> Result<Vec<i32>> {
        let decoder = self.ear.model().decoder();
        let (context, vocab) = (decoder.context, decoder.vocab);
        let (prompt, _) = self.task.prompt(language, &[], true);
        let mut said = Vec::new();
        let mut left: Vec<i32> =
            text.iter().copied().filter(|&t| (t as usize) < self.task.rules.end).collect();
        let mut logits = self.ear.say(&prompt, 0, &[prompt.len() - 1])?;
        loop {
            // Another pair must leave room for the rest of the text and the last timestamp.
            let room = prompt.len() + said.len() + left.len() + 3 < context;
            if let Some(time) = self.time(&said, left.is_empty(), room, &mut logits) {
                said.push(time);
                if left.is_empty() {
                    return Ok(said);
                }
                if !self.opened(&said) {
                    logits = self.ear.say(&[time], prompt.len() + said.len() - 1, &[0])?;
                }
                continue;
            }
            // What the model would have said after each of the next tokens tells where the text is cut. A timestamp that
            // opened a segment was not told to it yet.
            let before = usize::from(self.opened(&said));
            let told = said[said.len() - before..].iter();
            let next: Vec<i32> = told.chain(left.iter().take(TOGETHER)).copied().collect();
            let rows: Vec<usize> = (0..self.ear.width(next.len())).map(|i| i.min(next.len() - 1)).collect();
            let at = prompt.len() + said.len() - before;
            let mut after = self.ear.say(&next, at, &rows)?;
            let mut taken = 0;
            for row in after.chunks_exact_mut(vocab).take(next.len()).skip(before) {
                said.push(left[taken]);
                taken += 1;
                if self.time(&said, taken == left.len(), room, row).is_some() {
                    break;
                }
            }
            logits = after[(before + taken - 1) * vocab..][..vocab].to_vec();
            left.drain(..taken);
        }
    }

    /// Whether a timestamp begins a segment: the first one, or the second of a pair.
    fn opened(&self, said: &[i32]) -> bool {
        let is_time = |t: &i32| self.task.rules.is_timestamp(*t);
        match said {
            [.., a, b] => is_time(a) && is_time(b),
            [a] => is_time(a),
            [] => false,
        }
    }

    /// The timestamp that comes next after `said`, if one does. `logits` lose what may not be said.
    fn time(&self, said: &[i32], finished: bool, room: bool, logits: &mut [f32]) -> Option<i32> {
        let (begin, opened) = (self.task.rules.timestamps(), self.opened(said));
        let half_a_pair = !opened && said.last().is_some_and(|&t| self.task.rules.is_timestamp(t));
        let must = said.is_empty() || finished || half_a_pair;
        if !must && (opened || !room) {
            return None;
        }
        self.task.rules.apply(said, logits);
        let times = logits.get(begin..)?;
        // Words that are left need a later time to end at.
        let times = if finished { times } else { times.split_last()?.1 };
        let best = (0..times.len()).max_by(|&a, &b| times[a].total_cmp(&times[b]).then(b.cmp(&a)))?;
        let text = logits[..begin].iter().copied().fold(f32::NEG_INFINITY, f32::max);
        (must || times[best] > text).then_some((begin + best) as i32)
    }
}
