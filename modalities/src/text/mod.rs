//! Text: tokenizers and chat templates.

mod fragile;
mod gguf;
pub mod jinja;
mod settings;
mod stream;
mod template;
mod tokenizer;
mod vocabulary;

pub use settings::TokenizerSettings;
pub use stream::DecodeStream;
pub use template::{ChatTemplate, TOOL_USE_FILE};
pub use tokenizer::{Padded, Tokenizer};
pub use vocabulary::{GgufVocabulary, TokenKind};
