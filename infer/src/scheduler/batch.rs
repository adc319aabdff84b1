//! The loop that continues prompts.

use std::collections::VecDeque;

use percept_model::PAGE;

use super::{Event, RequestId, SchedulerOptions, SchedulerStatistics};
use crate::error::{Error, Result};
use crate::generate::{Answer, Plan, guess};
use crate::session::{Part, Session};

/// A request that waits.
enum Waiting {
    /// Nothing was run for it.
    New(Box<Plan>),
    /// It gave its pages back.
    Paused(Box<Answer>),
}

impl Waiting {
    fn rows(&self) -> usize {
        match self {
            Waiting::New(plan) => plan.prompt_tokens(),
            Waiting::Paused(answer) => answer.sequence.len(),
        }
    }
}

/// Requests that run and wait over one session. Both are sorted by age, which is the order of the ids.
pub(crate) struct Batch {
    options: SchedulerOptions,
    next: u64,
    waiting: VecDeque<(RequestId, Waiting)>,
    running: Vec<(RequestId, Box<Answer>)>,
    /// The logits of the last step, whose memory the next one uses.
    logits: Vec<Vec<f32>>,
    counts: SchedulerStatistics,
}

type OnEvent<'a> = &'a mut dyn FnMut(RequestId, Event);

impl Batch {
    pub(crate) fn new(options: &SchedulerOptions) -> Result<Self> {
        if options.running == 0 || options.waiting == 0 || options.prompt_rows == 0 {
            let why = "a scheduler needs room for at least one request that runs, one that waits and one row of a prompt";
            return Err(Error::Setting(why.into()));
        }
        let counts = SchedulerStatistics::default();
        let (waiting, running, logits) = (VecDeque::new(), Vec::new(), Vec::new());
        Ok(Self { options: *options, next: 0, waiting, running, logits, counts })
    }

    /// Requests that run or wait.
    pub(crate) fn requests(&self) -> usize {
        self.waiting.len() + self.running.len()
    }

    /// Refuses a request that there is no place for. Those that were paused had theirs.
    pub(crate) fn check_queue(&self) -> Result<()> {
        let waiting = self.waiting.iter().filter(|(_, w)| matches!(w, Waiting::New(_))).count();
        // Those that the next step admits do not wait.
        let places = self.options.running.saturating_sub(self.running.len());
        if waiting >= self.options.waiting.saturating_add(places) {
            return Err(Error::QueueFull { waiting });
        }
        Ok(())
    }

    pub(crate) fn submit(&mut self, plan: Plan) -> Result<RequestId> {
        self.check_queue()?;
        let id = RequestId(self.next);
        self.next += 1;
        self.waiting.push_back((id, Waiting::New(Box::new(plan))));
        Ok(id)
    }

    pub(crate) fn cancel(&mut self, id: RequestId) -> bool {
        let before = self.requests();
        self.waiting.retain(|(other, _)| *other != id);
        self.running.retain(|(other, _)| *other != id);
        self.requests() < before
    }

