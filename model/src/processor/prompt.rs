//! From a conversation to token ids: the chat template, and placeholders repeated once per feature row.

use percept_modalities::text::{ChatTemplate, Tokenizer};
use percept_modalities::{Aim, Array, Error, Inputs, Media, MediaKind, Message, Result, Shown, Values};
use serde_json::{Map, Value};

use super::transcript::Transcript;

/// One kind of placeholder: its text in the rendered prompt and, in order, what stands for each medium.
#[derive(Debug)]
pub struct Placeholder<'a> {
    /// What the media are.
    pub kind: MediaKind,
    /// The placeholder's text.
    pub token: &'a str,
    /// The token that stands for one row of features in the replacements.
    pub feature: &'a str,
    /// What replaces each of its occurrences.
    pub replacements: Vec<String>,
}

/// A tokenizer and its chat template.
pub struct Prompt {
    tokenizer: Tokenizer,
    template: ChatTemplate,
    /// The template writes all tokens that a prompt begins or ends with.
    whole: bool,
}

impl Prompt {
    /// From a checkpoint's files; `file` gives a file's bytes if there is one.
    ///
    /// # Errors
    /// When the tokenizer or the template is missing or damaged, and what `file` returns.
    pub fn read<E: From<Error>>(file: impl Fn(&str) -> Result<Option<Vec<u8>>, E>) -> Result<Self, E> {
        let missing = |file: &str, why: &str| Error::Config { file: file.into(), why: why.into() };
        let tokenizer = Tokenizer::find(&file)?.ok_or_else(|| {
            missing("tokenizer.json", "the checkpoint has none, so its prompts cannot be written")
        })?;
        let template = ChatTemplate::find(&file)?.ok_or_else(|| {
            missing(
                "chat_template.jinja",
                "the checkpoint has no chat template, in this file or in tokenizer_config.json",
            )
        })?;
        // Processors of transformers take the default with tools too.
        Ok(Self::new(tokenizer, template.with_tool_use(None)?))
    }

    /// From a tokenizer and a template that are read already.
    pub fn new(tokenizer: Tokenizer, template: ChatTemplate) -> Self {
        Self { tokenizer, template, whole: false }
    }

    /// The same for a template that writes all tokens that a prompt begins or ends with, wherever it puts them.
    pub fn without_more_tokens(self) -> Self {
        Self { whole: true, ..self }
    }

    /// The tokenizer of the prompts.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The rendered conversation; `variables` are what the template reads beside the messages.
    ///
    /// # Errors
    /// As [`Transcript::render`], and as [`ChatTemplate::check_tools`].
    pub fn render(
        &self,
        messages: &[Message],
        variables: &Map<String, Value>,
        aim: Aim,
    ) -> Result<Transcript> {
        self.template.check_tools(variables)?;
        Transcript::render(messages, aim, |m, prompt| self.template.render(m, prompt, variables))
    }

    /// The text of a special token by its role (`image_token` ...), or its usual one.
    pub fn token(&self, role: &str, usual: &str) -> String {
        self.tokenizer.settings().tokens.get(role).cloned().unwrap_or_else(|| usual.to_owned())
    }

