//! Questions of yes and no.

use super::Compat;

/// What an answer says; `None` where it is neither.
///
/// The first word counts. lmms-eval takes nothing but the word itself, so that *Yes.* and *yes, there is* are wrong.
pub fn parse(answer: &str, compat: Compat) -> Option<bool> {
    let text = answer.trim().to_lowercase();
    let word = match compat {
        Compat::LmmsEval => text.as_str(),
        Compat::None => {
            let text = text.trim_start_matches(|letter: char| !letter.is_alphanumeric());
            text.split(|letter: char| !letter.is_alphanumeric()).next().unwrap_or_default()
        }
    };
    match word {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}
