//! Texts that Python wrote, read as Python reads them: the published rules of many benchmarks are in Python.

use serde_json::Value;

/// What `float(text)` gives; `None` where Python refuses the text.
pub(crate) fn float(text: &str) -> Option<f64> {
    let text = text.trim();
    let bytes = text.as_bytes();
    let is_digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
    // An underscore may stand between two digits.
    let underscores: Vec<usize> = text.match_indices('_').map(|(at, _)| at).collect();
    if underscores.iter().any(|at| !is_digit(at.checked_sub(1)) || !is_digit(Some(at + 1))) {
        return None;
    }
    text.replace('_', "").parse().ok()
}

/// What `round(value, 2)` gives: correctly rounded from the exact value, as the formatting of numbers is.
pub(crate) fn round(value: f64, digits: usize) -> f64 {
    if value.is_finite() { format!("{value:.digits$}").parse().unwrap_or(value) } else { value }
}

/// The texts of a list as Python or JSON writes it: `['a', "b"]`. `None` where the text is no such list.
pub(crate) fn list(text: &str) -> Option<Vec<String>> {
    if let Ok(Value::Array(items)) = serde_json::from_str(text) {
        return Some(items.iter().map(shown).collect());
    }
    let inner = text.trim().strip_prefix('[')?.strip_suffix(']')?;
    let mut letters = inner.chars().peekable();
    let mut items = Vec::new();
    loop {
        while letters.next_if(|c| c.is_whitespace()).is_some() {}
        let Some(first) = letters.next() else { return Some(items) };
        let mut item = String::new();
        if first == '\'' || first == '"' {
            loop {
                match letters.next()? {
                    '\\' => match letters.next()? {
                        'n' => item.push('\n'),
                        't' => item.push('\t'),
                        'r' => item.push('\r'),
                        other @ ('\\' | '\'' | '"') => item.push(other),
                        // What other escapes mean is left as it is written.
                        other => item.extend(['\\', other]),
                    },
                    letter if letter == first => break,
                    letter => item.push(letter),
                }
            }
        } else {
            item.push(first);
            while let Some(letter) = letters.next_if(|c| *c != ',') {
                item.push(letter);
            }
            item.truncate(item.trim_end().len());
            // Only numbers and names stand without quotes.
            if item.contains(['\'', '"', '[', ']', '{', '}']) {
                return None;
            }
        }
        items.push(item);
        while letters.next_if(|c| c.is_whitespace()).is_some() {}
        match letters.next() {
            None => return Some(items),
            Some(',') => {}
            Some(_) => return None,
        }
    }
}

/// A value as a text: texts without quotes, everything else as JSON.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The characters of Python's `string.punctuation`.
pub(crate) fn is_punctuation(letter: char) -> bool {
    letter.is_ascii_punctuation()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_lists_are_read_as_python_reads_them() {
        assert_eq!(
            [float(" 1_000.5 "), float("1__0"), float("_1"), float("5%")],
            [Some(1000.5), None, None, None]
        );
        assert_eq!([float("1e3"), float(".5"), float("")], [Some(1000.0), Some(0.5), None]);
        assert_eq!([round(2.675, 2), round(0.125, 2)], [2.67, 0.12]);
        let texts = |text: &str| list(text).map(|items| items.join("|"));
        assert_eq!(texts(r#"['a', "it's", 'b\'c', 3.5]"#).as_deref(), Some("a|it's|b'c|3.5"));
        assert_eq!(texts(r#"["x", 2]"#).as_deref(), Some("x|2"));
        assert_eq!(texts("[]").as_deref(), Some(""));
        assert_eq!(
            [texts("['a' 'b']"), texts("a, b"), texts("['a"), texts("[[1], 2]x")],
            [None, None, None, None]
        );
    }
}
