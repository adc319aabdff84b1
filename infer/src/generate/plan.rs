//! What a request asks for, checked before anything runs.

use percept_modalities::Inputs;

use super::GenerateOptions;
use super::constraint::{Constrained, Constraint};
use super::draft::Planned;
use crate::error::{Error, Result};
use crate::sampler::{Sampler, Sampling};
use crate::session::{Prompt, Session};

/// A prompt and how it is continued.
pub(crate) struct Plan {
    pub(super) prompt: Prompt,
    /// New tokens at most.
    pub(super) most: usize,
    /// Rows that the cache should have room for.
    pub(crate) room: usize,
    /// Tokens that end the answer.
    pub(super) ends: Vec<i32>,
    pub(super) sampler: Sampler,
    pub(super) constraint: Option<Constrained>,
    pub(super) stop: Vec<String>,
    pub(super) logprobs: Option<usize>,
    pub(super) prompt_logprobs: Option<usize>,
    pub(super) draft: Option<Planned>,
}

/// Rows that an answer without a limit is given room for at first.
const FIRST_ROOM: usize = 1024;

impl Plan {
    pub(crate) fn new(
        session: &Session,
        inputs: &Inputs,
        options: &GenerateOptions,
        constraint: Option<Box<dyn Constraint>>,
    ) -> Result<Self> {
        let (context, vocab) = (session.model().decoder().context, session.model().decoder().vocab);
        if options.ignore_ends && constraint.is_some() {
            let why = "a constraint decides where the text may end, so ends cannot be ignored under it; give one of both";
            return Err(Error::Setting(why.into()));
        }
        options.draft.map_or(Ok(()), |draft| draft.check(session))?;
        let prompt = session.prompt_with(inputs, options.adapter)?;
        let prompt_tokens = prompt.len();
        if prompt_tokens >= context {
            let (what, tokens) = ("the prompt and its first new token", prompt_tokens + 1);
            return Err(Error::TooLong { what, tokens, context });
        }
        // The last token is never read.
        let fits = match session.most_rows() {
            Some(room) if prompt_tokens > room => {
                return Err(Error::CacheFull { room, wanted: prompt_tokens, free: room });
            }
            Some(room) => room - prompt_tokens + 1,
            None => usize::MAX,
        };
        let limit = match (options.max_tokens, options.max_length) {
            (Some(most), _) => Some(most),
            (None, Some(length)) if length <= prompt_tokens => {
                return Err(Error::Setting(format!(
                    "the prompt takes {prompt_tokens} tokens and max_length is {length}; ask for more tokens"
                )));
            }
            (None, length) => length.map(|length| length - prompt_tokens),
        };
        let most = limit.unwrap_or(usize::MAX).min(context - prompt_tokens).min(fits);
        let room = prompt_tokens + if limit.is_some() { most } else { most.min(FIRST_ROOM) };
        let ends = session.ends()?.to_vec();
        let mut sampling = options.sampling.clone();
        sampling.ends.extend(&ends);
        sampling.max_length.get_or_insert(prompt_tokens + most);
        add_bias(&mut sampling, &options.logit_bias)?;
        let draft = options.draft.map(|draft| draft.plan(session, inputs, &prompt)).transpose()?;
        Ok(Self {
            sampler: Sampler::new(sampling, prompt.ids(), vocab)?,
            prompt,
            most,
            room,
            ends: if options.ignore_ends { Vec::new() } else { ends },
            constraint: constraint.map(|constraint| Constrained::new(constraint, vocab)),
            stop: options.stop.clone(),
            logprobs: options.logprobs,
            prompt_logprobs: options.prompt_logprobs,
            draft,
        })
    }

    /// Whether no encoder has to run for it.
    pub(crate) fn is_encoded(&self, session: &Session) -> bool {
        let draft = self.draft.as_ref();
        session.is_encoded(&self.prompt) && draft.is_none_or(|draft| draft.is_encoded(session))
    }

    /// Rows of the prompt.
    pub(crate) fn prompt_tokens(&self) -> usize {
        self.prompt.len()
    }
}

/// Biases of single tokens, added to those that there are.
fn add_bias(sampling: &mut Sampling, biases: &[(i32, f32)]) -> Result<()> {
    for &(id, bias) in biases {
        if bias.is_nan() {
            return Err(Error::Setting(format!("the logit bias of token {id} is no number")));
        }
        match sampling.sequence_bias.iter_mut().rev().find(|(ids, _)| *ids == [id]) {
            Some((_, sum)) => *sum += bias,
            None => sampling.sequence_bias.push((vec![id], bias)),
        }
    }
    Ok(())
}