    /// One step; false when nothing is left to do.
    pub(crate) fn step(&mut self, session: &mut Session, on_event: OnEvent<'_>) -> Result<bool> {
        self.admit(session, on_event);
        let rows = match self.read(session, on_event) {
            Ok(rows) => rows,
            Err(e) => {
                let waiting = self.waiting.drain(..).map(|(id, _)| id);
                let all: Vec<RequestId> = self.running.drain(..).map(|(id, _)| id).chain(waiting).collect();
                all.into_iter().for_each(|id| on_event(id, Event::Failed(e.clone())));
                return Err(e);
            }
        };
        let (running, mut logits) = (std::mem::take(&mut self.running), std::mem::take(&mut self.logits));
        let mut found = logits.iter_mut();
        for ((id, mut answer), rows) in running.into_iter().zip(rows) {
            let logits = if rows > 0 { found.next() } else { None }.map_or(&mut [][..], Vec::as_mut_slice);
            let before = answer.guessed();
            let mut chosen = 0;
            let ended = answer.take(session, logits, &mut |token| {
                chosen += 1;
                on_event(id, Event::Token { id: token.id, logprob: token.logprob, text: token.text });
            });
            self.counts.generated_tokens += chosen;
            let (drafted, accepted) = answer.guessed();
            self.counts.drafted_tokens += (drafted - before.0) as u64;
            self.counts.accepted_tokens += (accepted - before.1) as u64;
            match ended {
                Ok(false) => self.running.push((id, answer)),
                Ok(true) => match answer.finish() {
                    Ok((generation, text)) => on_event(id, Event::Finished { text, generation }),
                    Err(e) => on_event(id, Event::Failed(e)),
                },
                Err(e) => on_event(id, Event::Failed(e)),
            }
        }
        self.logits = logits;
        Ok(self.requests() > 0)
    }

    /// Let those that wait run, the oldest first, as long as there is room. Where others run, the encoders run for one of them
    /// at a time.
    fn admit(&mut self, session: &mut Session, on_event: OnEvent<'_>) {
        let mut encodes = false;
        while self.running.len() < self.options.running
            && let Some((id, waiting)) = self.waiting.pop_front()
        {
            let is_first = self.running.is_empty();
            let has_room = session.may_grow() || session.has_room(waiting.rows() + 1, self.pages_to_come());
            let is_encoded = match &waiting {
                Waiting::New(plan) => plan.is_encoded(session),
                Waiting::Paused(_) => true,
            };
            if !is_first && (!has_room || (encodes && !is_encoded)) {
                self.waiting.push_front((id, waiting));
                return;
            }
            encodes |= !is_encoded;
            let answer = match waiting {
                Waiting::New(plan) => self.start(session, *plan).map(Box::new),
                Waiting::Paused(answer) => Ok(answer),
            };
            match answer {
                Ok(answer) => {
                    let at = self.running.partition_point(|(other, _)| *other < id);
                    self.running.insert(at, (id, answer));
                }
                Err(e) => on_event(id, Event::Failed(e)),
            }
        }
    }

    /// Pages that those that run will take soon: for what they have not read yet, and one more each.
    fn pages_to_come(&self) -> usize {
        let pages = |(_, answer): &(RequestId, Box<Answer>)| {
            let sequence = &answer.sequence;
            1 + sequence.len().div_ceil(PAGE) - sequence.held().div_ceil(PAGE)
        };
        self.running.iter().map(pages).sum()
    }

    fn start(&mut self, session: &mut Session, plan: Plan) -> Result<Answer> {
        session.reserve(plan.room)?;
        Answer::start(session, plan)
    }

    /// One run over rows of as many answers as fit: gives how many of each. The logits are those that answers with rows
    /// wanted.
    fn read(&mut self, session: &mut Session, on_event: OnEvent<'_>) -> Result<Vec<usize>> {
        for (_, answer) in &mut self.running {
            session.refresh(&mut answer.sequence);
            self.counts.prefix_hits += answer.share(session) as u64;
        }
        let answers = self.running.iter_mut().map(|(_, answer)| &mut **answer);
        guess(session, answers, self.options.prompt_rows, &mut self.counts)?;
        loop {
            let rows = self.rows(session);
            let mut parts = Vec::new();
            for ((id, answer), rows) in self.running.iter_mut().zip(&rows).filter(|(_, rows)| **rows > 0) {
                if answer.begin() {
                    let (prompt_tokens, cached_tokens) = (answer.prompt_tokens(), answer.cached_tokens());
                    self.counts.prompt_tokens += prompt_tokens as u64;
                    self.counts.prefix_queries += prompt_tokens as u64;
                    on_event(*id, Event::Started { prompt_tokens, cached_tokens });
                }
                let logits = answer.wanted(*rows);
                parts.push(Part { sequence: &mut answer.sequence, rows: *rows, logits });
            }
            match session.step_into(&mut parts, &mut self.logits) {
                Ok(()) => return Ok(rows),
                Err(Error::CacheFull { .. }) if self.forget_guesses() => {}
                Err(Error::CacheFull { .. }) if session.may_grow() => {
                    session.grow()?;
                    self.running.iter_mut().for_each(|(_, answer)| session.refresh(&mut answer.sequence));
                }
                Err(Error::CacheFull { .. }) if self.running.len() > 1 => self.pause_youngest(),
                Err(e) => return Err(e),
            }
        }
    }

