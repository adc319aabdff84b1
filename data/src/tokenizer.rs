//! A tokenizer for a corpus: byte-level BPE (Sennrich et al. 2016; Radford et al. 2019), whose tokens are the pieces that
//! its texts are made of most often. Any text can be written with it, since every byte is a token.

use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

use crate::error::{Error, Result};
use crate::sample::Sample;

/// Tokens for the bytes alone.
const BYTES: usize = 256;

/// All text of a sample: its text and all turns.
pub fn texts(sample: &Sample) -> Vec<String> {
    let turns = sample.messages.iter().flat_map(|m| m.content.texts().map(str::to_string));
    sample.text.iter().cloned().chain(turns).collect()
}

/// Learn `vocabulary` tokens from texts: `special` ones first, in order, then all bytes, then pieces of texts by how often
/// they are seen; fewer, when the texts have no more. Gives the bytes of a `tokenizer.json`, the same for the same texts
/// in any order.
///
/// # Errors
/// When the vocabulary has no room for bytes and special tokens.
pub fn train(
    texts: impl Iterator<Item = String> + Send,
    vocabulary: usize,
    special: &[&str],
) -> Result<Vec<u8>> {
    let least = BYTES + special.len();
    if vocabulary < least || vocabulary > 1 << 20 {
        return Err(Error::Config(format!(
            "a vocabulary of {vocabulary} tokens cannot be made; it needs {least} for the bytes and the special tokens, \
             and has at most {}",
            1 << 20
        )));
    }
    let failed = |e: Box<dyn std::error::Error + Send + Sync>| {
        Error::Config(format!("a tokenizer could not be made: {e}"))
    };
    let trainer = BpeTrainer::builder()
        .vocab_size(vocabulary)
        .min_frequency(2)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(special.iter().map(|t| AddedToken::from(*t, true)).collect())
        .build();
    let mut tokenizer = Tokenizer::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    let mut tokenizer = tokenizer.into_inner();
    tokenizer.train(&mut TrainerWrapper::from(trainer), texts).map_err(failed)?;
    Ok(tokenizer.to_string(true).map_err(failed)?.into_bytes())
}

#[cfg(test)]
mod tests {
    use percept_modalities::text::Tokenizer;

    use super::*;

    fn corpus() -> Vec<String> {
        [
            "Which way does it move?",
            "left",
            "right",
            "up",
            "What is it?",
            "Smileys & Emotion",
            "left",
            "right",
        ]
        .into_iter()
        .cycle()
        .take(64)
        .map(String::from)
        .collect()
    }

    #[test]
    fn frequent_words_are_one_token_and_any_text_comes_back() {
        let json = train(corpus().into_iter(), 320, &["<|pad|>", "<|end|>"]).unwrap();
        let t = Tokenizer::from_json(&json, Default::default()).unwrap();
        assert_eq!((t.id("<|pad|>"), t.id("<|end|>")), (Some(0), Some(1)));
        assert!(t.vocabulary_size() <= 320);
        assert_eq!(t.encode("left", false).unwrap().len(), 1);
        assert_eq!(t.encode("<|end|>", false).unwrap(), [1]);
        for text in ["left or right?", " Übergröße 🇫🇷\n\0", "Smileys & Emotion"] {
            let ids = t.encode(text, false).unwrap();
            assert_eq!(t.decode(&ids, true).unwrap(), text);
        }
    }

    #[test]
    fn the_same_texts_give_the_same_bytes() {
        let mut other = corpus();
        other.reverse();
        let all = [corpus(), other].map(|c| train(c.into_iter(), 300, &["<|pad|>"]).unwrap());
        assert_eq!(all[0], all[1]);
    }

    #[test]
    fn a_vocabulary_without_room_for_bytes_is_refused() {
        let e = train(corpus().into_iter(), 200, &["<|pad|>"]).unwrap_err().to_string();
        assert!(e.contains("it needs 257"), "{e}");
    }
}
