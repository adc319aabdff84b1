//! `/v1/embeddings`: texts as vectors of length one.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percept_infer::{Embedder, Error as InferError, Pooling, TextEmbedder};
use serde_json::{Value, json};

use crate::answers::Usage;
use crate::app::Shared;
use crate::core::parsed;
use crate::failure::{Failure, json_response};
use crate::models::Kind;
use crate::models::wrong_kind;
use crate::observe::Record;

/// Texts of one request at most.
const TEXTS: usize = 2048;

struct Ask {
    name: String,
    texts: Vec<String>,
    base64: bool,
}

/// Embeds texts.
pub(crate) async fn embeddings(
    State(app): State<Shared>,
    Extension(record): Extension<Arc<Record>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let ask = parsed(&app, &headers, body, |_, mut fields| {
        let name = fields.needed_text("model")?;
        let what = format!("a text or a list of 1 to {TEXTS} texts, none of them empty");
        let texts = fields.read("input", &what, |value| {
            let texts: Vec<String> = match value {
                Value::String(text) => vec![text.clone()],
                Value::Array(list) if (1..=TEXTS).contains(&list.len()) => {
                    list.iter().map(|text| text.as_str().map(str::to_owned)).collect::<Option<_>>()?
                }
                _ => return None,
            };
            texts.iter().all(|text| !text.is_empty()).then_some(texts)
        })?;
        let texts = texts.ok_or_else(|| fields.missing("input"))?;
        let format =
            fields.read("encoding_format", "\"float\" or \"base64\"", |value| match value.as_str()? {
                "float" => Some(false),
                "base64" => Some(true),
                _ => None,
            })?;
        fields.accept(&["user"]);
        fields.refuse(&[("dimensions", "vectors have the width of the model")])?;
        fields.finish()?;
        Ok(Ask { name, texts, base64: format.unwrap_or(false) })
    });
    let Ask { name, texts, base64 } = ask.await?;
    record.model(&name);
    let (_, kind) = app.registry.find(&name)?;
    let (vectors, tokens) = match kind {
        Kind::Texts(worker, pooling) => {
            worker.work(move |model, is_left| embed(model, &texts, pooling, is_left)).await?
        }
        Kind::Pairs(worker) => worker.work(move |model, is_left| embed_pairs(model, &texts, is_left)).await?,
        other => return Err(wrong_kind(&name, &other, "embeds texts")),
    };
    record.usage(Usage { prompt: tokens, ..Usage::default() });
    let vector = |vector: &Vec<f32>| match base64 {
        true => json!(STANDARD.encode(vector.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())),
        false => json!(vector),
    };
    let data = vectors.iter().enumerate();
    let data: Vec<Value> =
        data.map(|(i, v)| json!({ "object": "embedding", "index": i, "embedding": vector(v) })).collect();
    let document = json!({
        "object": "list", "data": data, "model": name, "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
    });
    Ok(json_response(StatusCode::OK, &document))
}

type Embedded = Result<(Vec<Vec<f32>>, usize), InferError>;

fn left() -> InferError {
    InferError::Setting("the client left".into())
}

fn embed(
    model: &mut TextEmbedder,
    texts: &[String],
    pooling: Pooling,
    is_left: &dyn Fn() -> bool,
) -> Embedded {
    let (mut vectors, mut tokens) = (Vec::new(), 0);
    for text in texts {
        if is_left() {
            return Err(left());
        }
        tokens += model.tokenizer().encode(text, true)?.len();
        vectors.push(model.text(text, pooling)?);
    }
    Ok((vectors, tokens))
}

fn embed_pairs(model: &mut Embedder, texts: &[String], is_left: &dyn Fn() -> bool) -> Embedded {
    let (mut vectors, mut tokens) = (Vec::new(), 0);
    // A text that is too long would be cut.
    let context = model.model().text.length;
    for text in texts {
        let n = model.model().tokenizer.encode(text, true)?.len();
        if n > context {
            return Err(InferError::TooLong { what: "the text", tokens: n, context });
        }
        tokens += n;
    }
    for texts in texts.chunks(Embedder::BATCH) {
        if is_left() {
            return Err(left());
        }
        vectors.extend(model.texts(texts)?);
    }
    Ok((vectors, tokens))
}
