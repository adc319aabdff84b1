//! GGUF files in pieces, as `llama-gguf-split` names them: `NAME-00001-of-00003.gguf`. The first has the
//! keys.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::error::{Result, damaged, unsupported};
use super::super::source::Source;
use super::Gguf;

/// Pieces, at most; the largest models are published in some hundred.
const MOST: u64 = 4096;

/// A file's name as that of a piece: what stands before the numbers, the piece's own (from 1), and how many
/// there are.
pub(crate) fn piece(name: &str) -> Option<(&str, u64, u64)> {
    let stem = name.strip_suffix(".gguf")?;
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    let five =
        |text: &str| (text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok());
    let (number, count) = (five(number)??, five(count)??);
    (1..=count).contains(&number).then_some((stem, number, count))
}

/// The file with all of its pieces, whichever of them it is.
///
/// # Errors
/// When it is a piece and the others are not beside it, or do not belong to it.
pub(crate) fn open(path: &Path) -> Result<Gguf> {
    let own = Gguf::parse(&Source::map(path)?)?;
    let count = own.metadata.unsigned("split.count").unwrap_or(0);
    if count <= 1 {
        return Ok(own);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let Some((stem, _, _)) = piece(&name).filter(|(.., of)| *of == count && count <= MOST) else {
        let why = format!(
            "one of {count} pieces of a GGUF file, whose name does not say which: NAME-00001-of-{count:05}.gguf is read"
        );
        return Err(unsupported(path, why));
    };
    let place =
        |number: u64| -> PathBuf { path.with_file_name(format!("{stem}-{number:05}-of-{count:05}.gguf")) };
    let mut whole = read(&place(1), 0, count)?;
    for number in 2..=count {
        let place = place(number);
        for (name, stored) in read(&place, number - 1, count)?.tensors {
            if whole.tensors.insert(name.clone(), stored).is_some() {
                return Err(damaged(&place, format!("tensor '{name}' is in an earlier piece too")));
            }
        }
    }
    let tensors = whole.metadata.unsigned("split.tensors.count");
    if let Some(tensors) = tensors.filter(|n| *n != whole.tensors.len() as u64) {
        let why =
            format!("its pieces have {} tensors together and should have {tensors}", whole.tensors.len());
        return Err(damaged(&place(1), why));
    }
    Ok(whole)
}

/// A file that is in memory, which has nothing beside it.
///
/// # Errors
/// When it is damaged, or a piece.
pub(crate) fn whole(source: &Arc<Source>) -> Result<Gguf> {
    let own = Gguf::parse(source)?;
    match own.metadata.unsigned("split.count") {
        Some(count) if count > 1 => Err(unsupported(
            source.path(),
            format!("one of {count} pieces of a GGUF file; open it by its path"),
        )),
        _ => Ok(own),
    }
}

fn read(path: &Path, number: u64, count: u64) -> Result<Gguf> {
    let piece = Gguf::parse(&Source::map(path)?)?;
    let key = |key: &str| piece.metadata.unsigned(key);
    if (key("split.no"), key("split.count")) != (Some(number), Some(count)) {
        let why =
            format!("it is not piece {} of {count} by its keys 'split.no' and 'split.count'", number + 1);
        return Err(damaged(path, why));
    }
    Ok(piece)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_told_by_their_names() {
        assert_eq!(piece("a-b-00002-of-00003.gguf"), Some(("a-b", 2, 3)));
        for other in
            ["a.gguf", "a-00004-of-00003.gguf", "a-2-of-3.gguf", "a-00000-of-00003.gguf", "a-00001-of-00003"]
        {
            assert_eq!(piece(other), None, "{other}");
        }
    }
}
