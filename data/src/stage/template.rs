//! `template`: conversations made of texts and metadata.

use percept_modalities::Message;
use percept_modalities::text::jinja;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{ImageUse, Settings, Site, Stage};
use crate::error::{Error, Result};
use crate::format::{mention, with_media};
use crate::item::Item;
use crate::reject::Reject;

/// Renders Jinja templates into turns, or into the text. They may use `text`, `key`, `meta`, and `split`;
/// `<image>`, `<video>` and `<audio>` in what they give stand for the media, which come first where none is
/// mentioned.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Template {
    /// The template of the system's turn.
    system: Option<String>,
    /// The template of the user's turn.
    user: Option<String>,
    /// The assistant's turn, which training learns.
    assistant: Option<String>,
    /// The template of a new text.
    text: Option<String>,
    /// Whether the old text stays when turns are made.
    keep_text: bool,
}

impl Settings for Template {
    fn build(&self, _: &Site<'_>) -> Result<Stage> {
        let fault = |why: String| Error::Config(format!("stage template: {why}"));
        if self.user.is_some() != self.assistant.is_some() {
            return Err(fault("user and assistant go together".into()));
        }
        if self.user.is_none() && self.text.is_none() {
            return Err(fault("give user and assistant, or text".into()));
        }
        let all = [
            ("system", &self.system),
            ("user", &self.user),
            ("assistant", &self.assistant),
            ("text", &self.text),
        ];
        let mut templates = Vec::new();
        for (role, template) in all {
            if let Some(template) = template {
                let template = jinja::Template::parse(template);
                templates.push((role, template.map_err(|e| fault(format!("{role}: {e}")))?.strict()));
            }
        }
        let keep_text = self.keep_text;
        let makes_turns = self.user.is_some();
        Ok(Stage::each(ImageUse::Unseen, move |item: &mut Item| {
            let sample = &item.sample;
            let known = Map::from_iter([
                ("text".to_owned(), Value::from(sample.text.as_deref())),
                ("key".to_owned(), Value::from(sample.key.as_str())),
                ("meta".to_owned(), Value::Object(sample.meta.clone())),
                ("split".to_owned(), Value::from(item.split.as_deref())),
            ]);
            let mut turns = Vec::new();
            let mut text = None;
            for (role, template) in &templates {
                let rendered = template.render(&known);
                let rendered = rendered.map_err(|e| Reject::new("template", format!("{role}: {e}")))?;
                match *role {
                    "text" => text = Some(rendered),
                    role => turns.push(Message::new(role, with_media(rendered))),
                }
            }
            if makes_turns {
                mention(&mut turns, sample.media.iter().map(|medium| medium.kind));
                item.sample.messages = turns;
                if !keep_text {
                    item.sample.text = None;
                }
            }
            if text.is_some() {
                item.sample.text = text;
            }
            Ok(())
        }))
    }
}
