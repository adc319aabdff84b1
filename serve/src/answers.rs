//! The answers to a request as they come, whatever the protocol in which they are told.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use percept_infer::{Event, Finish, Generation, TokenLogprob};
use tokio::sync::mpsc;
use tokio::time::{Instant as Deadline, sleep_until};

use crate::app::{Phase, Shared};
use crate::failure::Failure;
use crate::metrics::Time;
use crate::models::Update;

/// Something that became known of the answer of a number.
#[derive(Debug)]
pub(crate) enum News {
    /// It is being made: tokens of its prompt, and those of them that the cache held already.
    Started { prompt: usize, cached: usize },
    /// A token was chosen, and this text became certain with it.
    Token { id: i32, text: String, logprob: Option<TokenLogprob> },
    /// It ended. The text that was held back comes with it.
    Ended { text: String, generation: Box<Generation> },
}

/// What all answers of a request took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Usage {
    /// Tokens of the prompt, which all answers share.
    pub prompt: usize,
    /// Those of them that the cache held already.
    pub cached: usize,
    /// Tokens of all answers.
    pub generated: usize,
}

/// The answers to a request.
pub(crate) struct Answers {
    app: Shared,
    model: String,
    updates: mpsc::Receiver<Update>,
    arrived: Instant,
    deadline: Instant,
    /// When the last token of each answer came.
    last: Vec<Option<Instant>>,
    left: usize,
    usage: Usage,
    /// The prompt ends within the model's reasoning.
    pub is_thinking: bool,
}

impl Answers {
    /// The answers that come, `n` of them.
    pub fn new(
        app: &Shared,
        model: &str,
        updates: mpsc::Receiver<Update>,
        arrived: Instant,
        n: usize,
    ) -> Self {
        let deadline = arrived + app.limits.request_time;
        Self {
            app: app.clone(),
            model: model.to_owned(),
            updates,
            arrived,
            deadline,
            last: vec![None; n],
            left: n,
            usage: Usage::default(),
            is_thinking: false,
        }
    }

    /// What they took so far.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// What becomes known next, with the number of its answer; `None` when all answers ended.
    ///
    /// # Errors
    /// When an answer fails, takes too long, or the server ends. Then the others are given up too.
    pub async fn next(&mut self) -> Result<Option<(usize, News)>, Failure> {
        if self.left == 0 {
            return Ok(None);
        }
        let update = tokio::select! {
            update = self.updates.recv() => update,
            () = sleep_until(Deadline::from_std(self.deadline)) => return Err(self.late()),
        };
        match update {
            Some(Update::Event(choice, event)) => self.event(choice, *event).map(Some),
            Some(Update::Stopped) => Err(stopping()),
            None if self.app.phase() == Phase::Ending => Err(stopping()),
            None => Err(Failure::new(
                StatusCode::REQUEST_TIMEOUT,
                "invalid_request_error",
                "the answer was given up, since it was taken too slowly",
            )),
        }
    }

    fn late(&self) -> Failure {
        let why = format!(
            "the answer took more than the {} s that the server gives a request; ask for fewer tokens",
            self.app.limits.request_time.as_secs_f64()
        );
        Failure::new(StatusCode::GATEWAY_TIMEOUT, "server_error", why).with_code("timeout")
    }

    fn event(&mut self, choice: usize, event: Event) -> Result<(usize, News), Failure> {
        let now = Instant::now();
        let Some(last) = self.last.get_mut(choice) else {
            return Err(Failure::server("an answer has a number that was not asked for"));
        };
        let metrics = &self.app.metrics;
        let news = match event {
            Event::Started { prompt_tokens, cached_tokens } => {
                self.usage.prompt = prompt_tokens;
                // Other answers to the same prompt find what the first one read.
                if choice == 0 {
                    self.usage.cached = cached_tokens;
                }
                News::Started { prompt: prompt_tokens, cached: cached_tokens }
            }
            Event::Token { id, logprob, text } => {
                let (time, since) = match last {
                    Some(last) => (Time::Between, *last),
                    None => (Time::First, self.arrived),
                };
                metrics.time(&self.model, time, (now - since).as_secs_f64());
                *last = Some(now);
                News::Token { id, text, logprob }
            }
            Event::Finished { text, generation } => {
                self.usage.prompt = generation.prompt_tokens;
                self.usage.generated += generation.tokens.len();
                self.left -= 1;
                if self.left == 0 {
                    metrics.time(&self.model, Time::Whole, (now - self.arrived).as_secs_f64());
                }
                News::Ended { text, generation: Box::new(generation) }
            }
            Event::Failed(error) => return Err(Failure::of_infer(&error)),
        };
        Ok((choice, news))
    }
}

fn stopping() -> Failure {
    Failure::unavailable("the server is stopping, and the answer was given up", 5)
}

/// OpenAI's word for the reason of an end.
pub(crate) fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
    }
}

/// Silence after which a stream says that it is alive, so that what stands between does not cut it.
pub(crate) const ALIVE: Duration = Duration::from_secs(15);
