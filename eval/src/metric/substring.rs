//! Whether an answer holds the right text, as OCRBench counts (Liu et al. 2023).

/// Whether any of the right texts is in the answer: in lower case, with full-width letters as the others; or, `squeezed`, as
/// formulas are compared, with their case and without spaces.
pub fn holds(answer: &str, right: &[String], squeezed: bool) -> bool {
    let plain = |text: &str| match squeezed {
        true => text.trim().replace(['\n', ' '], ""),
        false => narrow(text).to_lowercase().trim().replace('\n', " "),
    };
    let answer = plain(answer.trim());
    right.iter().any(|text| answer.contains(&plain(text)))
}

/// Full-width letters of ASCII, and the wide space, as the usual ones.
fn narrow(text: &str) -> String {
    let narrow = |letter: char| match letter {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(letter as u32 - 0xfee0).unwrap_or(letter),
        '\u{3000}' => ' ',
        letter => letter,
    };
    text.chars().map(narrow).collect()
}
