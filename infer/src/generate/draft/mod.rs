//! Guesses at the next tokens, and where they come from.

mod lookup;
mod model;

use std::fmt;

use percept_modalities::Inputs;

use super::Answer;
use crate::error::{Error, Result};
use crate::scheduler::SchedulerStatistics;
use crate::session::{Prompt, Sequence, Session};
pub use lookup::PromptLookup;
use model::Follower;

/// Where guesses at the next tokens come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Draft {
    /// What the text itself has said before.
    Lookup(PromptLookup),
    /// The draft model of the session: see [`Session::with_draft`].
    Model {
        /// The most tokens that are guessed at a time.
        tokens: usize,
    },
}

/// Tokens that may be guessed at a time: more are seldom right.
const MOST_DRAFTED: usize = 64;

/// Why a draft model makes no guesses for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotDrafted {
    /// Its prompt has media that the draft model lacks, or there is a token that it has no row for.
    Unread,
    /// It is longer than the draft model's context.
    Long,
    /// The draft model's cache was full.
    Full,
}

impl fmt::Display for NotDrafted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotDrafted::Unread => "the draft model cannot read the media of the prompt, or one of the tokens",
            NotDrafted::Long => "the text is longer than the draft model's context",
            NotDrafted::Full => "the draft model's cache was full",
        })
    }
}

impl Draft {
    /// Refuses what is out of its range, and a draft model that the session does not have.
    pub(super) fn check(&self, session: &Session) -> Result<()> {
        let in_range = |tokens: usize| (1..=MOST_DRAFTED).contains(&tokens);
        match self {
            Draft::Lookup(lookup) if lookup.ngram == 0 || !in_range(lookup.tokens) => {
                Err(Error::Setting(format!(
                    "prompt lookup needs an n-gram of at least one token and guesses 1 to {MOST_DRAFTED} tokens at a time"
                )))
            }
            Draft::Model { tokens } if !in_range(*tokens) => {
                Err(Error::Setting(format!("a draft model guesses 1 to {MOST_DRAFTED} tokens at a time")))
            }
            Draft::Model { .. } => session.needed_draft().map(|_| ()),
            Draft::Lookup(_) => Ok(()),
        }
    }

    /// The source of guesses at what follows a prompt.
    pub(super) fn plan(self, session: &Session, inputs: &Inputs, prompt: &Prompt) -> Result<Planned> {
        Ok(match self {
            Draft::Lookup(lookup) => Planned::Lookup(lookup),
            Draft::Model { tokens } => {
                Planned::Model { tokens, prompt: session.needed_draft()?.same_prompt(inputs, prompt) }
            }
        })
    }
}

/// A source of guesses for an answer that has not begun.
pub(super) enum Planned {
    Lookup(PromptLookup),
    Model {
        tokens: usize,
        /// The prompt as the draft model reads it.
        prompt: Result<Prompt, NotDrafted>,
    },
}

impl Planned {
    /// Whether no encoder of the draft model has to run.
    pub(super) fn is_encoded(&self, session: &Session) -> bool {
        match (self, session.draft()) {
            (Planned::Model { prompt: Ok(prompt), .. }, Some(draft)) => draft.is_encoded(prompt),
            _ => true,
        }
    }

    /// The encoders of the draft model run, and no row is read yet.
    pub(super) fn start(self, session: &mut Session) -> Result<Source> {
        Ok(match self {
            Planned::Lookup(lookup) => Source::Lookup(lookup),
            Planned::Model { tokens, prompt } => {
                let mut start = |prompt| session.lend_draft(|_, draft| draft.start_unread(prompt));
                let sequence = match prompt {
                    Ok(prompt) => Ok(start(prompt)?),
                    Err(why) => Err(why),
                };
                Source::Model(Box::new(Follower::new(tokens, sequence)))
            }
        })
    }
}

/// What guesses for an answer.
pub(super) enum Source {
    Lookup(PromptLookup),
    Model(Box<Follower>),
}

impl Source {
    /// Give back the pages that it holds.
    pub(super) fn release(&mut self) {
        match self {
            Source::Lookup(_) => {}
            Source::Model(follower) => follower.release(),
        }
    }

    /// Why it made no guesses at some time.
    pub(super) fn not_drafted(&self) -> Option<NotDrafted> {
        match self {
            Source::Lookup(_) => None,
            Source::Model(follower) => follower.not_drafted(),
        }
    }
}

/// Where an answer stands whose next tokens may be guessed.
pub(super) struct Place<'a> {
    pub(super) source: &'a mut Source,
    pub(super) sequence: &'a mut Sequence,
    /// Tokens that end it, which are never guessed: nothing follows them.
    pub(super) ends: &'a [i32],
    /// Tokens that may be guessed at most. There are none while rows before the last are not read yet.
    pub(super) most: usize,
}

/// Guess the next tokens of answers, sorted by age, from their sources. Of prompts a draft model reads `prompt_rows` rows at
/// most; what it does not guess for is counted.
pub(crate) fn guess<'a>(
    session: &mut Session,
    answers: impl Iterator<Item = &'a mut Answer>,
    prompt_rows: usize,
    counts: &mut SchedulerStatistics,
) -> Result<()> {
    let vocab = session.model().decoder().vocab;
    let mut followed = Vec::new();
    for Place { source, sequence, ends, most } in answers.filter_map(Answer::place) {
        match source {
            Source::Lookup(lookup) if most > 0 => {
                let mut ids = lookup.guess(sequence.ids(), most);
                // Where features stand, ids may be none of the table's.
                let fits = |id: &i32| usize::try_from(*id).is_ok_and(|id| id < vocab);
                ids.truncate(ids.iter().take_while(|id| fits(id)).count());
                sequence.push_drafts(&ids);
            }
            Source::Lookup(_) => {}
            Source::Model(follower) => followed.push((&mut **follower, sequence, ends, most)),
        }
    }
    if followed.is_empty() {
        return Ok(());
    }
    session.lend_draft(|session, draft| model::guess(session, draft, followed, prompt_rows, counts))
}
