//! The bytes that each token of a tokenizer stands for.

use std::collections::HashMap;

use percept_modalities::text::Tokenizer;
use serde_json::Value;

/// The bytes of tokens, by their ids.
pub(crate) struct Vocabulary {
    tokens: Vec<Token>,
}

/// A token.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Token {
    /// The bytes of the text that it stands for; of a special token its own spelling.
    pub bytes: Vec<u8>,
    /// It is no text but marks a place in it.
    pub special: bool,
}

impl Vocabulary {
    /// The vocabulary of a tokenizer.
    ///
    /// # Errors
    /// When the tokenizer cannot be written as JSON.
    pub fn of(tokenizer: &Tokenizer) -> Result<Self, String> {
        let [(_, json), _] = tokenizer.to_files().map_err(|error| error.to_string())?;
        let json: Value = serde_json::from_slice(&json).map_err(|error| error.to_string())?;
        let spelling = Spelling::of(&json["decoder"], &json["pre_tokenizer"]);
        let mut tokens = vec![Token::default(); tokenizer.vocabulary_size()];
        for (id, token) in tokens.iter_mut().enumerate() {
            let Some(piece) = u32::try_from(id).ok().and_then(|id| tokenizer.token(id)) else { continue };
            token.bytes = spelling.bytes(&piece);
        }
        for added in json["added_tokens"].as_array().into_iter().flatten() {
            let id = added["id"].as_u64().and_then(|id| usize::try_from(id).ok());
            let (Some(token), Some(content)) =
                (id.and_then(|id| tokens.get_mut(id)), added["content"].as_str())
            else {
                continue;
            };
            let special = added["special"].as_bool().unwrap_or(false);
            *token = Token { bytes: content.as_bytes().to_vec(), special };
        }
        Ok(Self { tokens })
    }

    /// All tokens.
    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// What Lark writes for this text: a token, where it is one that marks a place, and else the text itself.
    pub fn mark(&self, text: &str) -> String {
        let is_it = |token: &Token| token.special && token.bytes == text.as_bytes();
        match self.tokens.iter().position(is_it) {
            Some(id) => format!("<[{id}]>"),
            None => Value::from(text).to_string(),
        }
    }

    /// The text of a token that marks a place; `None` for tokens of text.
    pub fn special(&self, id: i32) -> Option<&str> {
        let token = self.tokens.get(usize::try_from(id).ok()?).filter(|token| token.special)?;
        std::str::from_utf8(&token.bytes).ok()
    }

    /// The bytes of a token; none for an id that the tokenizer does not have.
    pub fn bytes(&self, id: i32) -> &[u8] {
        usize::try_from(id).ok().and_then(|id| self.tokens.get(id)).map_or(&[], |token| &token.bytes)
    }
}

/// How a vocabulary spells bytes.
enum Spelling {
    /// Every byte is a character, as GPT-2 spells them.
    Bytes(HashMap<char, u8>),
    /// Characters, a mark for the space, and `<0xNN>` for bytes.
    Pieces,
}

impl Spelling {
    fn of(decoder: &Value, pre_tokenizer: &Value) -> Self {
        let named = |part: &Value| part["type"] == "ByteLevel";
        let within = |part: &Value| {
            let lists = [&part["decoders"], &part["pretokenizers"]];
            named(part) || lists.into_iter().filter_map(Value::as_array).flatten().any(named)
        };
        match within(decoder) || within(pre_tokenizer) {
            true => Spelling::Bytes(byte_characters()),
            false => Spelling::Pieces,
        }
    }

    fn bytes(&self, piece: &str) -> Vec<u8> {
        match self {
            Spelling::Bytes(bytes) => {
                let all: Option<Vec<u8>> = piece.chars().map(|c| bytes.get(&c).copied()).collect();
                all.unwrap_or_else(|| piece.as_bytes().to_vec())
            }
            Spelling::Pieces => {
                let hex = piece.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
                match hex.filter(|hex| hex.len() == 2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                    Some(byte) => vec![byte],
                    None => piece.replace('\u{2581}', " ").into_bytes(),
                }
            }
        }
    }
}

/// GPT-2's characters for bytes: printable ones stand for themselves, the others for those from U+0100 on, in order.
fn byte_characters() -> HashMap<char, u8> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut others = 0x100..;
    let character = |byte: u8| match printable(byte) {
        true => char::from(byte),
        // There are 68 others, all of them characters.
        false => others.next().and_then(char::from_u32).unwrap_or_default(),
    };
    let characters: Vec<char> = (0..=u8::MAX).map(character).collect();
    characters.into_iter().zip(0..=u8::MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_the_characters_of_gpt_2() {
        let bytes = Spelling::Bytes(byte_characters());
        assert_eq!(bytes.bytes("\u{120}caf\u{c3}\u{a9}\u{10a}"), " caf\u{e9}\n".as_bytes());
        assert_eq!(bytes.bytes("\u{100}\u{143}\u{142}"), [0, 0xad, 0xa0]);
        assert_eq!(byte_characters().len(), 256);
        assert_eq!(Spelling::Pieces.bytes("\u{2581}a\u{2581}"), b" a ");
        assert_eq!(Spelling::Pieces.bytes("<0xE9>"), [0xe9]);
        assert_eq!(Spelling::Pieces.bytes("<0xE9"), b"<0xE9");
    }
}
