//! Text: tokenizers and chat templates.

mod vocabulary;

pub use vocabulary::{GgufVocabulary, TokenKind};
