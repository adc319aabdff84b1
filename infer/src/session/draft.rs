//! The draft model of a session: a second, smaller session whose guesses this one checks.

use percept_modalities::Inputs;
use percept_model::PAGE;

use super::{Prompt, Session};
use crate::error::{Error, Result};
use crate::generate::NotDrafted;

impl Session {
    /// Let the model of another session guess the next tokens where
    /// [`GenerateOptions::draft`](crate::GenerateOptions::draft) asks for it. It should be on the same device, and smaller:
    /// answers stay the same, and come sooner where it is often right. Where its cache may grow, it grows with this one's.
    ///
    /// # Errors
    /// When its tokenizer is another one, naming the first token that differs, or it has a draft model itself.
    pub fn with_draft(mut self, draft: Session) -> Result<Self> {
        if draft.draft.is_some() {
            return Err(Error::Setting(
                "a draft model has no draft model of its own; leave that one out".into(),
            ));
        }
        let [own, other] = [&self, &draft].map(|session| session.model.processor().tokenizer());
        if let Some(id) = own.first_difference(other) {
            let said = |tokenizer: &percept_modalities::text::Tokenizer| match tokenizer.token(id) {
                Some(token) if tokenizer.is_special(id) => format!("the special token {token:?}"),
                Some(token) => format!("the text {token:?}"),
                None => "no token".into(),
            };
            return Err(Error::OtherTokenizer { id, own: said(own), draft: said(other) });
        }
        self.draft = Some(Box::new(draft));
        Ok(self)
    }

    /// The session of the draft model.
    pub fn draft(&self) -> Option<&Session> {
        self.draft.as_deref()
    }

    /// The same where there must be one.
    pub(crate) fn needed_draft(&self) -> Result<&Session> {
        self.draft().ok_or_else(no_draft)
    }

    /// Work with both sessions.
    pub(crate) fn lend_draft<T>(
        &mut self,
        work: impl FnOnce(&Session, &mut Session) -> Result<T>,
    ) -> Result<T> {
        let mut draft = self.draft.take().ok_or_else(no_draft)?;
        let worked = work(self, &mut draft);
        self.draft = Some(draft);
        worked
    }

    /// A prompt of another session, whose tokenizer is the same, as this one reads it: with features in the same rows.
    pub(crate) fn same_prompt(&self, inputs: &Inputs, other: &Prompt) -> Result<Prompt, NotDrafted> {
        let prompt = self.prompt(inputs).map_err(|e| match e {
            Error::TooLong { .. } => NotDrafted::Long,
            _ => NotDrafted::Unread,
        })?;
        let rows = |prompt: &Prompt| {
            let rows = prompt.layout.ids.iter().zip(&prompt.layout.features);
            // Where features stand, any id may.
            rows.map(|(id, feature)| feature.is_none().then_some(*id)).collect::<Vec<_>>()
        };
        if rows(&prompt) == rows(other) { Ok(prompt) } else { Err(NotDrafted::Unread) }
    }

    /// Make a cache that may grow as large as that of another session.
    pub(crate) fn fit_cache(&mut self, other: &Session) -> Result<()> {
        let [own, wanted] = [&*self, other].map(|session| session.pages().0);
        if self.may_grow() && own < wanted {
            self.make_cache(wanted, other.sequences)?;
        }
        Ok(())
    }

    /// Free pages that are missing for sequences that take so many more.
    pub(crate) fn lacks(&self, pages: &[usize]) -> usize {
        let lacks = |(kind, window): (&super::pages::Pages, &Option<usize>)| {
            let most = window
                .map_or(usize::MAX, |window| window.saturating_add(self.options.chunk).div_ceil(PAGE) + 2);
            let wanted: usize = pages.iter().map(|n| *n.min(&most)).sum();
            wanted.saturating_sub(kind.free())
        };
        self.cache.kinds.iter().zip(&self.windows).map(lacks).max().unwrap_or(0)
    }
}

fn no_draft() -> Error {
    let why = "guesses of a draft model are asked for, and the session has none; give it one, or leave the guesses out";
    Error::Setting(why.into())
}
