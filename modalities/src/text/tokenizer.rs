//! Text to token ids and back.

use std::ops::Range;

use serde_json::json;
use tokenizers::Tokenizer as Inner;

use super::fragile::{check, contained};
use super::settings::TokenizerSettings;
use super::stream::DecodeStream;
use super::vocabulary::GgufVocabulary;
use crate::error::{Error, Result};

/// A tokenizer, as `AutoTokenizer` of transformers loads it from the same files.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: Inner,
    settings: TokenizerSettings,
    /// Put around a text when special tokens are requested, on top of what `tokenizer.json` puts.
    around: (Vec<u32>, Vec<u32>),
}

/// Token ids filled up or cut to a length, and which of them count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Padded {
    /// As many ids as were requested.
    pub ids: Vec<u32>,
    /// 1 for a token of the text, 0 for padding.
    pub attention_mask: Vec<u32>,
}

/// Words whose tokens each thread remembers: the first ones that it meets, which are the most common of most texts. The
/// library's own ten thousand take megabytes for each tokenizer and each thread of a server.
const WORDS: usize = 1024;

fn remembering_few(mut inner: Inner) -> Inner {
    let mut model = inner.get_model().clone();
    model.resize_cache(WORDS);
    inner.with_model(model);
    inner
}

impl Tokenizer {
    /// From the files of a checkpoint; `file` gives a file's bytes, or `None` when there is no such file. Without a
    /// `tokenizer.json` there is no tokenizer.
    ///
    /// # Errors
    /// When a file cannot be read or is wrong.
    pub fn find<E: From<Error>>(
        file: impl Fn(&str) -> std::result::Result<Option<Vec<u8>>, E>,
    ) -> std::result::Result<Option<Tokenizer>, E> {
        let Some(json) = file("tokenizer.json")? else { return Ok(None) };
        let config = file("tokenizer_config.json")?;
        let map = file("special_tokens_map.json")?;
        let settings = TokenizerSettings::read(config.as_deref(), map.as_deref())?;
        Ok(Some(Tokenizer::from_json(&json, settings)?))
    }

    /// From the bytes of a `tokenizer.json`. Its own padding and truncation are left aside, as transformers does.
    ///
    /// # Errors
    /// When it is not a tokenizer.
    pub fn from_json(tokenizer_json: &[u8], settings: TokenizerSettings) -> Result<Tokenizer> {
        let wrong = |why: String| Error::Config { file: "tokenizer.json".into(), why };
        check(tokenizer_json).map_err(wrong)?;
        let inner = contained(|| {
            let mut inner = Inner::from_bytes(tokenizer_json)?;
            inner.with_padding(None);
            inner.with_truncation(None)?;
            let known = inner.get_added_tokens_decoder();
            inner.add_tokens(settings.to_add(known.values()))?;
            Ok(inner)
        })
        .map_err(wrong)?;
        Ok(Tokenizer { inner: remembering_few(inner), settings, around: (Vec::new(), Vec::new()) })
    }

    /// From the vocabulary inside a GGUF file.
    ///
    /// # Errors
    /// When its kind is not known or its parts do not fit together.
    pub fn from_gguf(vocabulary: &GgufVocabulary) -> Result<Tokenizer> {
        let (inner, settings) = vocabulary.build()?;
        Ok(Tokenizer { inner: remembering_few(inner), settings, around: vocabulary.around() })
    }

    /// The tokenizer as files that transformers loads: `tokenizer.json` and `tokenizer_config.json`.
    ///
    /// # Errors
    /// When a part of it cannot be written as JSON.
    pub fn to_files(&self) -> Result<[(&'static str, Vec<u8>); 2]> {
        let wrong = |why: String| Error::Config { file: "tokenizer.json".into(), why };
        let mut json = serde_json::to_value(&self.inner).map_err(|error| wrong(error.to_string()))?;
        let around: Vec<(u32, String)> = self
            .around
            .0
            .iter()
            .chain(&self.around.1)
            .filter_map(|&id| Some((id, self.token(id)?)))
            .collect();
        if !around.is_empty() {
            let named = |id: &str| json!({ "SpecialToken": { "id": id, "type_id": 0 } });
            let (before, after) = around.split_at(self.around.0.len().min(around.len()));
            let one = |sequence: &str, type_id: u32| {
                let text = json!({ "Sequence": { "id": sequence, "type_id": type_id } });
                let before = before.iter().map(|token| named(&token.1));
                before.chain([text]).chain(after.iter().map(|token| named(&token.1))).collect::<Vec<_>>()
            };
            let tokens = around
                .iter()
                .map(|(id, token)| (token.clone(), json!({ "id": token, "ids": [id], "tokens": [token] })));
            let pair = [one("A", 0), one("B", 1)].concat();
            json["post_processor"] = json!({
                "type": "TemplateProcessing",
                "single": one("A", 0),
                "pair": pair,
                "special_tokens": tokens.collect::<serde_json::Map<_, _>>(),
            });
        }
        let mut config =
            json!({ "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": false });
        self.settings.tokens.iter().for_each(|(name, token)| config[name] = json!(token));
        Ok([("tokenizer.json", json), ("tokenizer_config.json", config)]
            .map(|(name, value)| (name, format!("{value:#}\n").into_bytes())))
    }

    /// Ids of a text in which special tokens may be written out. `add_special_tokens` adds those that the tokenizer puts
    /// around a text, such as the first one; a rendered chat template brings its own.
    ///
    /// # Errors
    /// When the tokenizer has no way to write a part of the text.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>> {
        let encoding = contained(|| self.inner.encode_fast(text, add_special_tokens)).map_err(refused)?;
        if !add_special_tokens {
            return Ok(encoding.get_ids().to_vec());
        }
        let (before, after) = &self.around;
        Ok([before, encoding.get_ids(), after].concat())
    }

