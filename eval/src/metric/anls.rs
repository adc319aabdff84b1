//! ANLS: how much of an answer's spelling is right (Biten et al. 2019).

use super::Compat;

/// An answer that is less alike is wrong.
const THRESHOLD: f64 = 0.5;

/// One less the edit distance to the nearest of some right answers, as a share of the longer text; 0 below a half.
///
/// Texts are compared in lower case and with single spaces, and it is their length then that counts. lmms-eval divides by their
/// length before that, which makes answers with spaces at their ends better than they are.
pub fn anls(answer: &str, right: &[String], compat: Compat) -> f64 {
    let plain = |text: &str| text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
    let length = |text: &str| text.chars().count();
    let said = plain(answer);
    let distance = |right: &String| {
        let expected = plain(right);
        let longer = match compat {
            Compat::None => length(&said).max(length(&expected)),
            Compat::LmmsEval => length(&answer.to_uppercase()).max(length(&right.to_uppercase())),
        };
        match longer {
            0 => 0.0,
            longer => strsim::levenshtein(&said, &expected) as f64 / longer as f64,
        }
    };
    let nearest = right.iter().map(distance).fold(f64::INFINITY, f64::min);
    let alike = 1.0 - nearest;
    if alike < THRESHOLD || !alike.is_finite() { 0.0 } else { alike }
}
