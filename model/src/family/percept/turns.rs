//! Which rows of a conversation see one another both ways.

/// The tokens that divide a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turns {
    /// Behind it the assistant speaks.
    pub answer: i32,
    /// Ends what the assistant says.
    pub end: i32,
}

impl Turns {
    /// Block numbers of rows: all from the beginning or the end of an answer up to the next one's beginning
    /// see one another, -1 stands for answers and for text that none follows.
    pub fn blocks(&self, ids: &[i32]) -> Vec<i32> {
        let mut blocks = Vec::with_capacity(ids.len());
        let mut number = 0;
        let mut rest = ids;
        while let Some(at) = rest.iter().position(|id| *id == self.answer) {
            let said = &rest[at + 1..];
            let end = said.iter().position(|id| *id == self.end).map_or(said.len(), |at| at + 1);
            blocks.extend(std::iter::repeat_n(number, at + 1));
            blocks.extend(std::iter::repeat_n(-1, end));
            (rest, number) = (&said[end..], number + 1);
        }
        blocks.resize(ids.len(), -1);
        blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_blocks_and_answers_are_not() {
        let turns = Turns { answer: 1, end: 2 };
        assert_eq!(turns.blocks(&[7, 8, 1]), [0, 0, 0]);
        assert_eq!(turns.blocks(&[7, 1, 5, 6, 2, 7, 8, 1, 5, 2]), [0, 0, -1, -1, -1, 1, 1, 1, -1, -1]);
        assert_eq!(turns.blocks(&[7, 8, 9]), [-1, -1, -1]);
        assert_eq!(turns.blocks(&[7, 1, 5, 2, 8]), [0, 0, -1, -1, -1]);
        assert!(turns.blocks(&[]).is_empty());
    }
}
