//! The tokenizer's keys of a GGUF file, from tokenizer.json and the files beside it.

use std::collections::BTreeMap;

use percept_modalities::text::{GgufVocabulary, TOOL_USE_FILE, TokenKind};
use serde_json::Value as Json;

use super::super::Checkpoint;
use super::vocabulary::CAP;
use super::write::Given;

/// How GPT-2 splits text, which tokenizer.json leaves unsaid.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// llama.cpp's names for ways to split text, by the patterns of published tokenizer.json files; the spellings that
/// llama.cpp itself uses are [`GgufVocabulary::split_name`]'s.
const SPLITS: [(&str, &[&str]); 4] = [
    ("gpt-2", &[GPT2]),
    ("smollm", &[r"\p{N}", GPT2]),
    (
        "llama-bpe",
        &[
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
    ),
    (
        "qwen2",
        &[
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
    ),
];

/// The key that holds a whole tokenizer.json (`tokenizer.huggingface.json` of the format's specification).
pub(crate) const TOKENIZER_JSON: &str = "tokenizer.huggingface.json";

/// The key that holds the template for conversations with tools.
pub(crate) const TOOL_USE_KEY: &str = "tokenizer.chat_template.tool_use";

/// Files that go with a model and whose contents no key of llama.cpp's holds whole.
pub(crate) const CARRIED: [&str; 3] =
    ["tokenizer_config.json", "special_tokens_map.json", "generation_config.json"];

/// The key that holds one of these files.
pub(crate) fn file_key(name: &str) -> String {
    format!("percept.file.{name}")
}

/// Add the vocabulary, the special tokens and the chat template in llama.cpp's keys, and the files they come from as
/// they are, of a model whose table has so many rows and whose text's configuration this is. What llama.cpp's keys leave out is noted.
///
/// # Errors
/// When tokenizer.json is not what llama.cpp can hold, or a file is not JSON.
pub(crate) fn tokenizer_keys(
    checkpoint: &Checkpoint,
    (rows, config): (u64, &Json),
    keys: &mut Vec<(String, Given)>,
    notes: &mut Vec<String>,
) -> Result<(), String> {
    let json = |name: &str| match checkpoint.file(name).map_err(|e| e.to_string())? {
        None => Ok(Json::Null),
        Some(bytes) => serde_json::from_slice::<Json>(&bytes).map_err(|e| format!("{name}: {e}")),
    };
    let (tokenizer, settings) = (json("tokenizer.json")?, json("tokenizer_config.json")?);
    for name in CARRIED {
        let mut file = json(name)?;
        if let Some(object) = file.as_object_mut() {
            // The template has a key of its own.
            if object.get("chat_template").is_some_and(Json::is_string) {
                object.remove("chat_template");
            }
            keys.push((file_key(name), Given::Text(file.to_string())));
        }
    }
    if tokenizer.is_null() {
        notes.push("there is no tokenizer.json, so the file has no vocabulary and takes no text".into());
        return Ok(());
    }
    let vocabulary = Vocabulary::read(&tokenizer, rows)?;
    keys.push((TOKENIZER_JSON.into(), Given::Text(tokenizer.to_string())));
    let beyond = beyond_llama_cpp(&tokenizer);
    if !beyond.is_empty() {
        notes.push(format!(
            "llama.cpp's keys cannot say this of tokenizer.json, which is in the file as a whole too (key \
             '{TOKENIZER_JSON}') and which llama.cpp does not read, so that its token ids may differ: {}",
            beyond.join(", ")
        ));
    }
    let mut set = |key: &str, value: Given| keys.push((format!("tokenizer.{key}"), value));
    let id = |token: &str| vocabulary.tokens.iter().position(|t| t == token).map(|i| i as u32);
    if vocabulary.byte_fallback {
        set("ggml.model", Given::Text("llama".into()));
        set("ggml.scores", Given::F32s(vocabulary.scores()));
        set("ggml.add_space_prefix", Given::Bool(adds_space(&tokenizer)));
    } else {
        set("ggml.model", Given::Text("gpt2".into()));
        let patterns = patterns(&tokenizer["pre_tokenizer"]);
        let known = SPLITS.iter().find(|(_, p)| *p == patterns).map(|(name, _)| *name);
        let known = known.or_else(|| GgufVocabulary::split_name(&patterns));
        if known.is_none() {
            notes.push(format!(
                "tokenizer.json splits text in a way that llama.cpp has no known name for ({}); its default stands in \
                 there, so its token ids may differ",
                patterns.join(" then ")
            ));
        }
        set("ggml.pre", Given::Text(known.unwrap_or("default").into()));
        set("ggml.merges", Given::Texts(vocabulary.merges.iter().map(|(a, b)| format!("{a} {b}")).collect()));
    }
    let mut ids = BTreeMap::new();
    for (role, name) in [("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown")] {
        let token = &settings[format!("{role}_token")];
        let token = token.as_str().or(token["content"].as_str());
        let key = format!("{role}_token_id");
        let own =
            [checkpoint.config(), config].into_iter().find_map(|c| c.get(&key).filter(|v| !v.is_null()));
        let own = own.unwrap_or(&Json::Null);
        // Several tokens may end a text; GGUF has room for the first.
        let own = own.as_u64().or(own[0].as_u64()).map(|n| n as u32);
        let found = token.and_then(id).or(own).filter(|n| (*n as usize) < vocabulary.tokens.len());
        if let Some(found) = found {
            set(&format!("ggml.{name}_token_id"), Given::U32(found));
            ids.insert(role, found);
        }
    }
    let (begins, ends) = around(&tokenizer["post_processor"], &ids, &vocabulary.tokens);
    set("ggml.add_bos_token", Given::Bool(begins));
    set("ggml.add_eos_token", Given::Bool(ends));
    set("ggml.token_type", Given::I32s(vocabulary.kinds.iter().map(|k| k.to_ggml()).collect()));
    set("ggml.tokens", Given::Texts(vocabulary.tokens));
    match chat_template(checkpoint, &settings, "default")? {
        Some(template) => set("chat_template", Given::Text(template)),
        None => notes.push("there is no chat template".into()),
    }
    if let Some(template) = chat_template(checkpoint, &settings, "tool_use")? {
        set("chat_templates", Given::Texts(vec!["tool_use".into()]));
        keys.push((TOOL_USE_KEY.into(), Given::Text(template)));
    }
    Ok(())
}

/// What GGUF needs of tokenizer.json.
struct Vocabulary {
    tokens: Vec<String>,
    kinds: Vec<TokenKind>,
    merges: Vec<(String, String)>,
    byte_fallback: bool,
}

impl Vocabulary {
    fn read(tokenizer: &Json, rows: u64) -> Result<Vocabulary, String> {
        let model = &tokenizer["model"];
        let kind = model["type"].as_str().unwrap_or_default();
        let Some(vocab) = model["vocab"].as_object().filter(|_| kind == "BPE") else {
            return Err(format!("tokenizer.json is of type '{kind}'; BPE can be written to GGUF"));
        };
        let byte_fallback = model["byte_fallback"].as_bool().unwrap_or(false);
        let mut by_id: BTreeMap<u64, (&str, TokenKind)> = BTreeMap::new();
        for (token, id) in vocab {
            let id =
                id.as_u64().ok_or_else(|| format!("tokenizer.json: the id of '{token}' is no number"))?;
            let is_byte =
                byte_fallback && token.len() == 6 && token.starts_with("<0x") && token.ends_with('>');
            by_id.insert(id, (token, if is_byte { TokenKind::Byte } else { TokenKind::Normal }));
        }
        let unknown = model["unk_token"].as_str();
        for added in tokenizer["added_tokens"].as_array().into_iter().flatten() {
            let (Some(id), Some(token)) = (added["id"].as_u64(), added["content"].as_str()) else {
                return Err("tokenizer.json: an added token has no id or no content".into());
            };
            let kind = match added["special"].as_bool() {
                _ if unknown == Some(token) => TokenKind::Unknown,
                Some(true) => TokenKind::Control,
                _ => TokenKind::UserDefined,
            };
            by_id.insert(id, (token, kind));
        }
        let count = by_id.keys().next_back().map_or(0, |id| id.saturating_add(1));
        if rows > 0 && count > rows {
            return Err(format!("tokenizer.json has ids up to {}, the model {rows} tokens", count - 1));
        }
        let count = count.max(rows);
        if count > CAP as u64 {
            return Err(format!("tokenizer.json has ids up to {}, more than {CAP}", count - 1));
        }
        let one = |id: u64| match by_id.get(&id) {
            Some((token, kind)) => (token.to_string(), *kind),
            // Rows of the table of embeddings that no token has.
            None => (format!("[PAD{id}]"), TokenKind::Unused),
        };
        let (tokens, kinds) = (0..count).map(one).unzip();
        let merge = |merge: &Json| {
            let pair = match merge {
                Json::String(text) => text.split_once(' '),
                pair => pair[0].as_str().zip(pair[1].as_str()),
            };
            pair.map(|(a, b)| (a.to_string(), b.to_string()))
                .ok_or_else(|| format!("tokenizer.json: {merge} is no merge of two tokens"))
        };
        let merges = model["merges"].as_array().into_iter().flatten().map(merge).collect::<Result<_, _>>()?;
        Ok(Vocabulary { tokens, kinds, merges, byte_fallback })
    }

    /// SentencePiece merges the pair whose joint token has the greatest score, so the rank of the first merge that
    /// makes a token, negated, is as good a score as the original.
    fn scores(&self) -> Vec<f32> {
        let mut ranks: BTreeMap<String, usize> = BTreeMap::new();
        for (rank, (a, b)) in self.merges.iter().enumerate() {
            ranks.entry(format!("{a}{b}")).or_insert(rank);
        }
        let last = self.merges.len();
        let score = |(token, kind): (&String, &TokenKind)| match kind {
            TokenKind::Normal => -(ranks.get(token).copied().unwrap_or(last) as f32),
            _ => 0.0,
        };
        self.tokens.iter().zip(&self.kinds).map(score).collect()
    }
}

/// The regular expressions by which text is split before merging, in the order in which they apply.
fn patterns(pre_tokenizer: &Json) -> Vec<String> {
    match pre_tokenizer["type"].as_str().unwrap_or_default() {
        "Sequence" => {
            pre_tokenizer["pretokenizers"].as_array().into_iter().flatten().flat_map(patterns).collect()
        }
        "Split" => pre_tokenizer["pattern"]["Regex"].as_str().into_iter().map(str::to_string).collect(),
        "Digits" if pre_tokenizer["individual_digits"] == true => vec![r"\p{N}".into()],
        "ByteLevel" if pre_tokenizer["use_regex"] != false => vec![GPT2.into()],
        "ByteLevel" => Vec::new(),
        other => vec![other.to_string()],
    }
}

/// What a tokenizer does that llama.cpp does not by the same vocabulary.
fn beyond_llama_cpp(tokenizer: &Json) -> Vec<String> {
    let mut beyond = Vec::new();
    let model = &tokenizer["model"];
    let byte_fallback = model["byte_fallback"] == true;
    for normalizer in parts(&tokenizer["normalizer"], "normalizers") {
        let kind = normalizer["type"].as_str().unwrap_or_default();
        let spaces = byte_fallback && matches!(kind, "Prepend" | "Replace");
        if !kind.is_empty() && !spaces {
            beyond.push(format!("the normalizer {kind}"));
        }
    }
    for splitter in parts(&tokenizer["pre_tokenizer"], "pretokenizers") {
        if splitter["prepend_scheme"] == "first" || splitter["add_prefix_space"] == true && !byte_fallback {
            let kind = splitter["type"].as_str().unwrap_or_default();
            beyond.push(format!("{kind} puts a space before the first word alone"));
        }
    }
    for key in ["unk_token", "continuing_subword_prefix", "end_of_word_suffix"] {
        if !byte_fallback && model[key].as_str().is_some_and(|text| !text.is_empty()) {
            beyond.push(format!("'{key}' of its model"));
        }
    }
    let added = tokenizer["added_tokens"].as_array().map(Vec::as_slice).unwrap_or_default();
    for flag in ["lstrip", "rstrip", "single_word", "normalized"] {
        let flagged = added.iter().filter(|token| token[flag] == true).count();
        if flagged > 0 {
            beyond.push(format!("'{flag}' of {flagged} added tokens"));
        }
    }
    beyond
}

/// The members of a sequence, or the one there is.
fn parts(part: &Json, list: &str) -> Vec<Json> {
    part[list].as_array().cloned().unwrap_or_else(|| vec![part.clone()])
}

/// Whether a space is put before the text: by a normalizer or, in newer files, by Metaspace.
fn adds_space(tokenizer: &Json) -> bool {
    let prepends = parts(&tokenizer["normalizer"], "normalizers").iter().any(|n| n["type"] == "Prepend");
    let metaspace = |p: &Json| {
        p["type"] == "Metaspace" && p["prepend_scheme"] != "never" && p["add_prefix_space"] != false
    };
    prepends || parts(&tokenizer["pre_tokenizer"], "pretokenizers").iter().any(metaspace)
}

/// Whether the post-processor puts the first token before a text, and the last one after it.
fn around(post_processor: &Json, ids: &BTreeMap<&str, u32>, tokens: &[String]) -> (bool, bool) {
    if let Some(parts) = post_processor["processors"].as_array() {
        return parts
            .iter()
            .map(|p| around(p, ids, tokens))
            .fold((false, false), |a, b| (a.0 || b.0, a.1 || b.1));
    }
    let text = |role: &str| ids.get(role).and_then(|id| tokens.get(*id as usize)).map(String::as_str);
    let single = post_processor["single"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is = |part: Option<&Json>, role: &str| {
        let token = part.and_then(|p| p["SpecialToken"]["id"].as_str());
        token.is_some() && token == text(role)
    };
    (is(single.first(), "bos"), is(single.last(), "eos"))
}

/// The template that is meant when none is named, `default`, or the one for tools, `tool_use`.
fn chat_template(checkpoint: &Checkpoint, settings: &Json, name: &str) -> Result<Option<String>, String> {
    let file = |name: &str| checkpoint.file(name).map_err(|e| e.to_string());
    if let Some(bytes) = file("chat_template.jinja")? {
        let bytes = if name == "default" { Some(bytes) } else { file(TOOL_USE_FILE)? };
        return bytes.map(String::from_utf8).transpose().map_err(|e| format!("its template '{name}': {e}"));
    }
    let given = match file("chat_template.json")? {
        Some(bytes) => {
            let json: Json =
                serde_json::from_slice(&bytes).map_err(|e| format!("chat_template.json: {e}"))?;
            json["chat_template"].clone()
        }
        None => settings["chat_template"].clone(),
    };
    let found = match &given {
        Json::String(_) => Some(&given).filter(|_| name == "default"),
        Json::Array(list) => list.iter().rev().find(|t| t["name"] == name).map(|t| &t["template"]),
        by_name => by_name.get(name),
    };
    Ok(found.and_then(Json::as_str).map(str::to_string))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ways_to_split_are_recognised() {
        let bytes = json!({ "type": "ByteLevel", "use_regex": true });
        let digits = json!({ "type": "Digits", "individual_digits": true });
        let both = json!({ "type": "Sequence", "pretokenizers": [digits, bytes] });
        let name = |p: &Json| SPLITS.iter().find(|(_, all)| *all == patterns(p)).map(|(n, _)| *n);
        assert_eq!((name(&bytes), name(&both)), (Some("gpt-2"), Some("smollm")));
        assert_eq!(name(&json!({ "type": "Whitespace" })), None);
    }

    #[test]
    fn ids_are_filled_up_and_bounded() {
        let tokenizer = json!({
            "model": { "type": "BPE", "vocab": { "a": 0, "b": 1, "ab": 2 }, "merges": ["a b"], "byte_fallback": true },
            "added_tokens": [{ "id": 4, "content": "<s>", "special": true }],
        });
        let v = Vocabulary::read(&tokenizer, 6).unwrap();
        assert_eq!(v.tokens, ["a", "b", "ab", "[PAD3]", "<s>", "[PAD5]"]);
        assert_eq!(v.kinds[4], TokenKind::Control);
        assert_eq!(v.scores(), [-1.0, -1.0, 0.0, 0.0, 0.0, 0.0]);
        assert!(Vocabulary::read(&tokenizer, 4).is_err());
        let far = json!({ "model": { "type": "BPE", "vocab": { "a": u64::MAX } } });
        assert!(Vocabulary::read(&far, 0).is_err());
    }
}
