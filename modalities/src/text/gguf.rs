//! The tokenizer inside a GGUF file (`tokenizer.ggml.*`).

mod pre;

use std::collections::HashMap;

use tokenizers::decoders::DecoderWrapper;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::{NFC, NormalizerWrapper, Prepend, Replace};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer as Inner};

use super::settings::TokenizerSettings;
use super::vocabulary::{GgufVocabulary, TokenKind};
use crate::error::{Error, Result};

/// Bytes of the longest token that SentencePiece merges may make. Real ones have under a hundred; the cap
/// keeps the search for merges, quadratic in a token's length, short.
const LONGEST_PIECE: usize = 512;

fn wrong(key: &str, why: impl std::fmt::Display) -> Error {
    Error::Config { file: "GGUF".into(), why: format!("tokenizer.ggml.{key}: {why}") }
}

impl GgufVocabulary {
    /// A name for the way to split text that consists of these regular expressions, applied in turn; `None`
    /// where `tokenizer.ggml.pre` has none.
    pub fn split_name(patterns: &[String]) -> Option<&'static str> {
        pre::name_of(patterns)
    }

    /// The tokenizer and its named tokens.
    pub(super) fn build(&self) -> Result<(Inner, TokenizerSettings)> {
        if self.tokens.is_empty() {
            return Err(wrong("tokens", "there are none"));
        }
        if !self.kinds.is_empty() && self.kinds.len() != self.tokens.len() {
            return Err(wrong(
                "token_type",
                format!("there are {} for {} tokens", self.kinds.len(), self.tokens.len()),
            ));
        }
        let mut inner = match self.model.as_str() {
            "gpt2" => self.byte_level()?,
            "llama" => self.sentence_piece()?,
            "gemma4" => self.merged_pieces()?,
            other => {
                return Err(wrong(
                    "model",
                    format!("`{other}` is not supported; gpt2, llama and gemma4 are"),
                ));
            }
        };
        let special = self.tokens.iter().zip(&self.kinds).filter_map(|(token, kind)| match *kind {
            TokenKind::Unknown | TokenKind::Control => Some(AddedToken::from(token.as_str(), true)),
            TokenKind::UserDefined => Some(AddedToken::from(token.as_str(), false).normalized(false)),
            _ => None,
        });
        let special: Vec<_> = special.filter(|token| !token.content.is_empty()).collect();
        inner.add_tokens(special).map_err(|error| wrong("tokens", error))?;
        Ok((inner, self.settings()?))
    }

    fn settings(&self) -> Result<TokenizerSettings> {
        let mut settings = TokenizerSettings::default();
        let named = [
            ("bos_token", "bos_token_id", self.bos),
            ("eos_token", "eos_token_id", self.eos),
            ("unk_token", "unknown_token_id", self.unk),
            ("pad_token", "padding_token_id", self.pad),
        ];
        for (name, key, id) in named {
            let Some(id) = id else { continue };
            let token = self
                .tokens
                .get(id as usize)
                .ok_or_else(|| wrong(key, format!("{id} is beyond the {} tokens", self.tokens.len())))?;
            settings.tokens.insert(name.into(), token.clone());
        }
        Ok(settings)
    }

    /// Ids put before and after a text. Unless the file says so, only SentencePiece vocabularies and those
    /// split like Llama 3's begin with the first token, as in llama.cpp.
    pub(super) fn around(&self) -> (Vec<u32>, Vec<u32>) {
        let begins = self.model == "llama" || pre::begins_with_bos(&self.pre);
        let pick = |wanted: bool, id: Option<u32>| id.filter(|_| wanted).into_iter().collect();
        (pick(self.add_bos.unwrap_or(begins), self.bos), pick(self.add_eos.unwrap_or(false), self.eos))
    }

    fn vocabulary(&self) -> Vocab {
        self.tokens.iter().enumerate().map(|(id, token)| (token.clone(), id as u32)).collect()
    }

    /// The merges that a file has, the first one to be done first.
    fn given_merges(&self) -> Result<Merges> {
        self.merges
            .iter()
            .map(|merge| {
                // A space never begins a merge, so the first one after its first character separates.
                let first = merge.chars().next().map_or(0, char::len_utf8);
                let (left, right) = merge[first..]
                    .split_once(' ')
                    .ok_or_else(|| wrong("merges", format!("`{merge}` is no pair separated by a space")))?;
                Ok((merge[..first + left.len()].to_owned(), right.to_owned()))
            })
            .collect()
    }

    /// Byte-level BPE, as in GPT-2.
    fn byte_level(&self) -> Result<Inner> {
        let merges = self.given_merges()?;
        let rule = pre::rule(&self.pre)?;
        let model = BPE::builder()
            .vocab_and_merges(self.vocabulary(), merges)
            .ignore_merges(rule.whole_words_first)
            .build()
            .map_err(|error| wrong("merges", error))?;
        let mut splits: Vec<PreTokenizerWrapper> = Vec::new();
        for pattern in rule.patterns {
            let pattern = SplitPattern::Regex((*pattern).to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false);
            splits.push(split.map_err(|error| wrong("pre", error))?.into());
        }
        splits.push(ByteLevel::new(false, false, false).into());
        let mut inner = Inner::new(model);
        if pre::composes(&self.pre) {
            inner.with_normalizer(Some(NFC)).map_err(|error| wrong("pre", error))?;
        }
        inner
            .with_pre_tokenizer(Some(tokenizers::pre_tokenizers::sequence::Sequence::new(splits)))
            .with_decoder(Some(ByteLevel::default()));
        Ok(inner)
    }

    /// SentencePiece: the pair that makes the piece with the best score is merged first, and bytes stand in
    /// for characters that no piece has.
    fn sentence_piece(&self) -> Result<Inner> {
        if self.scores.len() != self.tokens.len() {
            return Err(wrong(
                "scores",
                format!("there are {} for {} tokens", self.scores.len(), self.tokens.len()),
            ));
        }
        self.pieces(self.merges_by_score(), self.add_space_prefix.unwrap_or(true))
    }

    /// Pieces of Gemma 4: those of SentencePiece, whose merges are in the file.
    fn merged_pieces(&self) -> Result<Inner> {
        if self.merges.is_empty() {
            return Err(wrong("merges", "there are none, without which texts come apart into bytes"));
        }
        self.pieces(self.given_merges()?, self.add_space_prefix.unwrap_or(false))
    }

    /// Pieces in which a mark stands for a space.
    fn pieces(&self, merges: Merges, prefix: bool) -> Result<Inner> {
        let unknown = self.unk.unwrap_or(0) as usize;
        let unknown = self.tokens.get(unknown).ok_or_else(|| {
            wrong("unknown_token_id", format!("{unknown} is beyond the {} tokens", self.tokens.len()))
        })?;
        let model = BPE::builder()
            .vocab_and_merges(self.vocabulary(), merges)
            .unk_token(unknown.clone())
            .fuse_unk(true)
            .byte_fallback(true)
            .build()
            .map_err(|error| wrong("tokens", error))?;
        let mut inner = Inner::new(model);
        let space = Replace::new(" ", "▁").map_err(|error| wrong("model", error))?;
        let mut normalizers: Vec<NormalizerWrapper> = vec![space.into()];
        let back = Replace::new("▁", " ").map_err(|error| wrong("model", error))?;
        let mut decoders: Vec<DecoderWrapper> =
            vec![back.into(), ByteFallback::default().into(), Fuse::default().into()];
        if prefix {
            normalizers.insert(0, Prepend::new("▁".into()).into());
            decoders.push(Strip::new(' ', 1, 0).into());
        }
        let normalizers = tokenizers::normalizers::utils::Sequence::new(normalizers);
        inner.with_normalizer(Some(normalizers)).map_err(|error| wrong("model", error))?;
        inner.with_decoder(Some(tokenizers::decoders::sequence::Sequence::new(decoders)));
        Ok(inner)
    }

    /// Every way to make a piece of two others, the best piece first.
    fn merges_by_score(&self) -> Merges {
        let kind = |id: usize| self.kinds.get(id).copied().unwrap_or(TokenKind::Normal);
        let pieces: HashMap<&str, usize> = self
            .tokens
            .iter()
            .enumerate()
            .filter(|(id, token)| {
                matches!(kind(*id), TokenKind::Normal | TokenKind::UserDefined)
                    && token.len() <= LONGEST_PIECE
            })
            .map(|(id, token)| (token.as_str(), id))
            .collect();
        let mut merges: Vec<(f32, usize, usize, usize)> = Vec::new();
        for (piece, id) in &pieces {
            for (at, _) in piece.char_indices().skip(1) {
                if let (Some(left), Some(right)) = (pieces.get(&piece[..at]), pieces.get(&piece[at..])) {
                    merges.push((self.scores[*id], *id, *left, *right));
                }
            }
        }
        merges.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2, a.3).cmp(&(b.1, b.2, b.3))));
        merges
            .iter()
            .map(|(_, _, left, right)| (self.tokens[*left].clone(), self.tokens[*right].clone()))
            .collect()
    }
}
