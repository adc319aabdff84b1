//! What the bodies of requests may hold.

use serde_json::{Value, json};

use super::schema::{
    any_of, anything, count, flag, list, number, object, one_word_of, shared, some, text, together,
};
use crate::api::HARMLESS;
use crate::options::Limits;

/// The bodies, by their names.
pub(super) fn all(limits: &Limits) -> Vec<(&'static str, Value)> {
    vec![
        ("ChatRequest", chat(limits)),
        ("CompletionRequest", completion(limits)),
        ("ResponseRequest", response(limits)),
        ("EmbeddingRequest", embedding()),
        ("TranscriptionRequest", transcription(false)),
        ("TranslationRequest", transcription(true)),
        ("MessagesRequest", messages(limits)),
        ("CountTokensRequest", count_tokens()),
        ("OllamaChatRequest", ollama_chat(limits)),
        ("OllamaGenerateRequest", ollama_generate(limits)),
        ("TokenizeRequest", tokenize()),
        ("DetokenizeRequest", detokenize()),
        ("LoadRequest", load()),
    ]
}

/// The fields of sampling; `length` and `stop` are what the protocol calls these.
fn sampling(limits: &Limits, lengths: &[&str], stop: &str) -> Value {
    let most = limits.tokens.map_or(u32::MAX.into(), |most| most as u64);
    let stops = json!({ "type": "string", "minLength": 1, "maxLength": 1024 });
    let bias = json!({
        "type": "object", "propertyNames": { "pattern": "^[0-9]{1,9}$" }, "additionalProperties": number(-100.0, 100.0),
        "description": "Numbers by the ids of the model's tokens.",
    });
    let lengths = lengths.iter().map(|name| json!({ *name: count(1, most) }));
    together([
        json!({
            "temperature": number(0.0, 2.0),
            "top_p": { "type": "number", "exclusiveMinimum": 0, "maximum": 1 },
            "top_k": { "type": "integer", "minimum": -1, "maximum": i64::MAX },
            "min_p": number(0.0, 1.0),
            "frequency_penalty": number(-2.0, 2.0),
            "presence_penalty": number(-2.0, 2.0),
            "logit_bias": bias,
            "seed": { "type": "integer", "minimum": i64::MIN, "maximum": u64::MAX },
            "ignore_eos": flag(),
        }),
        json!({ stop: any_of(vec![stops.clone(), json!({ "type": "array", "items": stops, "maxItems": 16 })]) }),
        together(lengths),
    ])
}

/// `repetition_penalty`, under the protocol's name.
fn repetition(name: &str) -> Value {
    json!({ name: { "type": "number", "exclusiveMinimum": 0, "maximum": 1000 } })
}

/// `n`, where there may be several answers.
fn answers(limits: &Limits) -> Value {
    json!({ "n": count(1, limits.choices as u64) })
}

/// `n`, where the protocol has one answer.
fn one_answer() -> Value {
    json!({ "n": { "const": 1 } })
}

/// What changes nothing of an answer.
fn harmless() -> Value {
    let all = HARMLESS.iter().map(|name| json!({ *name: anything() }));
    let only = json!({ "store": { "const": false }, "service_tier": one_word_of(&["auto", "default"]) });
    together(all.chain([only]))
}

fn streaming() -> Value {
    let mut options =
        object(&[], json!({ "include_usage": flag(), "include_obfuscation": { "const": false } }));
    options["description"] = json!("Where `stream` is true alone.");
    json!({ "stream": flag(), "stream_options": options })
}

fn variables() -> Value {
    let others = json!({ "not": { "enum": ["messages", "add_generation_prompt", "tools"] } });
    json!({ "chat_template_kwargs": {
        "type": "object", "propertyNames": others, "description": "What the chat template reads beside the messages.",
    } })
}

fn model(kind: &str) -> Value {
    json!({ "model": shared(kind) })
}

fn conversation() -> Value {
    json!({ "messages": some(shared("Message")) })
}

