//! The vocabulary inside a GGUF file, as plain data.

/// What llama.cpp takes a token for (`tokenizer.ggml.token_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// A piece of text.
    Normal,
    /// Stands for what no token covers.
    Unknown,
    /// Steers the model and is never text, such as the begin of a sequence.
    Control,
    /// Added by the model's makers; matched whole.
    UserDefined,
    /// Holds a place and is never produced.
    Unused,
    /// One byte, written `<0xAB>`.
    Byte,
}

impl TokenKind {
    /// The kind of ggml's number (1 to 6); any other number is a normal token, as it is to llama.cpp.
    pub fn from_ggml(number: i64) -> Self {
        match number {
            2 => TokenKind::Unknown,
            3 => TokenKind::Control,
            4 => TokenKind::UserDefined,
            5 => TokenKind::Unused,
            6 => TokenKind::Byte,
            _ => TokenKind::Normal,
        }
    }

    /// ggml's number of the kind.
    pub fn to_ggml(self) -> i32 {
        match self {
            TokenKind::Normal => 1,
            TokenKind::Unknown => 2,
            TokenKind::Control => 3,
            TokenKind::UserDefined => 4,
            TokenKind::Unused => 5,
            TokenKind::Byte => 6,
        }
    }
}

/// The keys `tokenizer.ggml.*` of a GGUF file. Whoever reads the file has checked that `scores` and `kinds`
/// are empty or as long as `tokens`, and that every id is one of `tokens`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GgufVocabulary {
    /// The algorithm: `gpt2` for byte-level BPE, `llama` for SentencePiece BPE with byte fallback, `bert`,
    /// `t5`.
    pub model: String,
    /// Name of the rule that splits text before BPE, such as `smollm` or `qwen2`; empty when the file has
    /// none.
    pub pre: String,
    /// Token texts by id, in the algorithm's own spelling (byte-level characters for `gpt2`, `▁` for spaces
    /// in `llama`).
    pub tokens: Vec<String>,
    /// SentencePiece scores by id; empty when the file has none.
    pub scores: Vec<f32>,
    /// Kinds by id; empty when the file has none.
    pub kinds: Vec<TokenKind>,
    /// BPE merges in order of rank: two pieces separated by the first space after the first character.
    pub merges: Vec<String>,
    /// The token that begins a sequence.
    pub bos: Option<u32>,
    /// The token that ends a sequence.
    pub eos: Option<u32>,
    /// The token that pads a batch.
    pub pad: Option<u32>,
    /// Stands for what no token covers.
    pub unk: Option<u32>,
    /// Whether encoding puts `bos` in front; `None` leaves it to the algorithm's default.
    pub add_bos: Option<bool>,
    /// Whether encoding puts `eos` at the end; `None` leaves it to the algorithm's default.
    pub add_eos: Option<bool>,
    /// Whether a space is put before the text; `None` leaves it to the algorithm's default.
    pub add_space_prefix: Option<bool>,
}
