//! Restrictions of what may be generated.

use crate::error::{Error, Result};

/// Restricts the tokens that may come next: to a JSON schema, a grammar or an expression. It is asked before each token
/// is chosen, and told which one was.
pub trait Constraint: Send {
    /// Set the bits of the tokens that may come next: token `i` has bit `i % 32` of word `i / 32`. All bits are clear before.
    /// Those of tokens that end the text are not read.
    ///
    /// # Errors
    /// When it cannot tell; only this generation fails.
    fn mask(&mut self, allowed: &mut [u32]) -> Result<()>;

    /// A token was chosen. Those that end the text are not told.
    ///
    /// # Errors
    /// When the token cannot come next.
    fn accept(&mut self, id: i32) -> Result<()>;

    /// Whether the text may end here.
    fn may_end(&mut self) -> bool;
}

/// A constraint with the mask that it fills.
pub(super) struct Constrained {
    constraint: Box<dyn Constraint>,
    allowed: Vec<u32>,
}

impl Constrained {
    pub(super) fn new(constraint: Box<dyn Constraint>, vocab: usize) -> Self {
        Self { constraint, allowed: vec![0; vocab.div_ceil(32)] }
    }

    /// Leave only tokens that may come next; false when there is none and the text ends.
    ///
    /// # Errors
    /// When nothing may come next and the text may not end either, or the constraint fails.
    pub(super) fn restrict(&mut self, logits: &mut [f32], ends: &[i32]) -> Result<bool> {
        self.allowed.fill(0);
        self.constraint.mask(&mut self.allowed)?;
        let may_end = self.constraint.may_end();
        for &end in ends {
            if let Some((word, bit)) = place(end)
                && let Some(word) = self.allowed.get_mut(word)
            {
                *word = if may_end { *word | bit } else { *word & !bit };
            }
        }
        let mut any = false;
        for (id, x) in logits.iter_mut().enumerate() {
            if self.allowed[id / 32] & (1 << (id % 32)) == 0 {
                *x = f32::NEG_INFINITY;
            } else {
                any = true;
            }
        }
        if !any && !may_end {
            let why =
                "the constraint lets no token of the model's vocabulary come next, and the text may not end";
            return Err(Error::Constraint(why.into()));
        }
        Ok(any)
    }

    /// Refuses a token that was chosen although it may not come next.
    ///
    /// # Errors
    /// When it is one.
    pub(super) fn check(&self, id: i32) -> Result<()> {
        let allowed = place(id).and_then(|(word, bit)| self.allowed.get(word).map(|word| word & bit != 0));
        if allowed == Some(true) {
            return Ok(());
        }
        Err(Error::Constraint(format!(
            "token {id} was chosen, which the constraint does not let come next: another setting forces it or forbids all \
             that may"
        )))
    }

    /// The token that was chosen, one that does not end the text.
    ///
    /// # Errors
    /// When the constraint fails.
    pub(super) fn accept(&mut self, id: i32) -> Result<()> {
        self.constraint.accept(id)
    }
}

/// The word and the bit of a token.
fn place(id: i32) -> Option<(usize, u32)> {
    usize::try_from(id).ok().map(|id| (id / 32, 1 << (id % 32)))
}