    /// Take all guesses back; false when there was none.
    fn forget_guesses(&mut self) -> bool {
        let mut any = 0;
        for (_, answer) in &mut self.running {
            any += answer.sequence.drafts();
            answer.sequence.keep_drafts(0);
        }
        any > 0
    }

    /// The youngest gives its pages back, and goes on when there is room again.
    fn pause_youngest(&mut self) {
        if let Some((id, mut answer)) = self.running.pop() {
            answer.release();
            self.counts.preemptions += 1;
            let at = self.waiting.partition_point(|(other, _)| *other < id);
            self.waiting.insert(at, (id, Waiting::Paused(answer)));
        }
    }

    /// How many rows of each answer the next step reads: the last token of each whose others are read, with its guesses, and
    /// a limited number of rows of prompts. The oldest of those has half of them at least, and the shortest of the others
    /// come first, so that none waits for long behind a long one.
    fn rows(&self, session: &Session) -> Vec<usize> {
        let next_run = |i: usize, limit: usize| self.running[i].1.next_run(limit.min(session.chunk()));
        let left = |i: usize| self.running[i].1.sequence.len() - self.running[i].1.sequence.held();
        let mut rows = vec![0; self.running.len()];
        let mut prompts = Vec::new();
        for (i, (_, answer)) in self.running.iter().enumerate() {
            if !is_prompt(answer) {
                rows[i] = left(i);
            } else if !(session.shares_prefixes() && self.follows(i)) {
                prompts.push(i);
            }
        }
        // The oldest prompt follows none, so there is one where there is any.
        let Some((&mut oldest, others)) = prompts.split_first_mut() else { return rows };
        let mut budget = self.options.prompt_rows;
        let for_others = others.iter().map(|&i| left(i)).sum::<usize>().min(budget / 2);
        // An image block that is wider is read all the same.
        rows[oldest] = next_run(oldest, budget - for_others);
        budget = budget.saturating_sub(rows[oldest]);
        others.sort_by_key(|&i| left(i));
        for &mut i in others {
            if budget > 0 {
                let run = next_run(i, budget);
                // A block that is wider waits until it is the oldest.
                rows[i] = if run > budget { 0 } else { run };
                budget -= rows[i];
            }
        }
        rows
    }

    /// Whether an older prompt that is being read begins as this one does: what it reads is shared then.
    fn follows(&self, i: usize) -> bool {
        let (_, answer) = &self.running[i];
        let reads_for_both =
            |(_, older): &(RequestId, Box<Answer>)| older.sequence.reads_for(&answer.sequence);
        answer.shares() && self.running[..i].iter().filter(|(_, older)| is_prompt(older)).any(reads_for_both)
    }

    pub(crate) fn statistics(&self, session: &Session) -> SchedulerStatistics {
        let (pages, pages_used) = session.pages();
        let (running, waiting) = (self.running.len(), self.waiting.len());
        let (encoder_runs, encoder_hits) = session.encoder_counts();
        SchedulerStatistics { running, waiting, pages, pages_used, encoder_runs, encoder_hits, ..self.counts }
    }
}

/// Whether more than its last token and guesses are to be read.
fn is_prompt(answer: &Answer) -> bool {
    answer.sequence.held() + 1 < answer.sequence.certain()
}
