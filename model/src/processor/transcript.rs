//! A rendered conversation, and which of its characters are the assistant's.

use std::ops::Range;

use percept_modalities::{Aim, Error, Message, Result};

/// Text with the bytes of it that are to be learnt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcript {
    /// The text that is read: what the template wrote, with placeholders of media spelt out.
    pub text: String,
    /// The text as the template wrote it.
    pub rendered: String,
    /// The assistant's turns with what ends them, in order; `None` for a prompt.
    pub answers: Option<Vec<Range<usize>>>,
}

impl Transcript {
    /// Render a conversation; `render` takes the messages and whether the generation prompt is added.
    ///
    /// An answer is what the template writes for a turn that [is learnt](Message::is_learnt) behind the generation
    /// prompt, without white space at the end.
    ///
    /// # Errors
    /// When the template refuses the messages, or does not write earlier turns again as they were.
    pub fn render(
        messages: &[Message],
        aim: Aim,
        render: impl Fn(&[Message], bool) -> Result<String>,
    ) -> Result<Self> {
        if aim == Aim::Answer {
            let text = render(messages, true)?;
            return Ok(Self { rendered: text.clone(), text, answers: None });
        }
        let text = render(messages, false)?;
        let mut answers = Vec::new();
        for (i, message) in messages.iter().enumerate() {
            if !message.is_learnt()? {
                continue;
            }
            let (before, through) = (render(&messages[..i], true)?, render(&messages[..=i], false)?);
            if !through.starts_with(&before) || !text.starts_with(&through) {
                return Err(Error::Prompt(format!(
                    "the chat template writes turn {} otherwise once other turns follow, so its answer cannot be \
                     found; train on conversations of one answer each",
                    i + 1
                )));
            }
            answers.push(before.len()..before.len() + through[before.len()..].trim_end().len());
        }
        Ok(Self { rendered: text.clone(), text, answers: Some(answers) })
    }

    /// Every occurrence of `from` as `to`; answers stay where they are in the text.
    pub fn replace(&mut self, from: &str, to: &str) {
        let mut done = 0;
        while let Some(at) = self.text[done..].find(from) {
            self.splice(done + at..done + at + from.len(), to);
            done += at + to.len();
        }
    }

    /// Replace a piece of the text that lies in or outside of each answer.
    pub fn splice(&mut self, piece: Range<usize>, with: &str) {
        let moved = |at: usize| if at >= piece.end { at - piece.len() + with.len() } else { at };
        for answer in self.answers.iter_mut().flatten() {
            *answer = moved(answer.start)..moved(answer.end);
        }
        self.text.replace_range(piece, with);
    }

    /// Whether a token that stands for these bytes is to be learnt.
    pub fn learns(&self, token: &Range<usize>) -> bool {
        let within = |a: &Range<usize>| token.start < a.end && token.end > a.start;
        !token.is_empty() && self.answers.iter().flatten().any(within)
    }
}

#[cfg(test)]
mod tests {
    use percept_modalities::Content;

    use super::*;

    fn turn(role: &str, text: &str) -> Message {
        Message::new(role, Content::Text(text.into()))
    }

    fn tagged(messages: &[Message], prompt: bool) -> Result<String> {
        let one = |m: &Message| match &m.content {
            Content::Text(text) => format!("<{}>{text}</>\n", m.role),
            _ => String::new(),
        };
        let turns: String = messages.iter().map(one).collect();
        Ok(if prompt { turns + "<assistant>" } else { turns })
    }

    #[test]
    fn answers_are_the_assistants_turns_with_their_end() {
        let talk = [turn("user", "a?"), turn("assistant", "b"), turn("user", "c?"), turn("assistant", "dd")];
        let mut t = Transcript::render(&talk, Aim::Learn, tagged).unwrap();
        let texts = |t: &Transcript| -> Vec<String> {
            t.answers.iter().flatten().map(|a| t.text[a.clone()].to_string()).collect()
        };
        assert_eq!(texts(&t), ["b</>", "dd</>"]);
        t.replace("a?", "<pic><pic>");
        t.replace("c?", "");
        assert_eq!(texts(&t), ["b</>", "dd</>"]);
        let at = t.text.find("dd").unwrap();
        assert!(t.learns(&(at..at + 1)) && !t.learns(&(at..at)) && !t.learns(&(0..4)));
        assert_eq!(Transcript::render(&talk[..1], Aim::Answer, tagged).unwrap().answers, None);
    }

    #[test]
    fn turns_that_say_so_are_not_learnt() {
        let marked = |text: &str, name: &str, value: serde_json::Value| {
            let mut turn = turn("assistant", text);
            turn.fields.insert(name.into(), value);
            turn
        };
        let learnt = |talk: &[Message]| -> Result<Vec<String>> {
            let t = Transcript::render(talk, Aim::Learn, tagged)?;
            Ok(t.answers.iter().flatten().map(|a| t.text[a.clone()].to_string()).collect())
        };
        // OpenAI's fine-tuning, ShareGPT's and Axolotl's marks.
        let talk = [
            turn("user", "a?"),
            marked("b", "weight", 0.into()),
            turn("user", "c?"),
            marked("d", "train", false.into()),
            turn("user", "e?"),
            marked("f", "weight", 1.0.into()),
            marked("g", "training", true.into()),
            marked("h", "weight", serde_json::Value::Null),
        ];
        assert_eq!(learnt(&talk).unwrap(), ["f</>", "g</>", "h</>"]);
        let e = learnt(&[turn("user", "a?"), marked("b", "weight", 0.5.into())]).unwrap_err().to_string();
        assert!(e.contains("'assistant' has weight: 0.5"), "{e}");
    }

    #[test]
    fn a_template_that_forgets_is_refused() {
        let last = |messages: &[Message], prompt: bool| tagged(&messages[messages.len() - 1..], prompt);
        let talk = [turn("user", "a?"), turn("assistant", "b"), turn("user", "c?"), turn("assistant", "d")];
        let e = Transcript::render(&talk, Aim::Learn, last).unwrap_err().to_string();
        assert!(e.contains("turn 2 otherwise"), "{e}");
    }
}