fn chat(limits: &Limits) -> Value {
    let named = object(
        &["type", "function"],
        json!({ "type": { "const": "function" }, "function": object(&["name"], json!({ "name": text() })) }),
    );
    let own = json!({
        "logprobs": flag(), "top_logprobs": count(0, 20), "response_format": shared("ResponseFormat"),
        "tools": { "type": "array", "items": shared("Tool"), "maxItems": 128 },
        "tool_choice": any_of(vec![one_word_of(&["auto", "none", "required"]), named]), "parallel_tool_calls": flag(),
        "modalities": { "const": ["text"] }, "verbosity": { "const": "medium" },
    });
    object(
        &["model", "messages"],
        together([
            model("LanguageModel"),
            conversation(),
            sampling(limits, &["max_completion_tokens", "max_tokens"], "stop"),
            repetition("repetition_penalty"),
            answers(limits),
            streaming(),
            variables(),
            own,
            harmless(),
        ]),
    )
}

fn completion(limits: &Limits) -> Value {
    let ids = some(count(0, i32::MAX as u64));
    let many = |items: Value| json!({ "type": "array", "items": items, "minItems": 1, "maxItems": 64 });
    let prompt = any_of(vec![text(), many(text()), ids.clone(), many(ids)]);
    let own = json!({
        "prompt": prompt, "echo": flag(), "logprobs": count(0, 20), "best_of": count(1, limits.choices as u64),
    });
    object(
        &["model", "prompt"],
        together([
            model("LanguageModel"),
            own,
            sampling(limits, &["max_tokens"], "stop"),
            repetition("repetition_penalty"),
            answers(limits),
            streaming(),
            harmless(),
        ]),
    )
}

fn response(limits: &Limits) -> Value {
    let formats = vec![
        object(&["type"], json!({ "type": one_word_of(&["text", "json_object"]) })),
        object(&["type", "schema"], together([json!({ "type": { "const": "json_schema" } }), json_schema()])),
    ];
    let form = object(&[], json!({ "format": any_of(formats), "verbosity": { "const": "medium" } }));
    let tool =
        object(&["name"], together([json!({ "type": { "const": "function" } }), function("parameters")]));
    let named = object(&["type", "name"], json!({ "type": { "const": "function" }, "name": text() }));
    let own = json!({
        "input": any_of(vec![text(), some(shared("Item"))]), "instructions": text(), "text": form,
        "tools": { "type": "array", "items": tool, "maxItems": 128 },
        "tool_choice": any_of(vec![one_word_of(&["auto", "none", "required"]), named]), "parallel_tool_calls": flag(),
        "stream": flag(), "stream_options": object(&[], json!({ "include_obfuscation": { "const": false } })),
        "reasoning": object(&[], json!({})), "background": { "const": false }, "include": { "const": [] },
        "truncation": { "const": "disabled" }, "top_logprobs": { "const": 0 },
    });
    object(
        &["model", "input"],
        together([
            model("LanguageModel"),
            own,
            sampling(limits, &["max_output_tokens"], "stop"),
            repetition("repetition_penalty"),
            one_answer(),
            variables(),
            harmless(),
        ]),
    )
}

fn embedding() -> Value {
    let word = json!({ "type": "string", "minLength": 1 });
    let many = json!({ "type": "array", "items": word, "minItems": 1, "maxItems": 2048 });
    let own = json!({
        "input": any_of(vec![word, many]), "encoding_format": one_word_of(&["float", "base64"]), "user": anything(),
    });
    object(&["model", "input"], together([model("EmbeddingModel"), own]))
}

/// The fields of a form; there is no null in it.
fn transcription(translates: bool) -> Value {
    let both = json!({
        "file": { "type": "string", "contentMediaType": "application/octet-stream" }, "model": shared("SpeechModel"),
        "response_format": one_word_of(&["json", "text", "srt", "verbose_json", "vtt"]), "temperature": number(0.0, 1.0),
        "stream": flag(),
    });
    let more =
        json!({ "language": text(), "timestamp_granularities[]": list(one_word_of(&["word", "segment"])) });
    let properties = if translates { both } else { together([both, more]) };
    json!({ "type": "object", "required": ["file", "model"], "properties": properties, "additionalProperties": false })
}

/// `tools` and `tool_choice` as Anthropic has them.
fn anthropic_tools() -> Value {
    let own = json!({ "type": { "const": "custom" }, "cache_control": anything() });
    let tool = object(&["name"], together([own, function("input_schema")]));
    let choice = |kind: Value, more: Value| {
        let one = json!({ "type": kind, "disable_parallel_tool_use": flag() });
        let named: &[&str] = if more.get("name").is_some() { &["type", "name"] } else { &["type"] };
        object(named, together([one, more]))
    };
    let choices = vec![
        choice(one_word_of(&["auto", "any", "none"]), json!({})),
        choice(json!({ "const": "tool" }), json!({ "name": text() })),
    ];
    json!({ "tools": { "type": "array", "items": tool, "maxItems": 128 }, "tool_choice": any_of(choices) })
}

