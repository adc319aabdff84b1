//! The tables of a task's file.

use serde::{Deserialize, Deserializer, Serialize};

use crate::metric::choice::Rules;
use crate::metric::words::Normalizer;

/// `[data]`: where questions lie.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Patterns of Parquet or JSONL files below the task's folder. The first that fits any is taken.
    #[serde(deserialize_with = "one_or_many")]
    pub files: Vec<String>,
    /// The column that names a question; its number where there is none.
    pub key: Option<String>,
    /// The column of what several questions share: an image, a patient. Intervals draw whole groups.
    pub group: Option<String>,
    /// Columns by whose values scores are given too.
    #[serde(default, deserialize_with = "one_or_many")]
    pub categories: Vec<String>,
    /// A column of lists, each entry of which is a question of its own.
    pub explode: Option<String>,
}

/// `[ask]`: how a question is asked.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// The user's text, as a Jinja template over the columns, `options` and `letters`.
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
    /// The column of the right answer.
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
