//! Questions of yes and no.

use super::Compat;

/// Where in an answer it is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// The first word.
    #[default]
    First,
    /// Anywhere, for questions that ask for no single word: the first word or, where that is neither, the only one of both that is in it.
    Anywhere,
}

/// What an answer says; `None` where it is neither.
///
/// lmms-eval takes nothing but the word itself for the first word, so that *Yes.* and *yes, there is* are wrong; of answers that may say it
/// anywhere, all that have the letters *yes* in them are yes, and all others no.
pub fn parse(answer: &str, place: Place, compat: Compat) -> Option<bool> {
    let text = answer.trim().to_lowercase();
    if compat == Compat::LmmsEval {
        return match place {
            Place::First => word(&text),
            Place::Anywhere => Some(answer.to_lowercase().contains("yes")),
        };
    }
    let mut words = text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty());
    let first = words.next().and_then(word);
    match place {
        Place::First => first,
        Place::Anywhere => first.or_else(|| {
            let said: Vec<bool> = words.filter_map(word).collect();
            said.first().copied().filter(|first| said.iter().all(|other| other == first))
        }),
    }
}

/// What is right: the word, or 1 and 0.
pub fn right(answer: &str) -> Option<bool> {
    match answer.trim() {
        "1" => Some(true),
        "0" => Some(false),
        text => word(&text.to_lowercase()),
    }
}

fn word(word: &str) -> Option<bool> {
    match word {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yes_is_read_where_it_may_stand() {
        let all =
            |answer: &str| [Place::First, Place::Anywhere].map(|place| parse(answer, place, Compat::None));
        for (answer, first, anywhere) in [
            ("Yes, there is", Some(true), Some(true)),
            ("(no)", Some(false), Some(false)),
            ("The answer is no.", None, Some(false)),
            ("It is neither yes nor no", None, None),
            ("the eyes have it", None, None),
        ] {
            assert_eq!(all(answer), [first, anywhere], "{answer}");
        }
        assert_eq!(parse("the eyes have it", Place::Anywhere, Compat::LmmsEval), Some(true));
        assert_eq!([right("1"), right("No"), right("2")], [Some(true), Some(false), None]);
    }
}
