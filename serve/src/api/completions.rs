//! `/v1/completions`: texts that a model continues as they stand.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use percept_infer::{Generation, TokenLogprob};
use percept_modalities::text::Tokenizer;
use percept_modalities::{Array, Inputs, Values};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{DONE, event, harmless, streaming, usage};
use crate::answers::{Answers, News, Usage, finish_reason};
use crate::app::Shared;
use crate::body;
use crate::clock::unix_seconds;
use crate::core::{Asked, Prompt, begin, named, parsed};
use crate::failure::{Failure, json_response};
use crate::fields::Fields;
use crate::logprobs::Logprobs;
use crate::observe::{Record, unique};
use crate::sampling::{self, Choice};
use crate::telling::{Teller, tell, whole};

/// Prompts of one request at most.
const PROMPTS: usize = 64;

/// A prompt, as text and as tokens.
struct Given {
    text: String,
    ids: Vec<i64>,
}

struct Ask {
    name: String,
    prompts: Vec<Given>,
    choice: Choice,
    /// Answers that are made for each prompt, of which the `n` most likely are given.
    best_of: usize,
    streams: bool,
    tells_usage: bool,
    echo: bool,
    logprobs: Option<Logprobs>,
}

/// Continues texts.
pub(crate) async fn completions(
    State(app): State<Shared>,
    Extension(record): Extension<Arc<Record>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let mut ask = parsed(&app, &headers, body, parse).await?;
    record.model(&ask.name);
    let n = std::mem::replace(&mut ask.choice.n, ask.best_of);
    let head = Head { id: format!("cmpl-{}", unique()), created: unix_seconds(), model: ask.name.clone() };
    let mut prompts = std::mem::take(&mut ask.prompts).into_iter();
    if ask.streams {
        // One prompt, as was checked.
        let Some(prompt) = prompts.next() else { return Err(Failure::bad("`prompt` is empty")) };
        let answers = answers(&app, &ask, &prompt, &record).await?;
        let (response, writer) = body::stream("text/event-stream");
        let offsets = vec![0; ask.best_of];
        let teller = Chunks { head, tells_usage: ask.tells_usage, logprobs: ask.logprobs, offsets };
        tokio::spawn(tell(answers, writer, record, teller));
        return Ok(response);
    }
    // All are taken as they come; when one fails, the others are given up with the set.
    let mut running = JoinSet::new();
    let prompts: Vec<Given> = prompts.collect();
    for (i, prompt) in prompts.iter().enumerate() {
        let answers = answers(&app, &ask, prompt, &record).await?;
        let (n, record) = (ask.best_of, record.clone());
        running.spawn(async move { whole(answers, n, &record, |_, _| {}).await.map(|whole| (i, whole)) });
    }
    let mut ended: Vec<Option<(Vec<Generation>, Usage)>> = prompts.iter().map(|_| None).collect();
    while let Some(joined) = running.join_next().await {
        let (i, whole) = joined.map_err(|_| Failure::server("an answer ended without a result"))??;
        ended[i] = Some(whole);
    }
    let (mut choices, mut all) = (Vec::new(), Usage::default());
    for (prompt, (mut generations, used)) in prompts.iter().zip(ended.into_iter().flatten()) {
        all.prompt += used.prompt;
        all.cached += used.cached;
        all.generated += used.generated;
        if ask.best_of > n {
            generations.sort_by(|a, b| likelihood(b).total_cmp(&likelihood(a)));
            generations.truncate(n);
        }
        for generation in generations {
            let choice = choice(choices.len(), &ask, prompt, &generation);
            choices.push(choice);
        }
    }
    record.usage(all);
    let mut document = head.document(choices);
    document["usage"] = usage(all);
    Ok(json_response(StatusCode::OK, &document))
}

/// What a model reads for a text as it stands.
pub(super) fn text_inputs(text: &str, tokenizer: &Tokenizer, param: &str) -> Result<Inputs, Failure> {
    let ids = tokenizer.encode(text, true).map_err(|error| Failure::of_media(&error).at(param))?;
    Ok(inputs_of(text, ids.into_iter().map(i64::from).collect()))
}

