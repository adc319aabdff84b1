//! Relaxed accuracy: a number may be off by a twentieth, a text by nothing (Masry et al. 2022, after Methani et al. 2020).

use super::{Compat, python};

/// How far a number may be off, as a share of the right one.
const TOLERANCE: f64 = 0.05;

/// Whether an answer is right.
///
/// A percent sign is a unit and is left out on both sides. lmms-eval divides by a hundred where there is one, so that *5%* is
/// wrong where *5* is right; it compares zeros as texts, and spaces and a stop at the end make a number a text.
pub fn is_right(answer: &str, right: &str, compat: Compat) -> bool {
    let (answer, right) = match compat {
        Compat::LmmsEval => (answer, right),
        Compat::None => (plain(answer), plain(right)),
    };
    let number = |text: &str| match (text.ends_with('%'), compat) {
        (true, Compat::LmmsEval) => python::float(text.trim_end_matches('%')).map(|number| number / 100.0),
        (true, Compat::None) => python::float(text.trim_end_matches('%')),
        (false, _) => python::float(text),
    };
    let near = |said: f64, right: f64| (said - right).abs() / right.abs() <= TOLERANCE;
    match (number(answer), number(right)) {
        (Some(said), Some(right)) if right != 0.0 => near(said, right),
        (Some(said), Some(_)) if compat == Compat::None => said == 0.0,
        _ => answer.to_lowercase() == right.to_lowercase(),
    }
}

fn plain(text: &str) -> &str {
    let text = text.trim();
    text.strip_suffix('.').unwrap_or(text)
}