fn anthropic_talk() -> Value {
    let texts = object(
        &["type", "text"],
        json!({ "type": { "const": "text" }, "text": text(), "cache_control": anything(), "citations": anything() }),
    );
    json!({
        "system": any_of(vec![text(), list(texts)]), "messages": some(any_of(vec![shared("UserTurn"), shared("AssistantTurn")])),
    })
}

fn messages(limits: &Limits) -> Value {
    let own = json!({
        "stream": flag(), "thinking": object(&[], json!({ "type": { "const": "disabled" } })), "metadata": anything(),
        "cache_control": anything(), "service_tier": one_word_of(&["auto", "standard_only"]),
    });
    object(
        &["model", "messages"],
        together([
            model("LanguageModel"),
            anthropic_talk(),
            anthropic_tools(),
            sampling(limits, &["max_tokens"], "stop_sequences"),
            repetition("repetition_penalty"),
            one_answer(),
            variables(),
            own,
        ]),
    )
}

fn count_tokens() -> Value {
    let all = [model("LanguageModel"), anthropic_talk(), anthropic_tools(), variables()];
    object(&["model", "messages"], together(all))
}

/// What both endpoints of Ollama's take.
fn ollama(limits: &Limits) -> Value {
    let mut sampling = sampling(limits, &["num_predict"], "stop");
    // -1 is what its clients write for no limit.
    sampling["num_predict"] = any_of(vec![sampling["num_predict"].take(), json!({ "const": -1 })]);
    let options = together([
        sampling,
        repetition("repeat_penalty"),
        one_answer(),
        json!({ "num_ctx": { "type": "integer", "minimum": 1 } }),
    ]);
    let format = any_of(vec![one_word_of(&["json", ""]), json!({ "type": "object" })]);
    together([
        model("LanguageModel"),
        json!({
            "stream": flag(), "keep_alive": anything(), "think": flag(), "format": format, "options": object(&[], options),
        }),
    ])
}

fn ollama_chat(limits: &Limits) -> Value {
    let own = json!({
        "messages": some(shared("OllamaMessage")), "tools": { "type": "array", "items": shared("Tool"), "maxItems": 128 },
        "tool_choice": one_word_of(&["auto", "none"]), "parallel_tool_calls": flag(),
    });
    object(&["model", "messages"], together([ollama(limits), own]))
}

fn ollama_generate(limits: &Limits) -> Value {
    let own = json!({ "prompt": text(), "system": text(), "images": list(shared("Base64")), "raw": flag() });
    object(&["model"], together([ollama(limits), own]))
}

fn tokenize() -> Value {
    let prompt = json!({ "prompt": text(), "add_special_tokens": flag() });
    let own = json!({ "tools": list(anything()) });
    let both = || together([model("LanguageModel"), json!({ "return_token_strs": flag() })]);
    any_of(vec![
        object(&["model", "prompt"], together([both(), prompt])),
        object(&["model", "messages"], together([both(), conversation(), variables(), own])),
    ])
}

fn detokenize() -> Value {
    let own = json!({ "tokens": list(count(0, u32::MAX.into())) });
    object(&["model", "tokens"], together([model("LanguageModel"), own]))
}

fn load() -> Value {
    let kinds = one_word_of(&["model", "adapter", "embedding"]);
    let name = json!({ "type": "string", "minLength": 1, "maxLength": 200 });
    object(&["name", "path", "kind"], json!({ "name": name, "path": text(), "kind": kinds, "base": text() }))
}

/// `name`, `description`, `strict` and the schema of a function.
pub(super) fn function(parameters: &str) -> Value {
    json!({
        "name": { "type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$" }, "description": text(), "strict": flag(),
        parameters: { "type": "object" },
    })
}

/// What a format of JSON says of its schema.
pub(super) fn json_schema() -> Value {
    json!({
        "name": text(), "description": text(), "strict": flag(), "schema": any_of(vec![json!({ "type": "object" }), json!({ "const": true })]),
    })
}