fn inputs_of(text: &str, ids: Vec<i64>) -> Inputs {
    let mut inputs = Inputs { prompt: text.to_owned(), ..Inputs::default() };
    let ids = Array { dims: vec![1, ids.len()], values: Values::I64(ids) };
    inputs.arrays.insert("input_ids".into(), ids);
    inputs
}

async fn answers(app: &Shared, ask: &Ask, prompt: &Given, record: &Record) -> Result<Answers, Failure> {
    let inputs = inputs_of(&prompt.text, prompt.ids.clone());
    let choice = Choice { options: ask.choice.options.clone(), n: ask.choice.n };
    let prompt = Prompt::Inputs(Box::new(inputs));
    begin(app, Asked { name: ask.name.clone(), prompt, choice, form: None }, record.arrived).await
}

/// The mean log-probability of an answer's tokens.
fn likelihood(generation: &Generation) -> f32 {
    let sum: f32 = generation.logprobs.iter().map(|token| token.logprob).sum();
    sum / generation.logprobs.len().max(1) as f32
}

fn choice(index: usize, ask: &Ask, prompt: &Given, generation: &Generation) -> Value {
    let mut text = generation.text.clone();
    let mut tokens: Vec<(i32, Option<&TokenLogprob>)> = Vec::new();
    if ask.echo {
        text.insert_str(0, &prompt.text);
        let read = generation.prompt_logprobs.iter().map(Option::as_ref);
        tokens.extend(prompt.ids.iter().map(|id| *id as i32).zip(read));
    }
    tokens.extend(generation.logprobs.iter().map(|token| (token.id, Some(token))));
    let logprobs = ask.logprobs.as_ref();
    // Offsets count from the text that is given back.
    let logprobs = logprobs.map(|logprobs| logprobs.completion(&tokens, 0));
    json!({
        "index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason(generation.finish),
    })
}

/// What a body asks of its model, by its first prompt.
pub(crate) fn asked(app: &Shared, fields: Fields) -> Result<Asked, Failure> {
    let Ask { name, prompts, choice, .. } = parse(app, fields)?;
    let first = prompts.into_iter().next().ok_or_else(|| Failure::bad("`prompt` is empty"))?;
    let prompt = Prompt::Inputs(Box::new(inputs_of(&first.text, first.ids)));
    Ok(Asked { name, prompt, choice, form: None })
}

fn parse(app: &Shared, mut fields: Fields) -> Result<Ask, Failure> {
    let (name, language) = named(app, &mut fields)?;
    let prompts = prompts(&mut fields, language.model().processor().tokenizer())?;
    let mut choice = sampling::choice(&mut fields, &language, &app.limits, &["max_tokens"])?;
    let (streams, tells_usage) = streaming(&mut fields)?;
    let echo = fields.flag("echo")?.unwrap_or(false);
    let top = fields.count("logprobs", 0, 20)?.map(|top| top as usize);
    let best_of =
        fields.count("best_of", 1, app.limits.choices as u64)?.map_or(choice.n, |best| best as usize);
    if best_of < choice.n {
        return Err(Failure::field("best_of", "`best_of` must not be smaller than `n`"));
    }
    if streams {
        let wrong = [
            (
                prompts.len() > 1,
                "prompt",
                "one prompt can be streamed; send the others in requests of their own",
            ),
            (echo, "echo", "`echo` cannot be streamed; leave `stream` out"),
            (best_of > choice.n, "best_of", "the best answer is known at the end; leave `stream` out"),
        ];
        if let Some((_, param, why)) = wrong.into_iter().find(|(is, _, _)| *is) {
            return Err(Failure::unsupported(param, why));
        }
    }
    let all = best_of.saturating_mul(prompts.len());
    if all > app.limits.running + app.limits.waiting {
        let why = format!(
            "{all} answers are asked for, and the server makes {} at most",
            app.limits.running + app.limits.waiting
        );
        return Err(Failure::field("prompt", why));
    }
    let logprobs = match top {
        Some(_) => Some(Logprobs(language.vocabulary()?)),
        None => None,
    };
    choice.options.logprobs = top.or((best_of > choice.n).then_some(0));
    choice.options.prompt_logprobs = top.filter(|_| echo);
    harmless(&mut fields)?;
    fields.refuse(&[("suffix", "models continue a text and do not fill gaps")])?;
    fields.finish()?;
    Ok(Ask { name, prompts, choice, best_of, streams, tells_usage, echo, logprobs })
}

