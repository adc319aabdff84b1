//! The tables of a task's file.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::metric::choice::Rules;
use crate::metric::words::Normalizer;
use crate::metric::yes_no::Place;

/// `[data]`: where questions lie.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Patterns of Parquet or JSONL files, or of shards of a corpus (`.tar`), below the task's folder. The first that fits any is taken.
    #[serde(deserialize_with = "one_or_many")]
    pub files: Vec<String>,
    /// The column that names a question; its number where there is none.
    pub key: Option<String>,
    /// What several questions share, such as an image or a patient: a column, or a template over columns. Intervals draw whole groups.
    pub group: Option<String>,
    /// Columns by whose values scores are given too.
    #[serde(default, deserialize_with = "one_or_many")]
    pub categories: Vec<String>,
    /// A column of lists, each entry of which is a question of its own.
    pub explode: Option<String>,
    /// Columns and what they must hold, as text; other rows are left out and not numbered.
    #[serde(default, rename = "where")]
    pub only: BTreeMap<String, String>,
    /// Another table, whose columns rows have too.
    pub join: Option<Join>,
}

/// `[data.join]`: a table that has the images, or anything else, of several rows. It is read into memory first.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// Patterns of its files, as those of the questions.
    #[serde(deserialize_with = "one_or_many")]
    pub files: Vec<String>,
    /// Its column that names a row.
    pub key: String,
    /// The column of the questions that holds such a name.
    pub on: String,
}

/// `[ask]`: how a question is asked.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// The user's text, as a Jinja template over the columns, `options` and `letters`. Left out, samples of a corpus are asked by their own
    /// turns.
    #[serde(default)]
    pub prompt: String,
    /// Columns of images, shown before the text.
    #[serde(default, deserialize_with = "one_or_many")]
    pub image: Vec<String>,
    /// Images stand where the prompt mentions them as `<image N>`, N counting the columns of `image` from 1; those that are not mentioned
    /// are not shown.
    #[serde(default)]
    pub mentioned: bool,
    /// Columns of videos.
    #[serde(default, deserialize_with = "one_or_many")]
    pub video: Vec<String>,
    /// Columns of sounds.
    #[serde(default, deserialize_with = "one_or_many")]
    pub audio: Vec<String>,
    /// A template of the name of a video's file below the task's folder.
    pub video_file: Option<String>,
    /// A template of the name of a sound's file.
    pub audio_file: Option<String>,
    /// The column of a list of options, or a column for each.
    #[serde(default, deserialize_with = "one_or_many")]
    pub options: Vec<String>,
    /// Tokens that an answer may have.
    #[serde(default = "some_tokens")]
    pub max_tokens: usize,
    /// Texts that end an answer.
    #[serde(default, deserialize_with = "one_or_many")]
    pub stop: Vec<String>,
    /// The second text of `similarity`, as a template; the first is the prompt.
    pub other: Option<String>,
    /// The file below the task's folder that names the classes of `zero-shot`, one a line.
    pub classes: Option<String>,
    /// The file of the texts that stand for a class, one a line with `{c}` for its name; by default the prompt, over `class`.
    pub templates: Option<String>,
}

/// What the column of the right answer holds, where there are options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Answers {
    /// The letter of the right option, or any other text where there are no options.
    #[default]
    Letter,
    /// Its index, from 0.
    Index,
    /// Its text.
    Text,
}

/// How an option is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// The model's answer is read.
    #[default]
    Generation,
    /// The option that the model holds most likely after the question.
    Likelihood,
}

/// Whose likelihoods are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compare {
    /// Those of the options' letters.
    #[default]
    Letters,
    /// Those of their texts: the mean over the tokens of each, so that long texts have the same chance.
    Texts,
}

/// `[score]`: how answers are scored.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// The metric's name.
    pub metric: String,
    /// The right answer: a column, or a template over columns.
    pub answer: String,
    /// What it holds, where there are options.
    #[serde(default)]
    pub answer_is: Answers,
    /// The rules of reading an option from an answer.
    pub rules: Option<Rules>,
    /// How an option is chosen.
    #[serde(default)]
    pub by: By,
    /// Whose likelihoods are compared, where options are.
    #[serde(default)]
    pub compare: Compare,
    /// Options where no column has them and the question's text does.
    pub letters: Option<usize>,
    /// The mean over the values of this column of their means, rather than over questions.
    pub average: Option<String>,
    /// What `exact` leaves out: `case`, `punctuation`.
    #[serde(default, deserialize_with = "one_or_many")]
    pub ignore: Vec<String>,
    /// How `words` writes texts before it compares them.
    pub normalizer: Option<Normalizer>,
    /// A column and the value of it for which `substring` compares without spaces and with case.
    pub squeezed: Option<[String; 2]>,
    /// Questions of the whole benchmark, by which lmms-eval divides whatever was asked.
    pub whole: Option<f64>,
    /// The right box is given in pixels of the image: left, top, width and height.
    #[serde(default)]
    pub pixels: bool,
    /// Where yes or no is said.
    pub yes: Option<Place>,
    /// Names of scores, each with a column or a template: questions for which it is the same are a set, and the score is the share of sets
    /// all of whose questions are answered right.
    #[serde(default)]
    pub sets: BTreeMap<String, String>,
    /// The classes, where `classes` has any that the data lack.
    #[serde(default, deserialize_with = "one_or_many")]
    pub classes: Vec<String>,
}

fn some_tokens() -> usize {
    128
}

/// A text, or a list of them.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Given::deserialize(deserializer)? {
        Given::One(one) => vec![one],
        Given::Many(many) => many,
    })
}
