//! Checks of what the tokenizers library does not check itself. It panics on some files and lets others blow
//! a text up without bound, so its files are checked before it reads them, and what is left of its panics is
//! contained.

use std::cell::Cell;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

/// Bytes that one byte of a text may become. Published tokenizers stay under a hundred.
const MOST_GROWTH: u64 = 1024;
/// Bytes that a tokenizer may put before a text.
const MOST_ADDED: u64 = 1 << 16;

/// The parts of a `tokenizer.json` that are looked at.
#[derive(Deserialize)]
struct Parts {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    decoder: Value,
}

/// Refuses a `tokenizer.json` on which the library would panic, or with which a short text becomes a huge
/// one.
pub(super) fn check(tokenizer_json: &[u8]) -> Result<(), String> {
    let parts: Parts = serde_json::from_slice(tokenizer_json).map_err(|error| error.to_string())?;
    for (part, value) in [
        ("normalizer", &parts.normalizer),
        ("pre_tokenizer", &parts.pre_tokenizer),
        ("decoder", &parts.decoder),
    ] {
        let (mut growth, mut added) = (1u64, 0u64);
        check_part(part, value, &mut growth, &mut added)?;
        if growth > MOST_GROWTH || added > MOST_ADDED {
            return Err(format!(
                "its {part} makes {growth} bytes of one and adds {added}; at most {MOST_GROWTH} and {MOST_ADDED} are let \
                 through"
            ));
        }
    }
    Ok(())
}

/// Looks through a part and those within it; `growth` multiplies and `added` sums over all.
fn check_part(part: &str, value: &Value, growth: &mut u64, added: &mut u64) -> Result<(), String> {
    let within = match value {
        Value::Array(parts) => parts.iter().collect::<Vec<_>>(),
        Value::Object(fields) => fields.values().collect(),
        _ => return Ok(()),
    };
    let field = |name: &str| value.get(name);
    let text = |name: &str| field(name).and_then(Value::as_str).unwrap_or_default();
    match text("type") {
        "Precompiled" => *growth = growth.saturating_mul(check_precompiled(text("precompiled_charsmap"))?),
        "Replace" => {
            let pattern = field("pattern");
            let plain = pattern.and_then(|pattern| pattern.get("String")).and_then(Value::as_str);
            if plain == Some("") {
                return Err(format!(
                    "its {part} replaces an empty text, which occurs everywhere; name a text"
                ));
            }
            // A regular expression may match a single byte.
            let matched = plain.map_or(1, str::len).max(1);
            *growth = growth.saturating_mul((text("content").len().div_ceil(matched)).max(1) as u64);
        }
        "Prepend" => *added = added.saturating_add(text("prepend").len() as u64).saturating_mul(*growth),
        "FixedLength" if field("length").is_some_and(|length| length == 0) => {
            return Err(format!("its {part} splits into pieces of length 0; give a length"));
        }
        "Strip"
            if part == "decoder" && field("stop").and_then(Value::as_u64).is_some_and(|stop| stop > 0) =>
        {
            return Err(
                "its decoder strips characters from the end of tokens (stop), which fails on shorter tokens; \
                 only start is supported"
                    .into(),
            );
        }
        // Compatibility characters become up to eighteen; bytes become characters of two bytes.
        "NFKC" | "NFKD" => *growth = growth.saturating_mul(12),
        "ByteLevel" if part == "normalizer" => *growth = growth.saturating_mul(2),
        _ => {}
    }
    within.into_iter().try_for_each(|inner| check_part(part, inner, growth, added))
}

/// Checks SentencePiece's table of replacements, a double array of `u32` followed by texts that end with a
/// zero byte, and gives the most bytes that a byte becomes.
fn check_precompiled(charsmap: &str) -> Result<u64, String> {
    let wrong = |why: &str| format!("its precompiled_charsmap is damaged: {why}");
    let bytes = STANDARD.decode(charsmap).map_err(|error| wrong(&error.to_string()))?;
    let (head, rest) = bytes.split_at_checked(4).ok_or_else(|| wrong("it is too short"))?;
    let size = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize / 4 * 4;
    let (array, texts) =
        rest.split_at_checked(size).ok_or_else(|| wrong("its table is longer than the file"))?;
    let units: Vec<u32> =
        array.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let texts = std::str::from_utf8(texts).map_err(|_| wrong("its texts are not UTF-8"))?;
    let offset = |unit: u32| ((unit >> 10) << ((unit & (1 << 9)) >> 6)) as usize;
    // Every place that a search can come to must lie in the table.
    let Some(&root) = units.first() else { return Err(wrong("its table is empty")) };
    let mut seen = HashSet::new();
    let mut open = vec![offset(root)];
    while let Some(base) = open.pop() {
        if !seen.insert(base) {
            continue;
        }
        if base | 0xff >= units.len() {
            return Err(wrong("its table leads out of itself"));
        }
        for c in 1..=255usize {
            let place = base ^ c;
            let unit = units[place];
            if unit & ((1 << 31) | 0xff) != c as u32 {
                continue;
            }
            let next = place ^ offset(unit);
            if (unit >> 8) & 1 == 1 {
                let value = units.get(next).ok_or_else(|| wrong("its table leads out of itself"))?;
                let start = (value & ((1 << 31) - 1)) as usize;
                if !texts.is_char_boundary(start) {
                    return Err(wrong("its table leads out of its texts"));
                }
            }
            open.push(next);
        }
    }
    Ok(texts.split('\0').map(str::len).max().unwrap_or(0).max(1) as u64)
}