/// `prompt`: a text, a list of texts, the tokens of one, or a list of those.
fn prompts(fields: &mut Fields, tokenizer: &Tokenizer) -> Result<Vec<Given>, Failure> {
    let value = fields.take("prompt").ok_or_else(|| fields.missing("prompt"))?;
    let wrong = || {
        let what = "a text, a list of texts, a list of token ids, or a list of such lists";
        Failure::field(
            "prompt",
            format!("`prompt` must be {what}, not empty and of at most {PROMPTS} prompts"),
        )
    };
    let given = match value {
        Value::String(_) => vec![value],
        Value::Array(list) if list.first().is_some_and(Value::is_number) => vec![Value::Array(list)],
        Value::Array(list) if !list.is_empty() && list.len() <= PROMPTS => list,
        _ => return Err(wrong()),
    };
    let read = |value: Value| -> Result<Given, Failure> {
        let media = |error| Failure::of_media(&error).at("prompt");
        match value {
            Value::String(text) => {
                let ids = tokenizer.encode(&text, true).map_err(media)?;
                Ok(Given { text, ids: ids.into_iter().map(i64::from).collect() })
            }
            Value::Array(list) => {
                let ids: Option<Vec<u32>> = list
                    .iter()
                    .map(|id| u32::try_from(id.as_u64()?).ok().filter(|id| *id < 1 << 31))
                    .collect();
                let ids = ids.filter(|ids| !ids.is_empty()).ok_or_else(wrong)?;
                let text = tokenizer.decode(&ids, false).map_err(media)?;
                Ok(Given { text, ids: ids.into_iter().map(i64::from).collect() })
            }
            _ => Err(wrong()),
        }
    };
    given.into_iter().map(read).collect()
}

/// What all documents of an answer begin with.
struct Head {
    id: String,
    created: u64,
    model: String,
}

impl Head {
    fn document(&self, choices: Vec<Value>) -> Value {
        json!({
            "id": self.id, "object": "text_completion", "created": self.created, "model": self.model,
            "choices": choices,
        })
    }
}

/// An answer in chunks.
struct Chunks {
    head: Head,
    tells_usage: bool,
    logprobs: Option<Logprobs>,
    /// Where the text of each answer is, in characters.
    offsets: Vec<usize>,
}

impl Chunks {
    fn chunk(&self, choice: usize, text: &str, logprobs: Value, finish: Value) -> String {
        let choice = json!({ "index": choice, "text": text, "logprobs": logprobs, "finish_reason": finish });
        self.document(vec![choice], Value::Null)
    }

    fn document(&self, choices: Vec<Value>, usage: Value) -> String {
        let mut document = self.head.document(choices);
        if self.tells_usage {
            document["usage"] = usage;
        }
        event(&document)
    }

    /// The log-probability of a token, where they are asked for.
    fn logprob(&mut self, choice: usize, token: Option<&TokenLogprob>) -> Option<Value> {
        let (logprobs, token) = self.logprobs.as_ref().zip(token)?;
        let offset = self.offsets.get_mut(choice)?;
        let told = logprobs.completion(&[(token.id, Some(token))], *offset);
        *offset += logprobs.text(token.id).chars().count();
        Some(told)
    }
}

impl Teller for Chunks {
    fn news(&mut self, choice: usize, news: News) -> String {
        match news {
            News::Started { .. } => String::new(),
            News::Token { text, logprob, .. } => {
                let logprobs = self.logprob(choice, logprob.as_ref());
                if text.is_empty() && logprobs.is_none() {
                    return String::new();
                }
                self.chunk(choice, &text, logprobs.unwrap_or_default(), Value::Null)
            }
            News::Ended { text, generation } => {
                self.chunk(choice, &text, Value::Null, json!(finish_reason(generation.finish)))
            }
        }
    }

    fn end(&mut self, used: Usage) -> String {
        let last = if self.tells_usage { self.document(Vec::new(), usage(used)) } else { String::new() };
        last + DONE
    }

    fn failed(&mut self, failure: &Failure) -> String {
        event(&failure.openai()) + DONE
    }
}
