//! `/tokenize` and `/detokenize`, as vLLM has them.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use percept_model::input_ids;
use serde_json::json;

use super::chat::variables;
use crate::app::Shared;
use crate::core::{named, parsed};
use crate::failure::{Failure, json_response};
use crate::logprobs::Logprobs;
use crate::media::{self, Fetched};
use crate::tools::Tools;

/// The tokens of a text, or of a conversation as the model is given it.
pub(crate) async fn tokenize(
    State(app): State<Shared>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let document = parsed(&app, &headers, body, |app, mut fields| {
        let (_, language) = named(app, &mut fields)?;
        let model = language.model();
        let tokenizer = model.processor().tokenizer();
        let spelled = fields.flag("return_token_strs")?.unwrap_or(false);
        let ids: Vec<i32> = match (fields.text("prompt")?, fields.take("messages")) {
            (Some(text), None) => {
                let special = fields.flag("add_special_tokens")?.unwrap_or(true);
                let ids = tokenizer.encode(&text, special);
                let ids = ids.map_err(|error| Failure::of_media(&error).at("prompt"))?;
                ids.into_iter().map(u32::cast_signed).collect()
            }
            (None, Some(messages)) => {
                let mut variables = variables(&mut fields, &language)?;
                if let Some(tools) = Tools::listed(&mut fields)? {
                    tools.format(&language)?;
                    variables.insert("tools".into(), tools.variable());
                }
                let messages = media::messages(messages)?;
                let inputs = media::inputs(&language, messages, variables, &Fetched::new(), &app.limits)?;
                input_ids(&inputs).map_err(|error| Failure::server(error.to_string()))?
            }
            (None, None) => return Err(Failure::field("prompt", "give a `prompt` or `messages`")),
            (Some(_), Some(_)) => {
                return Err(Failure::field("prompt", "give a `prompt` or `messages`, not both"));
            }
        };
        fields.finish()?;
        let mut document = json!({
            "count": ids.len(), "max_model_len": model.decoder().context, "tokens": ids,
        });
        if spelled {
            let logprobs = Logprobs(language.vocabulary()?);
            document["token_strs"] = ids.iter().map(|&id| logprobs.text(id)).collect::<Vec<_>>().into();
        }
        Ok(document)
    });
    Ok(json_response(StatusCode::OK, &document.await?))
}

/// The text of tokens.
pub(crate) async fn detokenize(
    State(app): State<Shared>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let document = parsed(&app, &headers, body, |app, mut fields| {
        let (_, language) = named(app, &mut fields)?;
        let tokenizer = language.model().processor().tokenizer();
        let ids = fields.read("tokens", "a list of token ids", |value| {
            value.as_array()?.iter().map(|id| u32::try_from(id.as_u64()?).ok()).collect::<Option<Vec<u32>>>()
        })?;
        let ids = ids.ok_or_else(|| fields.missing("tokens"))?;
        fields.finish()?;
        if let Some(id) = ids.iter().find(|id| tokenizer.token(**id).is_none()) {
            let why = format!("token {id} is none of the model's {}", tokenizer.vocabulary_size());
            return Err(Failure::field("tokens", why));
        }
        let text = tokenizer.decode(&ids, false).map_err(|error| Failure::of_media(&error).at("tokens"))?;
        Ok(json!({ "prompt": text }))
    });
    Ok(json_response(StatusCode::OK, &document.await?))
}
