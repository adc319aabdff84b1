//! The task of Whisper's decoder: the tokens that a transcript begins with, by the language and the task.

use percept_model::family::Whisper;
use serde_json::Value;

use super::TranscribeOptions;
use super::rules::Rules;
use crate::error::{Error, Result};

/// The tokens that choose the language and the task, as `generation_config.json` or the vocabulary lists them.
#[derive(Debug, Clone)]
pub struct Task {
    /// Which tokens may be generated.
    pub(super) rules: Rules,
    /// `<|startoftranscript|>`.
    pub(super) start: i32,
    previous: Option<i32>,
    pub(super) no_speech: Option<usize>,
    /// The tokens of languages with their codes; empty when the model knows English alone.
    pub(super) languages: Vec<(String, i32)>,
    task: Option<i32>,
    /// The language that the options name, as the code of its token.
    pub(super) language: Option<String>,
    /// Positions of the decoder.
    context: usize,
}

impl Task {
    /// The task of a checkpoint under these options.
    ///
    /// # Errors
    /// When its vocabulary lacks Whisper's special tokens, or an option does not fit it.
    pub fn new(model: &Whisper, options: &TranscribeOptions) -> Result<Self> {
        let (tokenizer, generation) = (model.tokenizer(), model.generation());
        let id = |names: &[&str]| names.iter().find_map(|n| tokenizer.id(n)).map(|id| id as i32);
        let needed = |name: &str| {
            id(&[name])
                .ok_or_else(|| Error::Setting(format!("the vocabulary has no '{name}': this is no Whisper")))
        };
        let rules = Rules {
            end: needed("<|endoftext|>")? as usize,
            no_timestamps: needed("<|notimestamps|>")? as usize,
            suppress: generation.list("suppress_tokens")?,
            suppress_at_begin: generation.list("begin_suppress_tokens")?,
            // Published checkpoints that are silent about it mean the first second.
            max_initial: Some(generation.maybe_usize("max_initial_timestamp_index")?.unwrap_or(50)),
        };
        let vocab = model.decoder().vocab;
        let multilingual = match generation.get("is_multilingual").and_then(Value::as_bool) {
            Some(known) => known,
            // GPT-2's vocabulary with Whisper's own tokens has 51864; multilingual models have more.
            None => vocab >= 51_865,
        };
        let languages = if multilingual { languages(model) } else { Vec::new() };
        let language = options.language.as_deref().map(|given| known(given, &languages)).transpose()?;
        if languages.is_empty() && options.translate {
            return Err(Error::Setting(
                "this model was trained on English alone and cannot translate; take a multilingual Whisper, one without \
                 `.en` in its name"
                    .into(),
            ));
        }
        let task = if options.translate { "translate" } else { "transcribe" };
        // The settings name the tokens of tasks; vocabularies of old files spell them out.
        let listed = generation.get("task_to_id").and_then(|ids| ids.get(task)).and_then(Value::as_i64);
        let task = match (languages.is_empty(), listed.and_then(|id| i32::try_from(id).ok())) {
            (true, _) => None,
            (false, Some(id)) => Some(id),
            (false, None) => Some(needed(&format!("<|{task}|>"))?),
        };
        Ok(Self {
            start: needed("<|startoftranscript|>")?,
            previous: id(&["<|startofprev|>"]),
            no_speech: id(&["<|nospeech|>", "<|nocaptions|>"]).map(|id| id as usize),
            task,
            languages,
            language,
            rules,
            context: model.decoder().context,
        })
    }

    /// The prompt of the decoder: the text before the window, the language and the task. Also the index of its first
    /// token after the text.
    pub(super) fn prompt(&self, language: Option<&str>, before: &[i32], timed: bool) -> (Vec<i32>, usize) {
        let mut prompt = Vec::new();
        if let (Some(previous), false) = (self.previous, before.is_empty()) {
            prompt.push(previous);
            prompt.extend(&before[before.len().saturating_sub(self.context / 2 - 1)..]);
        }
        let start = prompt.len();
        prompt.push(self.start);
        prompt.extend(self.languages.iter().find(|l| Some(&l.0[..]) == language).map(|l| l.1));
        prompt.extend(self.task);
        if !timed {
            prompt.push(self.rules.no_timestamps as i32);
        }
        (prompt, start)
    }

    /// The prompt of audio that fits one window. `None` where the model has to detect the language, which it does from
    /// the first token alone.
    pub fn opening(&self) -> Option<Vec<i32>> {
        match (&self.language, self.languages.is_empty()) {
            (None, false) => None,
            (language, _) => Some(self.prompt(language.as_deref(), &[], false).0),
        }
    }

    /// The token that every transcript begins with.
    pub fn first(&self) -> i32 {
        self.start
    }
}

/// A language's code in a model's list, by its code or its English name.
fn known(given: &str, languages: &[(String, i32)]) -> Result<String> {
    let name = given.trim().to_lowercase();
    let name = name.trim_start_matches("<|").trim_end_matches("|>");
    let code = super::language::code(name).unwrap_or(name);
    if languages.is_empty() {
        return match code {
            "en" => Ok("en".into()),
            _ => Err(Error::Setting(format!(
                "this model was trained on English alone and cannot transcribe '{given}'; take a multilingual Whisper, one \
                 without `.en` in its name"
            ))),
        };
    }
    match languages.iter().find(|l| l.0 == code) {
        Some(found) => Ok(found.0.clone()),
        None => {
            let all: Vec<&str> = languages.iter().map(|l| &l.0[..]).collect();
            Err(Error::Setting(format!("the model has no language '{given}'; it has {}", all.join(" "))))
        }
    }
}

/// The languages of a multilingual model: those that its settings list, else those between its start and its tasks.
fn languages(model: &Whisper) -> Vec<(String, i32)> {
    let code = |token: &str| token.trim_start_matches("<|").trim_end_matches("|>").to_string();
    if let Some(listed) = model.generation().get("lang_to_id").and_then(Value::as_object) {
        return listed
            .iter()
            .filter_map(|(t, id)| Some((code(t), i32::try_from(id.as_i64()?).ok()?)))
            .collect();
    }
    let id = |token: &str| model.tokenizer().id(token);
    let (Some(first), Some(last)) = (id("<|startoftranscript|>"), id("<|translate|>")) else {
        return Vec::new();
    };
    (first + 1..last).filter_map(|id| Some((code(&model.tokenizer().token(id)?), id as i32))).collect()
}
