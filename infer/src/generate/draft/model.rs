//! Guesses of a draft model, which reads along.
//!
//! It follows every answer in a sequence of its own: guesses that were right are read already, the others are taken back. A
//! round reads what it has not read yet of all answers in one step, and then a token of each in every further one.

use percept_model::PAGE;

use super::NotDrafted;
use crate::error::{Error, Result};
use crate::sampler::greedy;
use crate::scheduler::SchedulerStatistics;
use crate::session::{Part, Sequence, Session};

/// A draft model's own sequence of an answer.
pub(in crate::generate) struct Follower {
    /// The most tokens that are guessed at a time.
    tokens: usize,
    /// The answer as the draft model reads it, or why it does not.
    sequence: Result<Sequence, NotDrafted>,
    /// That it does not was counted.
    is_counted: bool,
    /// The cache was full at some time.
    was_full: bool,
}

impl Follower {
    pub(super) fn new(tokens: usize, sequence: Result<Sequence, NotDrafted>) -> Self {
        Self { tokens, sequence, is_counted: false, was_full: false }
    }

    pub(super) fn release(&mut self) {
        if let Ok(sequence) = &mut self.sequence {
            sequence.release();
        }
    }

    pub(super) fn not_drafted(&self) -> Option<NotDrafted> {
        self.sequence.as_ref().err().copied().or(self.was_full.then_some(NotDrafted::Full))
    }

    /// Learn the tokens of the answer: guesses that were right stay, the others are taken back, and what is new comes behind
    /// them.
    fn follow(&mut self, draft: &mut Session, ids: &[i32]) {
        let Ok(sequence) = &mut self.sequence else { return };
        draft.refresh(sequence);
        let certain = sequence.certain();
        let is_right = |at: &usize| sequence.ids().get(*at) == ids.get(*at);
        let right = (certain..sequence.len()).take_while(is_right).count();
        draft.keep_drafts(sequence, right);
        for id in &ids[sequence.len()..] {
            // One by one, as they came to the answer.
            if let Err(e) = draft.push(sequence, &[*id]) {
                let is_long = matches!(e, Error::TooLong { .. });
                self.sequence = Err(if is_long { NotDrafted::Long } else { NotDrafted::Unread });
                return;
            }
        }
        if sequence.held() + 1 < sequence.len() {
            draft.share_prefix(sequence);
        }
    }
}

/// An answer in a round of guesses.
struct Turn<'a> {
    /// The answer as the model has it.
    answer: &'a mut Sequence,
    /// The answer as the draft model has it.
    sequence: &'a mut Sequence,
    was_full: &'a mut bool,
    ends: &'a [i32],
    /// Tokens to guess.
    wanted: usize,
    guesses: Vec<i32>,
    /// Rows that the next step reads.
    rows: usize,
}

impl Turn<'_> {
    /// Rows that are not read yet.
    fn left(&self) -> usize {
        self.sequence.len() - self.sequence.held()
    }

    /// Whether the next step gives a guess.
    fn gives(&self) -> bool {
        self.rows > 0 && self.rows == self.left() && self.guesses.len() < self.wanted
    }

    /// Take the logits of the last row that was read, if it was to give a guess.
    fn take(&mut self, logits: &[f32], vocab: usize) {
        self.rows = 0;
        if logits.is_empty() {
            return;
        }
        // A draft model's table may have rows that the model's has not.
        let id = greedy(&logits[..vocab.min(logits.len())]);
        if self.ends.contains(&id) {
            return;
        }
        self.sequence.push_drafts(&[id]);
        self.guesses.push(id);
        // The last guess is read when it turned out to be right.
        self.rows = usize::from(self.guesses.len() < self.wanted);
    }

    /// There was no room for it.
    fn give_up(&mut self, counts: &mut SchedulerStatistics) {
        if self.wanted > 0 && self.guesses.is_empty() {
            counts.undrafted_full += 1;
            *self.was_full = true;
        }
        (self.rows, self.wanted) = (0, 0);
    }
}

/// Pages that a sequence takes to have all its rows and `more` read.
fn pages(sequence: &Sequence, more: usize) -> usize {
    (sequence.len() + more).div_ceil(PAGE) - sequence.held().div_ceil(PAGE)
}

/// Answers by age: the draft model's place in each, the model's, its ends, and the tokens that may be guessed.
type Followed<'a> = Vec<(&'a mut Follower, &'a mut Sequence, &'a [i32], usize)>;

