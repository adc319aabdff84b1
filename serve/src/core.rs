//! From a request that is understood to the answers that come.

use std::time::Instant;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use percept_infer::Request;
use percept_modalities::{Inputs, Message};
use serde_json::{Map, Value};

use crate::answers::Answers;
use crate::app::Shared;
use crate::body;
use crate::constraint::{Compiled, Form};
use crate::failure::Failure;
use crate::fields::Fields;
use crate::media::{self, Fetched};
use crate::models::Language;
use crate::sampling::Choice;

/// What a model is to answer.
pub(crate) enum Prompt {
    /// A conversation, with what the template reads beside it.
    Talk { messages: Vec<Message>, variables: Map<String, Value> },
    /// What the model reads, as it stands.
    Inputs(Box<Inputs>),
}

/// The form that answers must have, and the field that says so.
pub(crate) type Formed = (Form, &'static str);

/// What a request asks of a model.
pub(crate) struct Asked {
    pub name: String,
    pub prompt: Prompt,
    pub choice: Choice,
    pub form: Option<Formed>,
}

impl Asked {
    /// What the model is given, and whether its answers begin within its reasoning. Takes long: media are decoded, text is
    /// cut into tokens, and the form is compiled.
    pub fn prepared(self, app: &Shared, fetched: &Fetched) -> Result<(Vec<Request>, bool), Failure> {
        let (_, language) = app.registry.language(&self.name)?;
        let compiled = match self.form {
            Some((form, param)) => Some(language.grammars()?.compile(form, param)?),
            None => None,
        };
        let inputs = match self.prompt {
            Prompt::Talk { messages, variables } => {
                media::inputs(&language, messages, variables, fetched, &app.limits)?
            }
            Prompt::Inputs(inputs) => *inputs,
        };
        let is_thinking = inputs.prompt.trim_end().ends_with("<think>");
        Ok((requests(inputs, &self.choice, compiled.as_ref()), is_thinking))
    }
}

/// Bodies of more bytes are parsed on a thread that may take long.
const LONG: usize = 1 << 16;

/// Reads the JSON object of a request and what `parse` makes of it.
pub(crate) async fn parsed<T: Send + 'static>(
    app: &Shared,
    headers: &HeaderMap,
    body: Body,
    parse: impl FnOnce(&Shared, Fields) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let json = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
        let kind = value.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("application/json")
    });
    if !json {
        // A page of another site may send plain text without asking; JSON it may not.
        let why = "send the request as JSON, with the header `Content-Type: application/json`";
        return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request_error", why));
    }
    let read = body::read(app, headers, body).await?;
    let (shared, length) = (app.clone(), read.bytes.len());
    let work = move || parse(&shared, Fields::of_body(&read.bytes)?);
    if length <= LONG { work() } else { prepare(app, work).await }
}

/// Does work that takes long, on a thread of its own; as many at once as there are cores.
pub(crate) async fn prepare<T: Send + 'static>(
    app: &Shared,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let permit = app.preparing.clone().acquire_owned().await;
    let worked = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        work()
    });
    worked.await.map_err(|_| Failure::server("preparing the request failed"))?
}

/// Begins the answers to what is asked. There is room for them before anything is decoded.
pub(crate) async fn begin(app: &Shared, mut asked: Asked, arrived: Instant) -> Result<Answers, Failure> {
    let (name, n) = (asked.name.clone(), asked.choice.n);
    let (_, language) = app.registry.language(&name)?;
    let running = app.limits.running;
    asked.choice.options.draft = app.draft.filter(|draft| language.has(draft));
    let admission = language.admit(n, || app.metrics.retry_after(&name, running))?;
    let fetched = match &asked.prompt {
        Prompt::Talk { messages, .. } => fetched(app, messages).await?,
        Prompt::Inputs(_) => Fetched::new(),
    };
    // Building the index of a large vocabulary takes long too, so the thread that prepares does it.
    let shared = app.clone();
    let made = prepare(app, move || asked.prepared(&shared, &fetched));
    let (requests, is_thinking) = made.await?;
    let updates = language.submit(requests, admission).await?;
    let mut answers = Answers::new(app, &name, updates, arrived, n);
    answers.is_thinking = is_thinking;
    Ok(answers)
}

/// The media that messages name by their addresses, where the server fetches any.
async fn fetched(app: &Shared, messages: &[Message]) -> Result<Fetched, Failure> {
    let Some(fetch) = &app.fetch else { return Ok(Fetched::new()) };
    let addresses = media::addresses(messages, &app.limits);
    if addresses.is_empty() {
        return Ok(Fetched::new());
    }
    let fetch = fetch.clone();
    // Waiting for other servers takes no turn from those who decode.
    let work = tokio::task::spawn_blocking(move || {
        let one = |address: String| {
            let bytes = fetch(&address);
            (address, bytes)
        };
        addresses.into_iter().map(one).collect()
    });
    work.await.map_err(|_| Failure::server("fetching the media failed"))
}

/// One request for each answer.
fn requests(inputs: Inputs, choice: &Choice, compiled: Option<&Compiled>) -> Vec<Request> {
    let one = |number: usize| {
        let constraint = compiled.map(Compiled::constraint);
        Request { inputs: inputs.clone(), options: choice.of(number), constraint }
    };
    (0..choice.n).map(one).collect()
}

/// The language model that a request names.
pub(crate) fn named(app: &Shared, fields: &mut Fields) -> Result<(String, Language), Failure> {
    let name = fields.needed_text("model")?;
    let (_, language) = app.registry.language(&name)?;
    Ok((name, language))
}
