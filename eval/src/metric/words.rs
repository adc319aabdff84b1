//! Word and character errors of what was heard.

use unicode_segmentation::UnicodeSegmentation as _;

/// How texts are written before they are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalizer {
    /// Whisper's for English: digits, American spelling, no fillers.
    English,
    /// Whisper's for all languages: lower case without symbols and marks.
    Basic,
    /// [`Self::Basic`] with each letter a word, as Whisper's has it for languages that are written without spaces.
    Letters,
    /// None.
    Plain,
}

impl Normalizer {
    /// A text as it is compared.
    pub fn apply(self, text: &str) -> String {
        match self {
            Normalizer::English => super::english::normalize(text),
            Normalizer::Basic => super::english::normalize_basic(text),
            Normalizer::Letters => letters(&super::english::normalize_basic(text)),
            Normalizer::Plain => text.to_owned(),
        }
    }
}

/// The letters of a text, marks with what they are on, each followed by a space.
fn letters(text: &str) -> String {
    let letters = text.graphemes(true).filter(|letter| !letter.trim().is_empty());
    letters.collect::<Vec<_>>().join(" ")
}

/// Words of the right text, and how many are to be put in, left out or exchanged to make one text the other.
pub fn word_errors(right: &str, heard: &str) -> (usize, usize) {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let right = words(right);
    (strsim::generic_levenshtein(&right, &words(heard)), right.len())
}

/// [`word_errors`] of characters, single spaces between words among them.
pub fn character_errors(right: &str, heard: &str) -> (usize, usize) {
    let plain = |text: &str| text.trim().to_owned();
    let (right, heard) = (plain(right), plain(heard));
    (strsim::levenshtein(&right, &heard), right.chars().count())
}
