//! Times for a text that was said without them.

use crate::error::Result;

use super::Transcriber;

impl Transcriber {
    /// The tokens of `text`, said about the window that was heard, with timestamps where the model says one sooner than
    /// the text's next token: at the start, between segments as pairs, and at the end.
    pub(super) fn place(&mut self, language: Option<&str>, text: &[i32]) -> Result<Vec<i32>> {
        let decoder = self.ear.model().decoder();
        let (context, vocab) = (decoder.context, decoder.vocab);
        let (prompt, _) = self.prompt(language, &[], true);
        let mut said = Vec::new();
        let mut left: Vec<i32> = text.iter().copied().filter(|&t| (t as usize) < self.rules.end).collect();
        let mut logits = self.ear.say(&prompt, 0, &[prompt.len() - 1])?;
        loop {
            // Another pair must leave room for the rest of the text and the last timestamp.
            let room = prompt.len() + said.len() + left.len() + 3 < context;
            if let Some(time) = self.time(&said, left.is_empty(), room, &logits) {
                let at = prompt.len() + said.len();
                said.push(time);
                if left.is_empty() {
                    return Ok(said);
                }
                logits = self.ear.say(&[time], at, &[0])?;
                continue;
            }
            // All of the rest at once; what the model would have said after each token tells where it is cut.
            let rows: Vec<usize> = (0..self.ear.width(left.len())).map(|i| i.min(left.len() - 1)).collect();
            let after = self.ear.say(&left, prompt.len() + said.len(), &rows)?;
            let mut taken = 0;
            for row in after.chunks_exact(vocab).take(left.len()) {
                said.push(left[taken]);
                taken += 1;
                logits = row.to_vec();
                if self.time(&said, taken == left.len(), room, row).is_some() {
                    break;
                }
            }
            left.drain(..taken);
        }
    }

    /// The timestamp that comes next after `said`, if one does.
    fn time(&self, said: &[i32], finished: bool, room: bool, logits: &[f32]) -> Option<i32> {
        let (begin, is_time) = (self.rules.timestamps(), |t: &i32| self.rules.is_timestamp(*t));
        let mut logits = logits.to_vec();
        self.rules.apply(said, &mut logits);
        let half_a_pair = matches!(said, [.., a, b] if !is_time(a) && is_time(b));
        let opened = said.last().is_some_and(is_time) && !half_a_pair;
        let must = said.is_empty() || finished || half_a_pair;
        if !must && (opened || !room) {
            return None;
        }
        let times = logits.get(begin..)?;
        // Words that are left need a later time to end at.
        let times = if finished { times } else { times.split_last()?.1 };
        let best = (0..times.len()).max_by(|&a, &b| times[a].total_cmp(&times[b]).then(b.cmp(&a)))?;
        let text = logits[..begin].iter().copied().fold(f32::NEG_INFINITY, f32::max);
        (must || times[best] > text).then_some((begin + best) as i32)
    }
}
