//! A row as a question.

use percept_data::{Blob, Kind};
use percept_modalities::{Content, Media, Message, Part, Processor, audio, image, video};
use serde_json::{Map, Value};

use super::row::Row;
use super::settings::{Answers, By};
use super::{Raw, Task};
use crate::error::{Error, Result};
use crate::metric::boxes::Corners;
use crate::metric::{Compat, choice, python};

/// A question and what is right.
#[derive(Debug, Clone)]
pub struct Question {
    /// Its number in the data.
    pub id: usize,
    /// Its name.
    pub key: String,
    /// What it shares with others.
    pub group: String,
    /// The columns that scores are given by, and their values.
    pub categories: Vec<(String, String)>,
    /// The value whose means are averaged.
    pub stratum: String,
    /// The names of the sets that it is of, one for each kind.
    pub sets: Vec<String>,
    /// The text that the prompt is compared with, where embeddings are.
    pub other: Option<String>,
    /// The user's text.
    pub prompt: String,
    /// The options, where there are any.
    pub options: Vec<String>,
    /// The right answer.
    pub right: Right,
    /// The row, without bytes.
    pub row: Map<String, Value>,
    /// Media in the order of the prompt, or why they cannot be shown.
    pub media: std::result::Result<Vec<Blob>, String>,
    /// The turns of a sample, where the task has no prompt of its own.
    pub turns: Option<Vec<Message>>,
    /// What the chat template reads beside those turns, or why that cannot be told.
    pub variables: std::result::Result<Map<String, Value>, String>,
    /// Whether each medium stands where the text mentions it.
    pub mentioned: Vec<usize>,
}

/// A right answer in the forms that metrics read.
#[derive(Debug, Clone, Default)]
pub struct Right {
    /// All right texts.
    pub texts: Vec<String>,
    /// The index of the right option.
    pub option: Option<usize>,
    /// Left, top, right and bottom of a box; of a pixel box left, top, width, height until the image is known.
    pub corners: Option<Corners>,
}

impl Task {
    /// The question of a row.
    ///
    /// # Errors
    /// When a column is missing, or holds what the task cannot read.
    pub fn question(&self, raw: &Raw) -> Result<Question> {
        let wrong =
            |why: String| Error::Task(format!("{}: {}, question {}: {why}", self.name, raw.file, raw.id));
        let row = match &*raw.row {
            Ok(row) => row,
            Err(why) => return Err(wrong(why.clone())),
        };
        let mut values = row.values();
        let mut beside = None;
        if let Some(join) = &self.data.join {
            let name = values.get(&join.on).map(python::shown).unwrap_or_default();
            let found = raw.beside(&name).ok_or_else(|| {
                wrong(format!("no row of {} has '{name}' as '{}'", join.files.join(" or "), join.key))
            })?;
            for (name, value) in found.values() {
                values.entry(name).or_insert(value);
            }
            beside = Some(found);
        }
        if let (Some(column), Some(at)) = (&self.data.explode, raw.at)
            && let Some(Value::Array(several)) = values.get(column).cloned()
        {
            values.insert(column.clone(), several.get(at).cloned().unwrap_or_default());
        }
        let absent = |column: &str| {
            let present = row.names();
            Error::Column {
                task: self.name.clone(),
                file: raw.file.clone(),
                column: column.to_owned(),
                present: present.join(", "),
            }
        };
        let column = |name: &str| values.get(name).ok_or_else(|| absent(name));
        let shown = |name: &str| Ok::<_, Error>(python::shown(column(name)?));
        let options = self.options(&values).map_err(wrong)?;
        let mut variables = values.clone();
        // Columns go by their own names, and all options by one.
        if !options.is_empty() {
            variables.insert("options".into(), options.clone().into());
        }
        variables.insert("letters".into(), (0..26).map(choice::letter).collect());
        let render = |what: &str, template: &super::Template| {
            let present = || row.names().join(", ");
            template
                .render(&variables)
                .map_err(|fault| wrong(format!("{what}: {fault}; the columns are {}", present())))
        };
        // The prompt of classes is no question of a row.
        let prompt = match self.ask.classes {
            Some(_) => String::new(),
            None => render("[ask] prompt", &self.prompt)?,
        };
        // A column, or what a template makes of several.
        let place = |source: &str| match self.places.get(source) {
            Some(template) => render(source, template).map(Value::String),
            None => column(source).cloned(),
        };
        let named = |source: &str| Ok::<_, Error>(python::shown(&place(source)?));
        let mut question = Question {
            id: raw.id,
            key: self.data.key.as_deref().map_or_else(|| Ok(raw.id.to_string()), shown)?,
            group: self.data.group.as_deref().map_or_else(|| Ok(raw.id.to_string()), named)?,
            categories: Vec::new(),
            stratum: self.score.average.as_deref().map_or_else(|| Ok(String::new()), shown)?,
            sets: self.score.sets.values().map(|source| named(source)).collect::<Result<_>>()?,
            other: self.ask.other.as_deref().map(named).transpose()?,
            right: self.right(&place(&self.score.answer)?, &options).map_err(wrong)?,
            prompt,
            options,
            media: Ok(Vec::new()),
            turns: None,
            variables: Ok(Map::new()),
            mentioned: Vec::new(),
            row: Map::new(),
        };
        for name in &self.data.categories {
            question.categories.push((name.clone(), shown(name)?));
        }
        let mut files = Vec::new();
        for (kind, template) in &self.files {
            let kind = if *kind == "video" { Kind::Video } else { Kind::Audio };
            files.push((kind, render("the name of a file", template)?));
        }
        self.show(row, beside, &mut question, &files);
        question.row = values;
        Ok(question)
    }

