//! How byte-level vocabularies split text before merging, by `tokenizer.ggml.pre`. The names and patterns are
//! those that llama.cpp gives them (`llama-vocab.cpp`); each pattern splits further what the ones before it
//! left whole.

use super::wrong;
use crate::error::Result;

/// One way to split.
pub(super) struct Rule {
    /// Regular expressions, applied in turn.
    pub patterns: &'static [&'static str],
    /// A word that is a token as a whole is taken without merging.
    pub whole_words_first: bool,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";
const LLAMA3: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Chinese, Japanese and Korean text, as DeepSeek splits it off.
const CJK: &str = "[一-龥\u{800}-一가-\u{d7ff}]+";
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;

/// Names that share a way to split, whether whole words come first, and the patterns.
const RULES: &[(&[&str], bool, &[&str])] = &[
    (&["default"], false, &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]),
    (
        &[
            "gpt-2",
            "phi-2",
            "jina-es",
            "jina-de",
            "gigachat",
            "jina-v2-es",
            "jina-v2-de",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "exaone4",
            "modern-bert",
            "a.x-4.0",
            "mellum",
        ],
        false,
        &[GPT2],
    ),
    (
        &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"],
        false,
        &[r"\p{N}", GPT2],
    ),
    (
        &[
            "llama3",
            "llama-v3",
            "llama-bpe",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
            "jina-v5-nano",
        ],
        true,
        &[LLAMA3],
    ),
    (&["dbrx", "smaug-bpe", "chatglm-bpe", "glm4"], false, &[LLAMA3]),
    (
        &[
            "qwen2",
            "deepseek-r1-qwen",
            "kormo",
            "stablelm2",
            "hunyuan",
            "megrez",
            "grok-2",
            "f2llmv2",
            "solar-open",
        ],
        false,
        &[QWEN2],
    ),
    (&["qwen35"], false, &[QWEN35]),
    (&["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"], false, &[GPT4O]),
    (&["tekken"], true, &[TEKKEN]),
    (&["falcon"], false, &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"]),
    (&["deepseek-coder"], false, &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK, r"\p{N}"]),
    (
        &["deepseek-v3", "hunyuan-dense", "joyai-llm"],
        false,
        &[r"\p{N}{1,3}", "[一-龥\u{3040}-ゟ゠-ヿ]+", DEEPSEEK3],
    ),
];

/// The way to split that a name stands for.
pub(super) fn rule(name: &str) -> Result<Rule> {
    let name = if name.is_empty() { "default" } else { name };
    let found = RULES.iter().find(|(names, ..)| names.contains(&name));
    let (_, whole_words_first, patterns) = found.ok_or_else(|| {
        let known: Vec<_> = RULES.iter().flat_map(|(names, ..)| *names).copied().collect();
        wrong("pre", format!("`{name}` is not known; known are {}", known.join(", ")))
    })?;
    Ok(Rule { patterns, whole_words_first: *whole_words_first })
}

/// The first name for a way to split that has these patterns.
pub(crate) fn name_of(patterns: &[String]) -> Option<&'static str> {
    RULES.iter().find(|(.., own)| *own == patterns).and_then(|(names, ..)| names.first()).copied()
}

/// Whether text is put into Unicode's composed form (NFC) first. llama.cpp does not, but the models learnt
/// from tokenizers that do: those of Qwen, and those made from GPT-NeoX's, OLMo's and Cohere's.
pub(super) fn composes(name: &str) -> bool {
    matches!(name, "qwen2" | "qwen35" | "olmo" | "mpt" | "modern-bert" | "command-r")
}

/// Whether texts begin with the first token although the file does not say so.
pub(super) fn begins_with_bos(name: &str) -> bool {
    matches!(
        name,
        "llama3"
            | "llama-v3"
            | "llama-bpe"
            | "falcon3"
            | "falcon-h1"
            | "pixtral"
            | "midm-2.0"
            | "lfm2"
            | "jina-v5-nano"
            | "tekken"
    )
}
