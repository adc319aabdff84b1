//! Guesses at the next tokens.

/// Guesses that what followed the last tokens before follows them again: right where an answer quotes its prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PromptLookup {
    /// The longest run of last tokens that is looked for, then shorter ones.
    pub ngram: usize,
    /// The most tokens that are guessed at a time.
    pub tokens: usize,
}

impl PromptLookup {
    /// At most `most` tokens that may follow `ids`: those behind the latest earlier place of its last tokens.
    pub(super) fn guess(&self, ids: &[i32], most: usize) -> Vec<i32> {
        let most = most.min(self.tokens);
        for n in (1..=self.ngram.min(ids.len().saturating_sub(1))).rev() {
            let last = &ids[ids.len() - n..];
            // The place of the last tokens themselves is none.
            let earlier = ids[..ids.len() - 1].windows(n).rposition(|window| window == last);
            if let Some(at) = earlier {
                return ids[at + n..].iter().copied().take(most).collect();
            }
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_the_longest_and_latest_match_is_guessed() {
        let lookup = PromptLookup { ngram: 3, tokens: 4 };
        // "7 8" occurs twice, "6 7 8" once: the longer match decides.
        assert_eq!(lookup.guess(&[6, 7, 8, 1, 2, 7, 8, 3, 6, 7, 8], 9), [1, 2, 7, 8]);
        assert_eq!(lookup.guess(&[7, 8, 1, 7, 8, 2, 7, 8], 1), [2]);
        // A match that reaches into its own continuation.
        assert_eq!(lookup.guess(&[5, 5, 5], 9), [5]);
        assert!(lookup.guess(&[1, 2, 3], 9).is_empty() && lookup.guess(&[1], 9).is_empty());
        assert!(lookup.guess(&[], 9).is_empty() && lookup.guess(&[1, 1], 0).is_empty());
    }
}