    /// As [`Tokenizer::encode`], each id with the bytes of the text that it stands for; none for tokens that are put
    /// around it.
    ///
    /// # Errors
    /// As there.
    pub fn encode_spans(&self, text: &str, add_special_tokens: bool) -> Result<Vec<(u32, Range<usize>)>> {
        let encoding = contained(|| self.inner.encode(text, add_special_tokens)).map_err(refused)?;
        let spans = encoding.get_offsets().iter().map(|&(start, end)| start..end);
        let body = encoding.get_ids().iter().copied().zip(spans);
        if !add_special_tokens {
            return Ok(body.collect());
        }
        let outer = |ids: &[u32]| ids.iter().map(|&id| (id, 0..0)).collect::<Vec<_>>();
        let (before, after) = &self.around;
        Ok(outer(before).into_iter().chain(body).chain(outer(after)).collect())
    }

    /// Ids with special tokens, cut or filled up with the padding token to `length`. The text is cut, not the special
    /// tokens around it.
    ///
    /// # Errors
    /// When there is no padding token, or the special tokens alone are longer.
    pub fn encode_to_length(&self, text: &str, length: usize) -> Result<Padded> {
        use tokenizers::{PostProcessor, TruncationDirection};
        let mut encoding = contained(|| self.inner.encode_fast(text, false)).map_err(refused)?;
        let (before, after) = &self.around;
        let specials = self.inner.get_post_processor().map_or(0, |processor| processor.added_tokens(false));
        let room = length.checked_sub(specials + before.len() + after.len()).ok_or_else(|| {
            Error::Prompt(format!("a length of {length} tokens leaves no room beside the special tokens"))
        })?;
        let encoding = contained(|| {
            encoding.truncate(room, 0, TruncationDirection::Right);
            self.inner.post_process(encoding, None, true)
        })
        .map_err(refused)?;
        let ids = [before, encoding.get_ids(), after].concat();
        let padding = vec![0; length.saturating_sub(ids.len())];
        let pads = if padding.is_empty() {
            Vec::new()
        } else {
            let pad = self.pad().ok_or_else(|| Error::Config {
                file: "tokenizer_config.json".into(),
                why: "it names no pad_token, which texts shorter than the model's length need".into(),
            })?;
            vec![pad; padding.len()]
        };
        let mask = vec![1; ids.len()];
        Ok(match self.settings.pad_left {
            true => Padded { ids: [pads, ids].concat(), attention_mask: [padding, mask].concat() },
            false => Padded { ids: [ids, pads].concat(), attention_mask: [mask, padding].concat() },
        })
    }

    /// Text of ids. Ids that the vocabulary lacks are left out.
    ///
    /// # Errors
    /// When the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String> {
        contained(|| self.inner.decode(ids, skip_special_tokens)).map_err(refused)
    }

    /// Decodes ids as they come.
    pub fn stream(&self, skip_special_tokens: bool) -> DecodeStream<&Tokenizer> {
        DecodeStream::new(self, skip_special_tokens)
    }

    /// Id of a token's text as the vocabulary spells it.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The vocabulary's spelling of an id.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Whether a token steers the model and is no text.
    pub fn is_special(&self, id: u32) -> bool {
        self.inner
            .get_added_vocabulary()
            .get_added_tokens_decoder()
            .get(&id)
            .is_some_and(|token| token.special)
    }

    /// The first id that is another token to another tokenizer, or special to one of both alone.
    pub fn first_difference(&self, other: &Tokenizer) -> Option<u32> {
        // llama.cpp gives names to the ids up to the rows of a model's table, and those are no tokens.
        let token = |tokenizer: &Tokenizer, id: u32| {
            let token = tokenizer.token(id).filter(|token| *token != format!("[PAD{id}]"))?;
            Some((tokenizer.is_special(id), token))
        };
        let last = [self, other].iter().flat_map(|one| one.inner.get_vocab(true).into_values()).max()?;
        (0..=last).find(|&id| token(self, id) != token(other, id))
    }

    /// Id of a token by its role: `bos_token`, `eos_token`, `image_token` ...
    pub fn named(&self, role: &str) -> Option<u32> {
        self.id(self.settings.tokens.get(role)?)
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.named("bos_token")
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.named("eos_token")
    }

    /// The token that fills up.
    pub fn pad(&self) -> Option<u32> {
        self.named("pad_token")
    }

    /// Ids that exist, added tokens included.
    pub fn vocabulary_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Named tokens and lengths.
    pub fn settings(&self) -> &TokenizerSettings {
        &self.settings
    }
}

/// An error of the tokenizers crate about a text.
fn refused(error: String) -> Error {
    Error::Prompt(format!("the tokenizer cannot process this text: {error}"))
}