    /// The options of a row.
    fn options(&self, values: &Map<String, Value>) -> Result<Vec<String>, String> {
        let filled = |value: &&Value| !value.is_null() && value.as_str() != Some("nan");
        match &self.ask.options[..] {
            // Classes that are chosen from by their likelihood are options.
            [] if self.score.by == By::Likelihood => Ok(self.score.classes.clone()),
            [] => Ok(Vec::new()),
            [one] => match values.get(one) {
                Some(Value::Array(list)) => Ok(list.iter().map(python::shown).collect()),
                Some(Value::String(text)) => {
                    python::list(text).ok_or_else(|| format!("'{one}' holds no list of options: {text}"))
                }
                _ => Err(format!("'{one}' holds no list of options")),
            },
            several => Ok(several
                .iter()
                .filter_map(|name| values.get(name).filter(filled))
                .map(python::shown)
                .collect()),
        }
    }

    fn right(&self, value: &Value, options: &[String]) -> Result<Right, String> {
        if value.is_null() {
            let why = "it has no right answer; take such rows out of the data, or keep the others with [data] where";
            return Err(why.into());
        }
        let count = if options.is_empty() { self.score.letters.unwrap_or(0) } else { options.len() };
        let texts = match value {
            Value::Array(list) => list.iter().map(answer_text).collect(),
            value => vec![python::shown(value)],
        };
        let numbers: Option<Vec<f64>> =
            value.as_array().map(|list| list.iter().filter_map(Value::as_f64).collect());
        let corners = numbers.and_then(|numbers| Corners::try_from(numbers).ok());
        let first = texts.first().map_or("", |text| text.trim());
        let option = match self.score.answer_is {
            // Classes are counted where they are named, which is no column.
            _ if self.ask.classes.is_some() => {
                let class = first.parse().map_err(|_| format!("'{first}' is no number of a class"))?;
                return Ok(Right { texts, option: Some(class), corners });
            }
            Answers::Letter => (0..count).find(|at| choice::letter(*at).eq_ignore_ascii_case(first)),
            Answers::Index => first.parse().ok().filter(|at| *at < count),
            Answers::Text => options.iter().position(|option| option.trim() == first),
        };
        let must = match self.score.answer_is {
            Answers::Letter => false,
            Answers::Index | Answers::Text => true,
        };
        if must && option.is_none() {
            return Err(format!("the right answer is '{first}', which none of {count} options is"));
        }
        Ok(Right { texts, option, corners })
    }

    /// Add what is shown to a question.
    fn show(&self, row: &Row, beside: Option<&Row>, question: &mut Question, files: &[(Kind, String)]) {
        // A column of the row, or else of the row of the table beside it.
        let media_of = |column: &str, kind: Kind| match beside {
            Some(other) if !row.names().contains(&column) => other.media(column, kind),
            _ => row.media(column, kind),
        };
        if let Row::Sample(asking) = row {
            if self.ask.prompt.is_empty() {
                question.turns = Some(asking.turns.clone());
                question.variables = asking.variables.clone();
                question.prompt = asking.turns.iter().flat_map(|turn| turn.content.texts()).collect();
            }
            question.media = Ok(asking.media.clone());
            return;
        }
        let mut media = Vec::new();
        let columns =
            [(Kind::Image, &self.ask.image), (Kind::Video, &self.ask.video), (Kind::Audio, &self.ask.audio)];
        let mut add = |found: Result<Vec<Blob>, percept_data::Reject>| match found {
            Ok(found) => {
                media.extend(found);
                Ok(())
            }
            Err(reject) => Err(reject.detail),
        };
        let mut shown = Ok(());
        if self.ask.mentioned {
            let places = mentions(&question.prompt);
            for at in places.iter().filter_map(|number| number.checked_sub(1)) {
                let found = self.ask.image.get(at).map_or_else(
                    || {
                        Err(percept_data::Reject::new(
                            "missing-file",
                            format!("<image {}> has no column", at + 1),
                        ))
                    },
                    |column| media_of(column, Kind::Image),
                );
                shown = shown.and_then(|()| add(found));
            }
            question.mentioned = places;
        }
        for (kind, columns) in columns {
            if kind == Kind::Image && self.ask.mentioned {
                continue;
            }
            for column in columns {
                shown = shown.and_then(|()| add(media_of(column, kind)));
            }
        }
        for (kind, name) in files {
            shown = shown.and_then(|()| add(row.file(name, *kind).map(|blob| vec![blob])));
        }
        question.media = shown.map(|()| media);
    }
}