thread_local! {
    /// Whether this thread is inside the library, where a panic is an error that the caller gets.
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// This thread is inside the library until this is dropped.
struct Inside {
    before: bool,
}

impl Inside {
    fn enter() -> Inside {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let others = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                if !CONTAINED.try_with(Cell::get).unwrap_or(false) {
                    others(panic);
                }
            }));
        });
        Inside { before: CONTAINED.replace(true) }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        CONTAINED.set(self.before);
    }
}

/// Runs the library; a panic of it is an error, and it is reported by that error alone.
pub(super) fn contained<T>(run: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    let inside = Inside::enter();
    let result = catch_unwind(AssertUnwindSafe(run));
    drop(inside);
    match result {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => {
            let why = panic.downcast_ref::<String>().map(String::as_str);
            let why = why.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
            Err(format!("the tokenizers library failed: {why}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(part: &str, value: Value) -> String {
        check(json!({ part: value }).to_string().as_bytes()).unwrap_err()
    }

    /// A table with one replacement of a byte by a text.
    fn charsmap(byte: u8, text: &str, change: impl Fn(&mut Vec<u32>)) -> String {
        let mut units = vec![0u32; 512];
        units[0] = 256 << 10;
        // From the byte's place on, the number of the text stands at 0x112.
        let place = 256 ^ byte as usize;
        units[place] = byte as u32 | (1 << 8) | (((place ^ 0x112) as u32) << 10);
        change(&mut units);
        let mut bytes = ((units.len() * 4) as u32).to_le_bytes().to_vec();
        bytes.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
        bytes.extend(text.as_bytes());
        bytes.push(0);
        STANDARD.encode(bytes)
    }

    #[test]
    fn files_on_which_the_library_panics_are_refused_by_name() {
        let replace = |pattern: Value, content: &str| json!({ "type": "Replace", "pattern": pattern, "content": content });
        assert!(refusal("normalizer", replace(json!({ "String": "" }), "b")).contains("empty text"));
        let nested = json!({ "type": "Sequence", "pretokenizers": [{ "type": "FixedLength", "length": 0 }] });
        assert!(refusal("pre_tokenizer", nested).contains("length 0"));
        let strip = json!({ "type": "Sequence", "decoders": [{ "type": "Strip", "content": " ", "start": 1, "stop": 1 }] });
        assert!(refusal("decoder", strip).contains("stop"));
        let doubles: Vec<Value> = (0..40).map(|_| replace(json!({ "String": "a" }), "aa")).collect();
        let doubles = json!({ "type": "Sequence", "normalizers": doubles });
        assert!(refusal("normalizer", doubles.clone()).contains("bytes of one"));
        assert!(refusal("decoder", doubles).contains("bytes of one"));
        let prepend = json!({ "type": "Prepend", "prepend": "a".repeat(1 << 17) });
        assert!(refusal("normalizer", prepend).contains("adds"));
    }

    #[test]
    fn precompiled_tables_are_followed_to_their_ends() {
        let precompiled =
            |charsmap: String| json!({ "type": "Precompiled", "precompiled_charsmap": charsmap });
        let fine = precompiled(charsmap(b'x', "yz", |_| {}));
        assert_eq!(check(json!({ "normalizer": fine }).to_string().as_bytes()), Ok(()));
        let refused = |charsmap: String| refusal("normalizer", precompiled(charsmap));
        assert!(refused(charsmap(b'x', "yz", |units| units[0] = 9999 << 10)).contains("out of itself"));
        assert!(refused(charsmap(b'x', "y", |units| units[0x112] = 9)).contains("out of its texts"));
        assert!(refused(charsmap(b'x', &"y".repeat(5000), |_| {})).contains("bytes of one"));
        assert!(refused(charsmap(b'x', "yz", |units| units.clear())).contains("empty"));
        for damaged in ["", "AAA", "////////", "é"] {
            assert!(refused(damaged.into()).contains("damaged"), "{damaged}");
        }
    }

    #[test]
    fn a_panic_of_the_library_is_an_error() {
        let error = contained::<()>(|| panic!("at the disco")).unwrap_err();
        assert!(error.contains("at the disco"), "{error}");
    }

    /// What the test below starts as a program of its own, whose standard error it reads.
    #[test]
    #[ignore = "is started by the test below"]
    fn panics_here_and_there() {
        let outer = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            eprint!("[hook] ");
            outer(panic);
        }));
        let nested: Result<(), String> = contained(|| {
            contained::<()>(|| panic!("inner")).unwrap_err();
            std::thread::spawn(|| panic!("beside")).join().unwrap_err();
            panic!("outer")
        });
        nested.unwrap_err();
        catch_unwind(|| panic!("after")).unwrap_err();
    }

    #[test]
    fn only_panics_of_the_library_are_silent() {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        let test = "text::fragile::tests::panics_here_and_there";
        let output = command.args([test, "--exact", "--ignored", "--nocapture"]).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{told}");
        assert_eq!(told.matches("[hook] ").count(), 2, "{told}");
        for (word, printed) in [("inner", false), ("beside", true), ("outer", false), ("after", true)] {
            assert_eq!(told.lines().any(|line| line.trim() == word), printed, "{word}: {told}");
        }
    }
}