/// Guess the next tokens of answers.
pub(super) fn guess(
    session: &Session,
    draft: &mut Session,
    followed: Followed<'_>,
    prompt_rows: usize,
    counts: &mut SchedulerStatistics,
) -> Result<()> {
    draft.fit_cache(session)?;
    let (vocab, context) = (session.model().decoder().vocab, draft.model().decoder().context);
    let mut turns = Vec::new();
    for (follower, answer, ends, most) in followed {
        follower.follow(draft, &answer.ids()[..answer.certain()]);
        let Follower { tokens, sequence, is_counted, was_full } = follower;
        match sequence {
            Ok(sequence) => {
                let wanted = most.min(*tokens).min(context.saturating_sub(sequence.len()));
                turns.push(Turn { answer, sequence, was_full, ends, wanted, guesses: Vec::new(), rows: 0 });
            }
            Err(_) if *is_counted => {}
            Err(why) => {
                *is_counted = true;
                match why {
                    NotDrafted::Unread => counts.undrafted_unread += 1,
                    NotDrafted::Long => counts.undrafted_long += 1,
                    NotDrafted::Full => counts.undrafted_full += 1,
                }
            }
        }
    }
    make_room(session, draft, &mut turns, counts);
    first_rows(draft, &mut turns, prompt_rows);
    while turns.iter().any(|turn| turn.rows > 0) {
        let mut parts = Vec::new();
        for turn in turns.iter_mut().filter(|turn| turn.rows > 0) {
            let logits = usize::from(turn.gives());
            parts.push(Part { sequence: &mut *turn.sequence, rows: turn.rows, logits });
        }
        let read = draft.step(&mut parts);
        drop(parts);
        let mut reading = turns.iter_mut().filter(|turn| turn.rows > 0);
        match read {
            Ok(found) => reading.zip(found).for_each(|(turn, logits)| turn.take(&logits, vocab)),
            // What was counted on is not there: the youngest does without.
            Err(Error::CacheFull { .. }) => {
                if let Some(turn) = reading.next_back() {
                    turn.sequence.release();
                    turn.give_up(counts);
                }
            }
            Err(e) => return Err(e),
        }
    }
    turns.into_iter().for_each(|turn| turn.answer.push_drafts(&turn.guesses));
    Ok(())
}

/// Leave those out that the caches have no room for. Younger ones make room for older ones.
fn make_room(
    session: &Session,
    draft: &Session,
    turns: &mut Vec<Turn<'_>>,
    counts: &mut SchedulerStatistics,
) {
    let (mut taken, mut own) = (Vec::new(), Vec::new());
    let mut out = Vec::new();
    for i in 0..turns.len() {
        let (turn, younger) = turns[i..].split_at_mut(1);
        let turn = &mut turn[0];
        // Guesses that the model has no room for would be taken back.
        own.push(pages(turn.answer, turn.wanted));
        if !session.may_grow() && session.lacks(&own) > 0 {
            own.pop();
            turn.wanted = 0;
        }
        taken.push(pages(turn.sequence, turn.wanted));
        let held: usize = younger.iter().map(|turn| turn.sequence.held().div_ceil(PAGE)).sum();
        if draft.lacks(&taken) <= held {
            let mut others = younger.iter_mut().rev();
            while draft.lacks(&taken) > 0
                && let Some(youngest) = others.next()
            {
                youngest.sequence.release();
            }
        }
        if draft.lacks(&taken) > 0 {
            taken.pop();
            turn.give_up(counts);
            out.push(i);
        }
    }
    let mut at = 0..;
    turns.retain(|_| at.next().is_some_and(|i| !out.contains(&i)));
}

/// Rows of an answer whose guesses were all right, and which are few enough to be read at any time.
const FEW: usize = 2;

/// What the first step of a round reads: the last tokens of those whose others are read, and a limited number of rows of
/// prompts, the oldest first.
fn first_rows(draft: &Session, turns: &mut [Turn<'_>], prompt_rows: usize) {
    let mut budget = prompt_rows;
    for i in 0..turns.len() {
        let (older, turn) = turns.split_at_mut(i);
        let turn = &mut turn[0];
        if turn.left() <= FEW {
            turn.rows = turn.left();
            continue;
        }
        // What an older one reads for both is shared then.
        let reads_for_both = |older: &Turn<'_>| older.left() > 1 && older.sequence.reads_for(turn.sequence);
        if budget == 0 || (draft.shares_prefixes() && older.iter().any(reads_for_both)) {
            continue;
        }
        let run = turn.sequence.next_run(budget.min(draft.chunk()));
        // An image block that is wider is read when nothing else was.
        turn.rows = if run > budget && budget < prompt_rows { 0 } else { run };
        budget = budget.saturating_sub(turn.rows);
    }
}