/// The text of one of several right answers; VQAv2 has them in structs.
fn answer_text(value: &Value) -> String {
    match value {
        Value::Object(fields) => fields.get("answer").map(python::shown).unwrap_or_default(),
        other => python::shown(other),
    }
}

/// The numbers of `<image N>` in a prompt, each where it is mentioned first.
fn mentions(prompt: &str) -> Vec<usize> {
    let mut found: Vec<usize> = Vec::new();
    for rest in prompt.split("<image ").skip(1) {
        if let Some(number) = rest.split_once('>').and_then(|(number, _)| number.parse().ok())
            && !found.contains(&number)
        {
            found.push(number);
        }
    }
    found
}

impl Question {
    /// What the model is asked: media, then the text; or media where the text mentions them.
    pub fn messages(&self) -> Vec<Message> {
        if let Some(turns) = &self.turns {
            return turns.clone();
        }
        let media = self.media.as_deref().unwrap_or_default();
        let content = if self.mentioned.is_empty() {
            Content::Text(self.prompt.clone()).after(media.iter().map(|blob| blob.kind.into()))
        } else {
            Content::Parts(self.parts())
        };
        vec![Message::new("user", content)]
    }

    /// The text cut where it mentions images, each shown where it is mentioned first.
    fn parts(&self) -> Vec<Part> {
        let (mut parts, mut rest) = (Vec::new(), self.prompt.as_str());
        for number in &self.mentioned {
            let mark = format!("<image {number}>");
            let Some((before, after)) = rest.split_once(&mark) else { continue };
            if !before.trim().is_empty() {
                parts.push(Part::Text { text: before.to_owned() });
            }
            parts.push(Part::Image { path: None });
            rest = after;
        }
        if !rest.trim().is_empty() {
            parts.push(Part::Text { text: rest.to_owned() });
        }
        parts
    }

    /// Its media decoded as a model's processor wants them.
    ///
    /// # Errors
    /// When a medium does not decode. The model's lack of a kind of media is found before: [`lacks`].
    pub fn decode(&self, processor: &dyn Processor) -> std::result::Result<Media, String> {
        let mut media = Media { variables: self.variables.clone()?, ..Media::default() };
        for blob in self.media.as_ref().map_err(String::clone)? {
            let decoded = match blob.kind {
                Kind::Image => image::decode(&blob.bytes, &image::Limits::default())
                    .map(|image| media.images.push(image)),
                Kind::Video => {
                    let sampling = processor.video_sampling().ok_or("this model takes no video")?;
                    let (limits, bytes) = (video::Limits::default(), blob.bytes.clone());
                    video::sample_bytes(&self.key, bytes, &sampling, &limits)
                        .map(|clip| media.videos.push(clip))
                }
                Kind::Audio => {
                    let rate = processor.audio_rate().ok_or("this model takes no audio")?;
                    let limits = audio::Limits::default();
                    audio::decode_bytes(&self.key, &blob.bytes, rate, &limits)
                        .map(|sound| media.audios.push(sound))
                }
            };
            decoded.map_err(|e| e.to_string())?;
        }
        Ok(media)
    }

    /// Take the right box for one in pixels of an image, and make shares of its sides of it. lmms-eval keeps them as f32.
    pub(crate) fn scale_box(&mut self, image: &image::Image, compat: Compat) {
        if let Some([left, top, width, height]) = self.right.corners {
            let [across, down] = [image.width, image.height].map(|side| side as f64);
            let corners = [left / across, top / down, (left + width) / across, (top + height) / down];
            self.right.corners = Some(match compat {
                Compat::None => corners,
                Compat::LmmsEval => corners.map(|corner| f64::from(corner as f32)),
            });
        }
    }
}

/// The kind of media that a task shows and a model does not take, as far as its processor says.
pub(crate) fn lacks(task: &Task, processor: &dyn Processor) -> Option<&'static str> {
    let shows = |columns: &[String], kind: &str| !columns.is_empty() || task.files.contains_key(kind);
    if shows(&task.ask.video, "video") && processor.video_sampling().is_none() {
        return Some("video");
    }
    if shows(&task.ask.audio, "audio") && processor.audio_rate().is_none() {
        return Some("audio");
    }
    if task.ask.image.is_empty() {
        return None;
    }
    // A processor says of images alone whether it takes them by taking one.
    let dot = image::Image { width: 64, height: 64, rgb: vec![0; 64 * 64 * 3] };
    let media = Media { images: vec![dot], ..Media::default() };
    let asked =
        Message::new("user", Content::Text("?".into()).after([percept_modalities::kind::Medium::Image]));
    processor.chat(&[asked], &media).err().map(|_| "images")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_without_a_right_answer_is_refused() {
        let task = Task::find("gsm8k").unwrap();
        assert_eq!(task.right(&json!("5"), &[]).unwrap().texts, ["5"]);
        let why = task.right(&Value::Null, &[]).unwrap_err();
        assert!(why.contains("no right answer"), "{why}");
    }
}
