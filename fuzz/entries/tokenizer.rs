//! A `tokenizer.json` or a GGUF vocabulary, and a text for it.

use percept_modalities::text::{GgufVocabulary, TokenKind, Tokenizer, TokenizerSettings};

/// The first byte says what follows: `{` is a tokenizer.json, anything else a vocabulary in lines, the first of
/// which says how it is to be read.
pub fn run(data: &[u8]) {
    let tokenizer = match data.first() {
        Some(b'{') => Tokenizer::from_json(data, TokenizerSettings::default()),
        _ => Tokenizer::from_gguf(&vocabulary(&String::from_utf8_lossy(data))),
    };
    let Ok(tokenizer) = tokenizer else { return };
    for text in ["", "Hello  wörld 123<|im_end|>\n\n你好😀", "\u{0}\u{2003}'ll"] {
        let Ok(ids) = tokenizer.encode(text, true) else { continue };
        let _ = tokenizer.encode_to_length(text, 8);
        let mut stream = tokenizer.stream(false);
        for id in &ids {
            let _ = stream.push(*id);
        }
        let _ = stream.finish();
        let _ = tokenizer.decode(&ids, true);
    }
}

/// First line: model, pre, bos, eos, unknown. Then one token a line: its kind, its score, its text; or `+` and a merge.
fn vocabulary(text: &str) -> GgufVocabulary {
    let mut lines = text.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let mut vocabulary = GgufVocabulary {
        model: words.next().unwrap_or_default().to_owned(),
        pre: words.next().unwrap_or_default().to_owned(),
        bos: words.next().and_then(|word| word.parse().ok()),
        eos: words.next().and_then(|word| word.parse().ok()),
        unk: words.next().and_then(|word| word.parse().ok()),
        add_eos: Some(true),
        ..Default::default()
    };
    for line in lines {
        if let Some(merge) = line.strip_prefix('+') {
            vocabulary.merges.push(merge.to_owned());
            continue;
        }
        let mut parts = line.splitn(3, ' ');
        let kind = parts.next().and_then(|kind| kind.parse().ok()).unwrap_or(1);
        vocabulary.kinds.push(TokenKind::from_ggml(kind));
        vocabulary.scores.push(parts.next().and_then(|score| score.parse().ok()).unwrap_or(0.0));
        vocabulary.tokens.push(parts.next().unwrap_or_default().to_owned());
    }
    vocabulary
}
