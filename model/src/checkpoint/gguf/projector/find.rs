//! Finding the projector of a text model by the names of files.

use std::path::{Path, PathBuf};

use super::super::super::error::{Error, Result};
use super::super::super::source::Source;
use super::super::Gguf;
use super::super::split::piece;
use super::config::kind;

/// Whether a file has the name of a projector's.
pub(crate) fn is_projector(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.contains("mmproj") && name.ends_with(".gguf")
}

/// The projector in the folder of a text model's file that belongs to it: `mmproj-NAME.gguf` where the text
/// is `NAME.gguf`; or the one of the same name, whatever the dtypes in both; or `mmproj-model-F16.gguf` and
/// the like, where the folder holds no other text.
///
/// # Errors
/// When several fit, or one cannot be read.
pub(crate) fn beside(text: &Path, architecture: &str) -> Result<Option<PathBuf>> {
    let name = text.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if is_projector(&name) {
        return Ok(None);
    }
    let folder = text.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // A folder that may not be listed has nothing to be found in.
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(None) };
    let mut names: Vec<String> =
        entries.filter_map(|e| Some(e.ok()?.file_name().to_string_lossy().into_owned())).collect();
    names.sort();
    let own = base(&name);
    let stem = piece(&name).map_or(name.strip_suffix(".gguf").unwrap_or(&name), |(stem, ..)| stem);
    let exact = format!("mmproj-{stem}.gguf");
    let (projectors, texts): (Vec<&String>, Vec<&String>) =
        names.iter().filter(|n| n.ends_with(".gguf")).partition(|n| is_projector(n));
    let alone = texts.iter().all(|n| base(n) == own);
    let mut found = Vec::new();
    for name in projectors {
        let base = base(name);
        let fits = *name == exact || base == own || alone && ["", "model"].contains(&base.as_str());
        if !fits {
            continue;
        }
        let path = folder.join(name);
        let file = Gguf::parse(&Source::map(&path)?)?;
        // A kind that is not read leaves the text as it is.
        let goes = matches!(kind(&file.metadata), Ok(kind) if kind.texts.contains(&architecture));
        if goes && *name == exact {
            return Ok(Some(path));
        }
        found.extend(goes.then_some(path));
    }
    match &found[..] {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        [a, b, ..] => Err(Error::NotACheckpoint {
            path: text.to_path_buf(),
            why: format!(
                "more than one projector lies beside it ({}, {}); give one with --mmproj FILE",
                a.file_name().unwrap_or_default().to_string_lossy(),
                b.file_name().unwrap_or_default().to_string_lossy()
            ),
        }),
    }
}

/// A file's name without what tells of its dtype, of its being a projector, and of a piece's number.
fn base(name: &str) -> String {
    let stem = piece(name).map_or(name.strip_suffix(".gguf").unwrap_or(name), |(stem, ..)| stem);
    let lower = stem.to_ascii_lowercase();
    let mut words: Vec<&str> =
        lower.split(['-', '_', '.']).filter(|w| !w.is_empty() && *w != "mmproj").collect();
    let is_dtype = |word: &&str| {
        let quantized = word.strip_prefix("iq").or(word.strip_prefix('q'));
        quantized.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
            || ["f16", "f32", "bf16", "fp16", "fp32", "mxfp4", "nvfp4"].contains(word)
    };
    let variant = |word: &&str| ["0", "1", "k", "s", "m", "l", "xs", "xl", "xxs", "nl"].contains(word);
    if let Some(at) = words.iter().rposition(is_dtype)
        && words[at + 1..].iter().all(variant)
    {
        words.truncate(at);
        words.truncate(words.iter().rposition(|w| *w != "ud").map_or(0, |last| last + 1));
    }
    words.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    // Names as they are on the hub.
    #[test]
    fn a_pair_is_told_by_its_names() {
        for (text, projector) in [
            ("SmolVLM-500M-Instruct-Q8_0.gguf", "mmproj-SmolVLM-500M-Instruct-f16.gguf"),
            ("Qwen2-VL-2B-Instruct-Q4_K_M.gguf", "Qwen2-VL-2B-Instruct.mmproj-fp16.gguf"),
            ("qwen2.5-vl-7b-UD-Q4_K_XL.gguf", "mmproj-qwen2.5-vl-7b-bf16.gguf"),
            ("big-00002-of-00003.gguf", "mmproj-big.gguf"),
        ] {
            assert!(is_projector(projector) && !is_projector(text), "{projector}");
            assert_eq!(base(text), base(projector), "{text}");
        }
        assert_eq!((base("mmproj-model-f16.gguf"), base("mmproj-F16.gguf")), ("model".into(), String::new()));
        assert_ne!(base("gemma-3-4b-it-q4_0.gguf"), base("mmproj-gemma-3-12b-it-f16.gguf"));
    }
}