    /// `input_ids` and `attention_mask` of a rendered prompt with its placeholders expanded, and `answers` of one that is
    /// to be learnt. Tokens that the tokenizer
    /// adds by itself are added unless the template wrote the first of them already.
    ///
    /// # Errors
    /// When there are more or fewer placeholders than media.
    pub fn encode(&self, transcript: &Transcript, placeholders: &[Placeholder<'_>]) -> Result<Inputs> {
        let (transcript, order) = expand(transcript.clone(), placeholders)?;
        let text = &transcript.text;
        let written = self
            .tokenizer
            .settings()
            .tokens
            .get("bos_token")
            .is_some_and(|bos| text.starts_with(bos.as_str()))
            || self.whole;
        let mut inputs = Inputs { prompt: transcript.rendered.clone(), ..Inputs::default() };
        let ids: Vec<i64> = if transcript.answers.is_some() {
            let tokens = self.tokenizer.encode_spans(text, !written)?;
            let learnt = tokens.iter().map(|(_, span)| transcript.learns(span) as i64).collect();
            insert_i64(&mut inputs, "answers", vec![1, tokens.len()], learnt);
            tokens.into_iter().map(|(id, _)| id.into()).collect()
        } else {
            self.tokenizer.encode(text, !written)?.into_iter().map(i64::from).collect()
        };
        inputs.shown = self.shown(&ids, placeholders, &order)?;
        let ones = vec![1; ids.len()];
        insert_i64(&mut inputs, "attention_mask", vec![1, ids.len()], ones);
        insert_i64(&mut inputs, "input_ids", vec![1, ids.len()], ids);
        Ok(inputs)
    }

    /// Where the media stand among the tokens: the placeholders of each follow those of the one before.
    fn shown(
        &self,
        ids: &[i64],
        placeholders: &[Placeholder<'_>],
        order: &[(usize, usize)],
    ) -> Result<Vec<Shown>> {
        let mut from = 0;
        let mut shown = Vec::new();
        for &(which, index) in order {
            let p = &placeholders[which];
            let (id, features) = (self.id(p.feature)?, p.replacements[index].matches(p.feature).count());
            let mut places = (from..ids.len()).filter(|&at| ids[at] == id).take(features);
            let range = match places.next() {
                Some(first) => first..places.last().unwrap_or(first) + 1,
                None => from..from,
            };
            from = range.end;
            shown.push(Shown { kind: p.kind, index, range, features, grid: None, parts: Vec::new() });
        }
        Ok(shown)
    }

    /// The id of a token that the prompt is made of.
    ///
    /// # Errors
    /// When the vocabulary lacks it.
    pub fn id(&self, token: &str) -> Result<i64> {
        self.tokenizer.id(token).map(i64::from).ok_or_else(|| Error::Config {
            file: "tokenizer.json".into(),
            why: format!("it has no token `{token}`, which stands for media in prompts of this model"),
        })
    }
}

/// Placeholders of one medium, at most: four times those of the longest video that any family here takes.
const MOST_ROWS: usize = 1 << 19;

/// A placeholder's text, once for each of so many feature rows of one medium.
///
/// # Errors
/// When there are more rows than any model reads.
pub fn rows(token: &str, count: usize) -> Result<String> {
    if count > MOST_ROWS {
        return Err(Error::Prompt(format!(
            "one medium would take {count} tokens of the prompt, more than {MOST_ROWS}: the processor's files and \
             config.json do not fit together"
        )));
    }
    Ok(token.repeat(count))
}

/// Adds an array of integers.
pub fn insert_i64(inputs: &mut Inputs, name: &str, dims: Vec<usize>, values: Vec<i64>) {
    inputs.arrays.insert(name.into(), Array { dims, values: Values::I64(values) });
}

/// Adds `name` i64[1,t]: `kinds[i].1` where `input_ids` has `kinds[i].0`, else 0.
pub fn mark_tokens(inputs: &mut Inputs, name: &str, kinds: &[(i64, i64)]) {
    if let Some(Array { dims, values: Values::I64(ids) }) = inputs.arrays.get("input_ids") {
        let mark = |id: &i64| kinds.iter().find(|(token, _)| token == id).map_or(0, |&(_, kind)| kind);
        let (dims, marks) = (dims.clone(), ids.iter().map(mark).collect());
        insert_i64(inputs, name, dims, marks);
    }
}

/// Refuses kinds of media that a model does not take.
///
/// # Errors
/// When there is one of them.
pub fn refuse(media: &Media, model: &str, images: bool, videos: bool, audio: bool) -> Result<()> {
    for (kind, takes, given) in [
        ("images", images, media.images.len()),
        ("videos", videos, media.videos.len()),
        ("audio clips", audio, media.audios.len()),
    ] {
        if !takes && given > 0 {
            return Err(Error::Prompt(format!("{model} takes no {kind}, but {given} of them were given")));
        }
    }
    Ok(())
}

/// A text with every placeholder replaced, in one pass from the left: what a replacement holds is not looked at again.
/// Also which placeholder and which of its replacements came where, in order.
fn expand(
    mut transcript: Transcript,
    placeholders: &[Placeholder<'_>],
) -> Result<(Transcript, Vec<(usize, usize)>)> {
    for p in placeholders {
        let (found, given) = (transcript.text.matches(p.token).count(), p.replacements.len());
        if found != given {
            return Err(Error::Prompt(format!(
                "the prompt has {found} `{}` placeholder(s) for {given} {} input(s): the messages must mention each of them once",
                p.token,
                p.kind.name()
            )));
        }
    }
    let tokens: Vec<&str> = placeholders.iter().map(|p| p.token).collect();
    let mut next = vec![0; placeholders.len()];
    let mut order = Vec::new();
    let mut done = 0;
    while let Some((at, which)) = first(&transcript.text[done..], &tokens) {
        let p = &placeholders[which];
        let with = &p.replacements[next[which]];
        transcript.splice(done + at..done + at + p.token.len(), with);
        order.push((which, next[which]));
        next[which] += 1;
        done += at + with.len();
    }
    Ok((transcript, order))
}

/// Where the first of several tokens stands, and which it is.
fn first(text: &str, tokens: &[&str]) -> Option<(usize, usize)> {
    tokens.iter().enumerate().filter_map(|(i, t)| Some((text.find(t)?, i))).min()
}

/// Which of two tokens each occurrence in a text is, in order.
pub fn order(text: &str, tokens: [&str; 2]) -> Vec<usize> {
    let mut rest = text;
    let mut found = Vec::new();
    while let Some((at, which)) = first(rest, &tokens) {
        found.push(which);
        rest = &rest[at + tokens[which].len()..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind<'a>(kind: MediaKind, token: &'a str, r: &[&str]) -> Placeholder<'a> {
        Placeholder { kind, token, feature: token, replacements: r.iter().map(|s| s.to_string()).collect() }
    }

    #[test]
    fn placeholders_are_replaced_in_order_and_only_once() {
        use MediaKind::{Image, Video};
        let text = |text: &str| Transcript {
            text: text.into(),
            rendered: text.into(),
            answers: Some(std::iter::once(6..7).collect()),
        };
        let p = [kind(Image, "<i>", &["[<i><i>]", "[2]"]), kind(Video, "<v>", &["(<i>)"])];
        let expanded = expand(text("a<i>b<v>c<i>d"), &p);
        let (expanded, order) = expanded.unwrap();
        assert_eq!(expanded.text, "a[<i><i>]b(<i>)c[2]d");
        assert_eq!(expanded.rendered, "a<i>b<v>c<i>d");
        assert_eq!(order, [(0, 0), (1, 0), (0, 1)]);
        let (expanded, _) = expand(text("a<i>bxyz"), &[kind(Image, "<i>", &["[<i><i>]"])]).unwrap();
        assert_eq!(&expanded.text[expanded.answers.unwrap()[0].clone()], "y");
        let e = expand(text("a<i>b<i>"), &p[1..]).unwrap_err().to_string();
        assert!(e.starts_with("the prompt has 0 `<v>` placeholder(s) for 1 video input(s)"), "{e}");
        assert!(expand(text("<i><i><i><v>"), &p).is_err());
    }
}
